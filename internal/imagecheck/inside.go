package imagecheck

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

const (
	// maxScript limits the size of a file that is searched for boot commands.
	maxScript = 256 << 10
	// maxExplained limits the memory for file lists that explain altered store paths,
	// in bytes over all paths.
	maxExplained = 16 << 20
	// maxNames limits the memory for names that detect duplicate members, in bytes.
	maxNames = 16 << 20

	registration = "nix-path-registration"
	storeImage   = "nix-store.squashfs"
)

// inside compares the contents of an image with the manifest.
func (c *checker) inside(ctx context.Context, f *os.File, i *Image) {
	configuration, err := c.configurationOf(i.Asset)
	var s *system
	if err == nil {
		s, err = c.system(ctx, configuration)
	}
	if err != nil {
		i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: err.Error()})
		return
	}
	w := &look{ctx: ctx, s: s, i: i, stores: make(map[string]*store), altered: make(map[closure.StorePath][]nar.Entry)}
	i.Inside = &Inside{Configuration: configuration}
	format, err := image.Walk(ctx, f, i.Size, i.Asset, image.Options{TempDir: c.opts.TempDir, Limits: c.opts.Limits}, w.visit)
	if err != nil && ctx.Err() == nil {
		i.add(Finding{Class: w.unreadable(err), Kind: Unreadable, Detail: err.Error()})
		return
	}
	if format == image.Opaque {
		i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: "the contents of such a file can't be checked"})
		return
	}
	w.finish()
	w.explain(c)
}

// unreadable returns the class of an unreadable image: if it is the published one,
// the check is inconclusive.
func (w *look) unreadable(err error) Class {
	if !w.i.Intact && (errors.Is(err, image.ErrMalformed) || errors.Is(err, image.ErrTooLarge)) {
		return Drift
	}
	return Inconclusive
}

// look is a walk through one image.
type look struct {
	ctx     context.Context
	s       *system
	i       *Image
	stores  map[string]*store // by the name of the squashfs
	current *store
	altered map[closure.StorePath][]nar.Entry
	// explained is the memory used by altered, in bytes.
	explained int64
	kernels   int
	initrds   int
	starts    int             // how many boot scripts name a system
	named     int64           // memory used by names, in bytes
	names     map[string]bool // members of archives, to detect duplicates
	images    []string        // names of members expected to be a squashfs
	scripts   []paramScript
	params    *string // contents of the system's kernel-params; nil for none
	// links are the links to a squashfs; linked are the members that one may lead to.
	links, linked []image.Member
}

// store is one squashfs with store paths.
type store struct {
	name string
	seen map[closure.StorePath]bool
	// the store path being read
	path    closure.StorePath
	builder *nar.Builder
	size    int64 // size of its files so far
	failed  string
	entries []nar.Entry // nil if there are too many to keep
	kept    int64       // memory that they use
}

// visit is image.Visit.
func (w *look) visit(m image.Member) (io.WriteCloser, error) {
	if m.In == image.Squashfs {
		return w.storeMember(m)
	}
	w.endStore()
	if m.In == image.Initrd {
		return w.initrdMember(m)
	}
	if m.Type == nar.Directory {
		return nil, nil
	}
	if err := w.twice(m); err != nil {
		return nil, err
	}
	return w.outer(m)
}

// twice reports a member that is in an archive a second time: the last one takes
// effect when it is unpacked, but each may have passed a check.
func (w *look) twice(m image.Member) error {
	if w.names == nil {
		w.names = make(map[string]bool)
	}
	name := m.Name()
	if w.names[name] {
		w.i.add(Finding{Class: Drift, Kind: MemberExtra, Where: excerpt.Raw(name), Detail: "it is there twice"})
		return nil
	}
	const cost = 128 // memory for a name in a map, and in the lists that may contain it
	if w.named += int64(len(name)) + cost; w.named > maxNames {
		return fmt.Errorf("%w: the names in it take more than %d bytes", image.ErrTooLarge, maxNames)
	}
	w.names[name] = true
	return nil
}

// outer checks a member of the tar or ISO image: boot files are compared with the
// system, scripts are searched for the systems that they start.
func (w *look) outer(m image.Member) (io.WriteCloser, error) {
	if m.Type != nar.Regular {
		w.other(m)
		return nil, nil
	}
	switch base := path.Base(m.Path); {
	case isKernelName(base):
		w.kernels++
		return w.same(m, w.s.kernel, "kernel"), nil
	case base == "initrd":
		w.initrds++
		return w.prefixed(m, w.s.initrd), nil
	case base == storeImage:
		w.images = append(w.images, m.Name())
		return nil, nil // its contents are checked
	}
	w.other(m)
	if m.Size > maxScript {
		if isScript(m) {
			w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Where: excerpt.Raw(m.Name()), Detail: fmt.Sprintf("a boot script of %d bytes is too large to check; the limit is %d", m.Size, maxScript)})
		}
		return nil, nil
	}
	return image.Keep(maxScript, func(data []byte) { w.script(m, data) }), nil
}

// other counts a member that is only covered by the image's checksum.
func (w *look) other(m image.Member) {
	w.i.Inside.Others++
	if len(w.i.Inside.OtherNames) < maxOthers {
		w.i.Inside.OtherNames = append(w.i.Inside.OtherNames, excerpt.Raw(cut(m.Name())))
	}
}

// same requires a member to be the system's file what.
func (w *look) same(m image.Member, want nar.Entry, what string) io.WriteCloser {
	if want.SHA256.IsZero() {
		w.cannot(m, what)
		return nil
	}
	return image.Hash(w.equals(m, want, "it is not the "+what+" of the system"))
}

// equals returns a function that compares the hash of a boot file with the system's.
func (w *look) equals(m image.Member, want nar.Entry, detail string) func([sha256.Size]byte) {
	return func(sum [sha256.Size]byte) {
		if got := nar.Hash(sum); got != want.SHA256 {
			w.i.add(Finding{Class: Drift, Kind: Boot, Where: excerpt.Raw(m.Name()), Want: excerpt.Raw(want.SHA256.String()), Got: excerpt.Raw(got.String()), Detail: detail})
			return
		}
		w.i.Inside.Files++
	}
}

func (w *look) cannot(m image.Member, what string) {
	w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Where: excerpt.Raw(m.Name()), Detail: "the release has no listing with the system's " + what})
}

// prefixed requires a member to begin with the system's initrd. The remainder is
// checked member by member.
func (w *look) prefixed(m image.Member, want nar.Entry) io.WriteCloser {
	if want.SHA256.IsZero() {
		w.cannot(m, "initrd")
		return nil
	}
	if m.Size < want.Size {
		w.i.add(Finding{Class: Drift, Kind: Boot, Where: excerpt.Raw(m.Name()), Detail: fmt.Sprintf("it has %d bytes, and the initrd of the system %d", m.Size, want.Size)})
		return nil
	}
	return image.HashFirst(want.Size, w.equals(m, want, "it does not begin with the initrd of the system"))
}

// initrdMember checks what follows the system's own initrd: only the squashfs and
// what leads to it are allowed, and nothing that Linux would unpack over earlier
// files.
//
// nixpkgs' makeInitrdNG puts the squashfs under its own store path, with a link in
// the root that has the expected name, and the directories on the way; an image may
// also have the squashfs in the root itself.
func (w *look) initrdMember(m image.Member) (io.WriteCloser, error) {
	if w.s.initrd.SHA256.IsZero() || m.Segment < w.s.initrd.Size {
		return nil, nil // covered by the digest of the prefix, or reported above
	}
	if m.Type == nar.Directory {
		if slices.Contains(initrdDirs, m.Path) && oddity(m) == "" {
			return nil, nil
		}
		w.override(m)
		return nil, nil
	}
	image, link := m.Path == storeImage && m.Type == nar.Regular, m.Path == storeImage && m.Type == nar.Symlink && w.isStorePath(m.Target)
	linked := m.Type == nar.Regular && w.isStorePath("/"+m.Path)
	if !image && !link && !linked {
		w.override(m)
		return nil, nil
	}
	if err := w.twice(m); err != nil {
		return nil, err
	}
	switch {
	case link:
		w.links = append(w.links, m)
	case linked:
		w.linked = append(w.linked, m)
		fallthrough
	default:
		w.images = append(w.images, m.Name())
	}
	return nil, nil
}

// initrdDirs are the directories allowed in an archive after the system's initrd,
// which also has them.
var initrdDirs = []string{"", "nix", "nix/store", "var", "var/empty"}

// isStorePath reports whether name is a store path itself, not a file in one.
func (w *look) isStorePath(name string) bool {
	_, err := w.s.manifest.StoreDir.Parse(name)
	return err == nil
}

func (w *look) override(m image.Member) {
	w.i.add(Finding{Class: Drift, Kind: MemberExtra, Where: excerpt.Raw(m.Name()), Detail: "it comes after the initrd of the system, and would override files in that"})
}

// checkLinks requires that the link in the root leads to a squashfs, and that each
// squashfs in a store path of an initrd is such a link's target.
func (w *look) checkLinks() {
	leads := func(link, m image.Member) bool {
		return link.Target == "/"+m.Path && slices.Equal(link.Inside, m.Inside)
	}
	for _, m := range w.linked {
		if !slices.ContainsFunc(w.links, func(link image.Member) bool { return leads(link, m) }) {
			w.override(m)
		}
	}
	for _, link := range w.links {
		if !slices.ContainsFunc(w.linked, func(m image.Member) bool { return leads(link, m) }) {
			w.i.add(Finding{Class: Drift, Kind: MemberExtra, Where: excerpt.Raw(link.Name()), Got: excerpt.Raw(link.Target), Detail: "it leads to no squashfs beside it"})
		}
	}
}

// storeMember checks a node of a squashfs: the root, a node beside the store paths,
// or one in a store path.
func (w *look) storeMember(m image.Member) (io.WriteCloser, error) {
	name := strings.Join(m.Inside, " › ")
	s := w.stores[name]
	if s == nil {
		s = &store{name: name, seen: make(map[closure.StorePath]bool)}
		w.stores[name] = s
	}
	if w.current != s {
		w.endStore()
		w.current = s
	}
	if m.Path == "" {
		return nil, nil
	}
	base, rest, _ := strings.Cut(m.Path, "/")
	if base == registration && m.Type == nar.Regular {
		w.endPath()
		return image.Keep(w.maxRegistration(), func(data []byte) { w.registered(m, data) }), nil
	}
	p, isPath := w.pathOf(base)
	if !isPath {
		w.endPath()
		if rest == "" {
			w.i.add(Finding{Class: Drift, Kind: MemberExtra, Where: excerpt.Raw(m.Name()), Detail: "it is no store path, and no manifest has it"})
		}
		return nil, nil
	}
	if s.path != p {
		w.endPath()
		s.path, s.builder, s.failed, s.size = p, nil, "", 0
		if _, ok := w.s.paths[p]; ok {
			s.entries, s.kept = []nar.Entry{}, 0
			s.builder = nar.NewBuilder(func(e nar.Entry) { w.keep(s, e) })
			s.seen[p] = true
		} else {
			w.i.add(Finding{Class: Drift, Kind: PathExtra, Path: p, Where: excerpt.Raw(s.name), Detail: "the manifest does not have it"})
		}
	}
	return w.pathMember(s, m, rest)
}

// pathOf returns the store path with the base name base.
func (w *look) pathOf(base string) (closure.StorePath, bool) {
	p, err := w.s.manifest.StoreDir.ParseBase(base)
	return p, err == nil
}

// pathMember passes one node of a store path to its builder.
func (w *look) pathMember(s *store, m image.Member, rest string) (io.WriteCloser, error) {
	if odd := oddity(m); odd != "" {
		w.i.add(Finding{Class: Drift, Kind: Attributes, Path: s.path, Where: excerpt.Raw(m.Name()), Detail: odd})
	}
	if s.builder == nil || s.failed != "" {
		return nil, nil
	}
	s.size += m.Size
	if limit := w.s.paths[s.path].NarSize; max(s.size, s.builder.Size()) > limit {
		s.failed = fmt.Sprintf("its files are larger than the NAR in the release, %d bytes", limit)
		return nil, nil
	}
	e := nar.Entry{Path: rest, Type: m.Type, Executable: m.Type == nar.Regular && m.Executable(), Size: m.Size, Target: m.Target}
	if err := s.builder.Add(e); err != nil {
		s.failed = err.Error()
		return nil, nil //nolint:nilerr // it is a finding about the image
	}
	if m.Type != nar.Regular {
		return nil, nil
	}
	if s.path == w.s.manifest.Toplevel.OutPath && rest == "kernel-params" && m.Size <= maxScript {
		kept := image.Keep(maxScript, func(data []byte) { w.params = new(string(data)) })
		return struct {
			io.Writer
			io.Closer
		}{io.MultiWriter(kept, s.builder), kept}, nil
	}
	return image.To(s.builder), nil
}

// oddity describes attributes of a store file that a NAR does not have and that no
// store has: permissions other than reading and executing.
func oddity(m image.Member) string {
	switch {
	case m.Type != nar.Symlink && m.Mode&0o6000 != 0:
		return fmt.Sprintf("mode %04o: it would run with the rights of its owner or group", m.Mode)
	case m.Type != nar.Symlink && m.Mode&0o022 != 0:
		return fmt.Sprintf("mode %04o: others than its owner may write it", m.Mode)
	case m.UID != 0:
		return fmt.Sprintf("it belongs to user %d", m.UID)
	case m.Xattrs:
		return "it has extended attributes, which may give it capabilities"
	}
	return ""
}

// keep keeps a file of the current store path, unless the memory limit is reached.
func (w *look) keep(s *store, e nar.Entry) {
	const cost = 256 // memory for an Entry in a growing slice
	s.kept += int64(len(e.Path)+len(e.Target)) + cost
	if s.entries == nil || w.explained+s.kept > maxExplained {
		s.entries = nil
		return
	}
	s.entries = append(s.entries, e)
}

// endPath compares the completed store path with the manifest.
func (w *look) endPath() {
	s := w.current
	if s == nil || s.path == "" {
		return
	}
	p, b, failed := s.path, s.builder, s.failed
	s.path, s.builder = "", nil
	if b == nil {
		return
	}
	w.i.Inside.Paths++
	want := w.s.paths[p]
	if failed == "" {
		sum, err := b.Sum()
		switch {
		case err != nil:
			failed = err.Error()
		case sum.Hash == want.NarHash:
			return
		default:
			f := Finding{Class: Drift, Kind: PathAltered, Path: p, Where: excerpt.Raw(s.name), Want: excerpt.Raw(want.NarHash.String()), Got: excerpt.Raw(sum.Hash.String())}
			if s.entries == nil {
				f.Detail = "its files are too many to say which ones differ"
			} else {
				w.altered[p] = s.entries
				w.explained += s.kept
			}
			w.i.add(f)
			return
		}
	}
	w.i.add(Finding{Class: Drift, Kind: PathAltered, Path: p, Where: excerpt.Raw(s.name), Want: excerpt.Raw(want.NarHash.String()), Detail: failed})
}

func (w *look) endStore() {
	w.endPath()
	w.current = nil
}

// finish reports what is missing.
func (w *look) finish() {
	w.endStore()
	w.checkLinks()
	w.checkParams()
	for _, name := range w.images {
		if w.stores[name] == nil {
			w.i.add(Finding{Class: Drift, Kind: MemberExtra, Where: excerpt.Raw(name), Detail: "it is no squashfs"})
		}
	}
	if len(w.stores) == 0 {
		w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: "there is no store in it, so nothing of the closure was compared"})
	}
	for _, name := range slices.Sorted(maps.Keys(w.stores)) {
		for _, p := range w.s.paths.Paths() {
			if !w.stores[name].seen[p] {
				w.i.add(Finding{Class: Drift, Kind: PathMissing, Path: p, Where: excerpt.Raw(name)})
			}
		}
	}
	if w.starts == 0 {
		w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: "no boot script in it names the system to start (init=), so it is unknown whether the image boots this closure"})
	}
	if w.kernels == 0 || w.initrds == 0 {
		w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: fmt.Sprintf("%d kernels and %d initrds were found in it, by their names", w.kernels, w.initrds)})
	}
}

// explain names the differing files of altered store paths.
func (w *look) explain(c *checker) {
	if len(w.altered) == 0 || !w.s.listed {
		return
	}
	want, err := w.s.files(w.ctx, c.r, slices.Collect(maps.Keys(w.altered))...)
	if err != nil {
		if errors.As(err, new(*release.UntrustedError)) {
			w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: err.Error()})
		}
		return
	}
	for n := range w.i.Findings {
		f := &w.i.Findings[n]
		if f.Kind == PathAltered && want[f.Path] != nil && w.altered[f.Path] != nil {
			files := closure.NewFileComparison(want[f.Path])
			for _, e := range w.altered[f.Path] {
				files.Add(e)
			}
			f.Files, f.MoreFiles = files.End()
		}
	}
}

// registered compares the paths that Nix will register at boot with the manifest. The
// format is that of nix-store --load-db: path, hash, size, deriver, number of
// references, references.
func (w *look) registered(m image.Member, data []byte) {
	bad := func(p closure.StorePath, want, got, format string, args ...any) {
		w.i.add(Finding{Class: Drift, Kind: Registration, Where: excerpt.Raw(m.Name()), Path: p, Want: excerpt.Raw(want), Got: excerpt.Raw(got), Detail: fmt.Sprintf(format, args...)})
	}
	rest, ended := string(data), len(data) == 0
	line := func() string {
		if ended {
			return ""
		}
		l, after, more := strings.Cut(rest, "\n")
		rest, ended = after, !more || after == ""
		return l
	}
	seen := make(map[closure.StorePath]bool)
	for !ended {
		path, hashed, size, _ := line(), line(), line(), line() // the last is the deriver
		if ended {
			bad("", "", "", "it is cut short")
			return
		}
		p, err := w.s.manifest.StoreDir.Parse(path)
		want, known := w.s.paths[p]
		n, countErr := strconv.Atoi(line())
		for i := 0; i < n && countErr == nil; i++ {
			if ended {
				countErr = io.ErrUnexpectedEOF
			}
			line() // a reference
		}
		if err != nil || countErr != nil || n < 0 {
			bad("", "", "", "it is malformed")
			return
		}
		hash, hashErr := parseRegistered(hashed)
		switch {
		case !known:
			bad(p, "", "", "the manifest does not have it")
		case hashErr != nil:
			bad(p, want.NarHash.String(), "", "%v", hashErr)
		case hash != want.NarHash:
			bad(p, want.NarHash.String(), hash.String(), "another hash would be registered")
		case size != strconv.FormatInt(want.NarSize, 10):
			bad(p, strconv.FormatInt(want.NarSize, 10), size, "another size would be registered")
		}
		if known {
			seen[p] = true
		}
	}
	for _, p := range w.s.paths.Paths() {
		if !seen[p] {
			bad(p, "", "", "it would not be registered")
		}
	}
}

// maxRegistration returns the size limit, in bytes, of a file that registers exactly
// the manifest's paths: five lines for each path, with at most 300 bytes for the
// deriver, and one line for each reference.
func (w *look) maxRegistration() int {
	size := 64 << 10
	for p, info := range w.s.paths {
		size += len(p) + 512
		for _, ref := range info.References {
			size += len(ref) + 1
		}
	}
	return size
}

// parseRegistered parses a hash with its algorithm or, as closureInfo writes it,
// base-16 digits alone.
func parseRegistered(s string) (nar.Hash, error) {
	if len(s) == 2*sha256.Size {
		s = "sha256:" + s
	}
	return nar.ParseHash(s)
}
