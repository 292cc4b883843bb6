package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// A Release is a trusted release: its signature, identity, freshness and order are
// valid. Only [Open] and functions built on it create one, so that unverified bytes
// can't be mistaken for a release. It is safe for concurrent use.
type Release struct {
	src    Source
	tag    Tag
	sums   Sums
	info   Info
	signer Signer
	opts   options

	// The verified bytes, to be stored.
	rawSums, rawBundle, rawInfo []byte

	unsafe []string
	notes  []string
	unkept []string
}

// Option changes how [Open] judges a release.
type Option func(*options)

type options struct {
	now           func() time.Time
	grace         time.Duration
	anyAge        bool // even past the grace period
	accept        []Tag
	latest        Tag  // accepted too, unless it is a rollback
	offered       bool // the sources chose the release
	memory        *Memory
	provisional   bool
	signedOnly    bool // the policy on tags, age and order is not applied
	allowRollback bool
	revoked       *Memory // knows the releases that are revoked
	allowRevoked  bool
	progress      *Progress
}

func newOptions(opts []Option) options {
	o := options{now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithClock obtains the time from now instead of time.Now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithGrace accepts a release for d after its bestBefore.
func WithGrace(d time.Duration) Option { return func(o *options) { o.grace = d } }

// WithAnyAge accepts a release of any age, to identify the one that runs.
func WithAnyAge() Option { return func(o *options) { o.anyAge = true } }

// WithAccept accepts only releases with these tags, and accepts them even after a
// newer one: a rollout names the old and the new release. Without tags it changes
// nothing.
func WithAccept(tags ...Tag) Option { return func(o *options) { o.accept = tags } }

// WithMemory refuses a release that is older than the newest one in m, or that m knows
// to be revoked, and remembers in m those that are accepted.
func WithMemory(m *Memory) Option { return func(o *options) { o.memory, o.revoked = m, m } }

// WithRevocations refuses a release that m knows to be revoked, and has nothing else
// of m count.
func WithRevocations(m *Memory) Option { return func(o *options) { o.revoked = m } }

// WithRevoked accepts a revoked release, whatever its age and order, so that the running
// system can be named: [Release.Revoked] says that it is revoked.
func WithRevoked() Option { return func(o *options) { o.allowRevoked = true } }

// WithProvisional records the release as only seen: until [Release.Confirm], it does
// not prevent a rollback behind it.
func WithProvisional() Option { return func(o *options) { o.provisional = true } }

// WithUnsafeRollback accepts a release that [WithMemory] would refuse.
func WithUnsafeRollback() Option { return func(o *options) { o.allowRollback = true } }

// WithProgress reports the reading of assets to p.
func WithProgress(p *Progress) Option { return func(o *options) { o.progress = p } }

// Open returns the release tag from src if v trusts its signature and it breaks no
// rule. With the empty tag, it returns the release in src, whatever its tag.
//
// The errors are those of the package's documentation: *[UntrustedError],
// *[NotFoundError], *[UnavailableError], *[ClockError].
func Open(ctx context.Context, src Source, tag Tag, v Verifier, opts ...Option) (*Release, error) {
	r := &Release{src: src, tag: tag, opts: newOptions(opts)}
	if tag != "" {
		if _, err := ParseTag(string(tag)); err != nil {
			return nil, err
		}
	}
	if err := r.open(ctx, v); err != nil {
		err = r.unlessChanged(ctx, err)
		if untrusted, ok := errors.AsType[*UntrustedError](err); ok {
			untrusted.Tag, untrusted.Source = r.tag, src.String()
		}
		return nil, err
	}
	return r, nil
}

func (r *Release) open(ctx context.Context, v Verifier) error {
	// With a wrong clock, every following check would be a false alarm.
	if err := r.checkClockFloor(); err != nil {
		return err
	}
	if s, ok := r.src.(offerer); ok && r.tag != "" {
		if err := s.checkOffered(ctx, r.tag); err != nil {
			return err
		}
	}
	if err := r.readSigned(ctx, v); err != nil {
		return err
	}
	if r.opts.signedOnly {
		return nil
	}
	if len(r.opts.accept) > 0 && !slices.Contains(r.opts.accept, r.tag) && r.opts.latest != r.tag {
		return Untrusted(ReasonNotAccepted, "the configuration accepts %s only", excerpt.List(r.opts.accept, ", ", maxNamed))
	}
	if revoked := r.Revoked(); revoked != nil {
		if r.opts.allowRevoked {
			return nil
		}
		return revoked.refusal()
	}
	if err := r.checkFreshness(); err != nil {
		return err
	}
	return r.checkOrder(ctx)
}

// readSigned reads what the signature covers, and checks that it is one release.
func (r *Release) readSigned(ctx context.Context, v Verifier) (err error) {
	if r.rawSums, err = r.fetch(ctx, SumsName); err != nil {
		return err
	}
	if r.rawBundle, err = r.fetch(ctx, BundleName); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if r.signer, err = v.Verify(ctx, r.rawSums, r.rawBundle); err != nil {
		return err
	}
	if r.signer.Kind == Unsigned {
		r.unsafe = append(r.unsafe, "unsigned")
	}
	// From here on the bytes are known to be the signer's.
	if r.sums, err = ParseSums(r.rawSums); err != nil {
		return Untrusted(ReasonMalformedSums, "%v", err)
	}
	if _, ok := r.sums.Digest(InfoName); !ok {
		return Untrusted(ReasonNotInSums, "%s has no line for %s", SumsName, InfoName)
	}
	if r.rawInfo, err = r.read(ctx, InfoName); err != nil {
		return err
	}
	if r.info, err = ParseInfo(r.rawInfo); err != nil {
		return Untrusted(ReasonMalformedInfo, "%v", err)
	}
	for _, c := range r.info.Configurations {
		if _, ok := r.sums.Digest(ManifestName(c)); !ok {
			return Untrusted(ReasonNotInSums, "%s lists configuration %s, but %s has no line for %s", InfoName, c, SumsName, ManifestName(c))
		}
	}
	if r.tag == "" {
		r.tag = r.info.Tag
	}
	if r.info.Tag != r.tag {
		return Untrusted(ReasonWrongTag, "it is release %s under a different tag", r.info.Tag)
	}
	return nil
}

// Tag returns the release's own tag.
func (r *Release) Tag() Tag { return r.tag }

// Info returns the contents of release.json.
func (r *Release) Info() Info {
	i := r.info
	i.Configurations = slices.Clone(i.Configurations)
	return i
}

// Sums returns the digests of all assets.
func (r *Release) Sums() Sums { return r.sums }

// Digest returns the SHA-256 of SHA256SUMS.txt, which identifies the release with all
// its contents.
func (r *Release) Digest() Digest { return sha256.Sum256(r.rawSums) }

// Signer returns the signer.
func (r *Release) Signer() Signer { return r.signer }

// Revoked returns the publisher's revocation of the release; nil if none is known. It may
// become known after the release was opened.
func (r *Release) Revoked() *Revocation { return r.opts.revoked.Revoked(r.tag) }

// Source returns the name of the source.
func (r *Release) Source() string { return r.src.String() }

// Unsigned reports whether the signature was not checked.
func (r *Release) Unsigned() bool { return r.signer.Kind == Unsigned }

// Unsafe returns stable words for the disabled checks that would have refused the
// release: "unsigned", "rollback". A report shows them.
func (r *Release) Unsafe() []string { return slices.Clone(r.unsafe) }

// RefusedAfter returns when the release will be refused for its age: its bestBefore
// plus the grace period.
func (r *Release) RefusedAfter() time.Time { return r.info.BestBefore.Add(r.opts.grace) }

// Left returns the time until t, by the clock that judged the release.
func (r *Release) Left(t time.Time) time.Duration { return t.Sub(r.opts.now()) }

// Notes returns lines that a report shows beside the release, e.g. that it is past
// its bestBefore but within the grace period.
func (r *Release) Notes() []string { return slices.Clone(r.notes) }

// Unkept returns messages about what could not be written to the state directory for
// this release. The release is trusted nevertheless.
func (r *Release) Unkept() []string { return slices.Clone(r.unkept) }

// Manifest returns the manifest of configuration. If the release does not list the
// configuration, the error is a *[NotFoundError]; if the manifest is malformed, of
// another configuration, or has a wrong digest, it is an *[UntrustedError].
func (r *Release) Manifest(ctx context.Context, configuration string) (*closure.Manifest, error) {
	if err := r.has(configuration); err != nil {
		return nil, err
	}
	m, err := r.manifest(ctx, ManifestName(configuration))
	if err != nil {
		return nil, r.named(err)
	}
	if m.Configuration != configuration {
		return nil, r.refuse(ReasonWrongConfiguration, "%s is the manifest of configuration %s", ManifestName(configuration), m.Configuration)
	}
	return m, nil
}

// errScan means that [closure.ScanManifest] returned nil.
var errScan = errors.New("not a manifest in its usual form")

// manifest scans a manifest while it comes in: the bytes of a large one would take more
// memory than what is read of them. One that can't be scanned is read again, to say why.
func (r *Release) manifest(ctx context.Context, name string) (*closure.Manifest, error) {
	in, out := io.Pipe()
	scanned := make(chan *closure.Manifest, 1)
	go func() {
		m := closure.ScanManifest(in)
		in.CloseWithError(errScan)
		scanned <- m
	}()
	err := r.copy(ctx, out, name)
	out.CloseWithError(err)
	switch m := <-scanned; {
	case err != nil && !errors.Is(err, errScan):
		return nil, err
	case err == nil && m != nil:
		return m, nil
	}
	data, err := r.read(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := closure.DecodeManifest(data)
	if err != nil {
		return nil, Untrusted(ReasonMalformedManifest, "%s: %v", name, err)
	}
	return m, nil
}

// Listing returns the compressed file listing of configuration, completely checked
// against SHA256SUMS.txt before the first byte is returned. [Files] reads it. A
// release without one is a *[NotFoundError].
func (r *Release) Listing(ctx context.Context, configuration string) (io.ReadCloser, error) {
	if err := r.has(configuration); err != nil {
		return nil, err
	}
	return r.Asset(ctx, ListingName(configuration))
}

// Files yields the store paths in the listing of configuration that want accepts,
// with their files. An error ends the sequence: an *[UntrustedError] if the listing
// breaks a rule, possibly in its last line. Results are only valid if no error
// follows.
func (r *Release) Files(ctx context.Context, configuration string, want func(closure.StorePath) bool) iter.Seq2[closure.PathFiles, error] {
	return func(yield func(closure.PathFiles, error) bool) {
		listing, err := r.Listing(ctx, configuration)
		if err != nil {
			yield(closure.PathFiles{}, err)
			return
		}
		defer listing.Close()
		in := &hostfile.ErrorKeeper{R: listing}
		for p, err := range closure.ReadListing(in, configuration, want) {
			switch {
			case err != nil && in.Err != nil:
				err = &UnavailableError{assetOf(ListingName(configuration), r.tag), r.src.String(), in.Err}
			case err != nil:
				err = r.refuse(ReasonMalformedListing, "%s: %v", ListingName(configuration), err)
			case ctx.Err() != nil:
				err = ctx.Err()
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// Asset returns the asset name, completely checked against SHA256SUMS.txt before the
// first byte is returned. It is stored in an unlinked temporary file until it is
// closed.
func (r *Release) Asset(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, ok := r.sums.Digest(name); !ok {
		return nil, &NotFoundError{What: assetOf(printable(clip(name)), r.tag), Source: r.src.String(), Hint: SumsName + " has no line for it"}
	}
	f, err := tempFile(os.TempDir())
	if err != nil {
		return nil, &UnavailableError{assetOf(name, r.tag), r.src.String(), fmt.Errorf("spool it: %w", err)}
	}
	if err = r.copy(ctx, f, name); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, r.named(err)
	}
	return f, nil
}

// AssetSize returns the size in bytes of the asset name at its source, and whether it
// is known. It is not signed, and only for explanations.
func (r *Release) AssetSize(ctx context.Context, name string) (size int64, ok bool) {
	in, err := r.src.Open(ctx, r.tag, name, AssetLimit(name))
	if err != nil {
		return 0, false
	}
	defer in.Close()
	s, ok := in.(sized)
	if !ok || s.Size() < 0 {
		return 0, false
	}
	return s.Size(), true
}

func (r *Release) has(configuration string) error {
	if err := closure.CheckConfiguration(configuration); err != nil {
		return err
	}
	if !r.info.Has(configuration) {
		return &NotFoundError{
			What: fmt.Sprintf("configuration %s of %s", configuration, r.tag), Source: r.src.String(),
			Hint: fmt.Sprintf("the release has %s", excerpt.List(r.info.Configurations, ", ", maxNamed)),
		}
	}
	return nil
}

// fetch returns the whole, unchecked asset name. An empty asset is not nil, because
// nil means none.
func (r *Release) fetch(ctx context.Context, name string) ([]byte, error) {
	b := bytes.NewBuffer([]byte{})
	if err := r.stream(ctx, b, name, 0); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// read returns the whole asset name, checked.
func (r *Release) read(ctx context.Context, name string) ([]byte, error) {
	var b bytes.Buffer
	if err := r.copy(ctx, &b, name); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// copy writes the asset name to w, then checks its digest: the written bytes must
// only be used if copy returns nil.
func (r *Release) copy(ctx context.Context, w io.Writer, name string) error {
	want, ok := r.sums.Digest(name)
	if !ok {
		return Untrusted(ReasonNotInSums, "%s has no line for %s", SumsName, printable(clip(name)))
	}
	h := &hashingWriter{w, sha256.New()}
	source, err := r.streamFrom(ctx, h, name, 0)
	if err != nil {
		return err
	}
	if got := digestOf(h.hash); got != want {
		err := Untrusted(ReasonChecksum, "%s has SHA-256 %s, but %s wants %s", name, got, SumsName, want)
		err.Source = source
		return r.unlessChanged(ctx, err)
	}
	return nil
}

// unlessChanged returns err, unless err is a mismatch and the SHA256SUMS.txt of a
// remote source has changed since: then the parts belong to two releases, one of
// which is being replaced, and the release is reported as unavailable.
func (r *Release) unlessChanged(ctx context.Context, err error) error {
	var untrusted *UntrustedError
	if !r.src.Remote() || r.rawSums == nil || !errors.As(err, &untrusted) {
		return err
	}
	switch untrusted.Reason {
	case ReasonUnsigned, ReasonMalformedBundle, ReasonOtherContent, ReasonBadSignature, ReasonWrongKey, ReasonThreshold, ReasonChecksum:
	default:
		return err
	}
	sums, readErr := r.fetch(ctx, SumsName)
	if readErr == nil && bytes.Equal(sums, r.rawSums) || readErr != nil && !errors.Is(readErr, ErrNotFound) {
		return err
	}
	return &UnavailableError{"release " + string(r.tag), r.src.String(), fmt.Errorf("its %s changed during the read: it is being replaced; try again", SumsName)}
}

// complete downloads the asset name to f. It resumes a partial file of a killed run,
// and hashes its existing bytes like the rest.
func (r *Release) complete(ctx context.Context, f *os.File, name string) error {
	want, ok := r.sums.Digest(name)
	if !ok {
		return Untrusted(ReasonNotInSums, "%s has no line for %s", SumsName, printable(clip(name)))
	}
	h := sha256.New()
	held, err := io.Copy(h, hostfile.WithContext(ctx, f))
	if err != nil {
		return err
	}
	if held > 0 {
		if digestOf(h) == want {
			return nil
		}
		if held < AssetLimit(name) {
			err := r.stream(ctx, io.MultiWriter(f, h), name, held)
			switch {
			case err == nil && digestOf(h) == want:
				return nil
			case err == nil, errors.Is(err, errFewer), errors.Is(err, errElsewhere), isUntrusted(err):
			default:
				// The bytes so far are kept for the next run.
				return err
			}
		}
		// The existing bytes are not the beginning of the asset, e.g. after a power
		// cut, or the source can't resume.
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return r.copy(ctx, f, name)
}

// stream writes the unchecked asset name to w, from the offset from on.
func (r *Release) stream(ctx context.Context, w io.Writer, name string, from int64) error {
	_, err := r.streamFrom(ctx, w, name, from)
	return err
}

// streamFrom is stream, and also returns the source that it read from.
func (r *Release) streamFrom(ctx context.Context, w io.Writer, name string, from int64) (source string, err error) {
	source = r.src.String()
	limit := AssetLimit(name)
	r.opts.progress.begin(name, -1)
	in, err := openAt(ctx, r.src, r.tag, name, limit, from)
	if err != nil {
		return source, err
	}
	defer in.Close()
	if o, ok := in.(*originReader); ok {
		source = o.origin
	}
	size := int64(-1)
	if s, ok := in.(sized); ok {
		size = s.Size()
	}
	r.opts.progress.begin(name, size)
	r.opts.progress.skip(from)
	if g, ok := w.(grower); ok && size > 0 && size <= limit {
		g.Grow(int(size))
	}
	// The source should enforce the limit; this makes sure.
	out := &countingWriter{w: w, progress: r.opts.progress}
	_, err = io.Copy(out, hostfile.WithContext(ctx, &limitReader{in, limit, name, limit}))
	switch {
	case err == nil || isTyped(err):
		return source, err
	case out.err != nil:
		return source, fmt.Errorf("write %s: %w", name, out.err)
	}
	return source, &UnavailableError{assetOf(name, r.tag), source, err}
}

func (r *Release) refuse(reason Reason, format string, args ...any) error {
	return r.named(Untrusted(reason, format, args...))
}

// named sets the tag and source of an UntrustedError.
func (r *Release) named(err error) error {
	if untrusted, ok := errors.AsType[*UntrustedError](err); ok {
		untrusted.Tag = r.tag
		if untrusted.Source == "" {
			untrusted.Source = r.src.String()
		}
	}
	return err
}

// isTyped reports whether err is already one of this package's errors.
func isTyped(err error) bool {
	return errors.As(err, new(*UntrustedError)) || errors.As(err, new(*UnavailableError)) || errors.Is(err, ErrNotFound)
}

func digestOf(h hash.Hash) Digest { return Digest(h.Sum(nil)) }

type countingWriter struct {
	w        io.Writer
	progress *Progress
	err      error // the error of the writer, not of the reader
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.progress.add(n)
	c.err = err
	return n, err
}

// A grower makes room for that many bytes at once.
type grower interface{ Grow(n int) }

// hashingWriter also hashes what it writes.
type hashingWriter struct {
	io.Writer
	hash hash.Hash
}

func (h *hashingWriter) Write(p []byte) (int, error) {
	n, err := h.Writer.Write(p)
	h.hash.Write(p[:n])
	return n, err
}

// Grow reserves space in a writer that keeps its data.
func (h *hashingWriter) Grow(n int) {
	if g, ok := h.Writer.(grower); ok {
		g.Grow(n)
	}
}
