package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Finder finds releases for a configured node: in its cache, or else in its
// sources. Verifier must be set; without sources nothing is found. A Finder serves
// one run and must not be used concurrently.
type Finder struct {
	// Sources are asked in this order. The next one is asked if a release is not
	// found or a source can't be reached, but not if a release was found and refused,
	// because somebody has to learn of that.
	Sources []Source
	// Offline skips the sources on a network. The cache then stands in for them.
	Offline bool
	// Cache keeps accepted releases; nil for none.
	Cache *Cache
	// MustKeep makes it an error if Cache can't be written to. Otherwise the release
	// is used from where it was found; see [Release.Unkept].
	MustKeep bool
	// Look makes Cache read-only: it is used, and nothing is added.
	Look bool
	// Verifier decides which releases are trusted.
	Verifier Verifier
	// Accept lists the policy's tags; see [WithAccept]. If it contains [Latest], the
	// newest release that the sources offer is accepted too, unless it is a rollback,
	// because the sources' lists are not signed.
	Accept []Tag
	// Configurations are those whose manifests and listings are cached; none for all.
	Configurations []string
	// Keep limits the number of cached releases; 0 for any number.
	Keep int
	// Memory knows the releases that this machine has accepted and those that are revoked;
	// nil for none. It learns of the latter from the sources.
	Memory *Memory
	// Foreign says that Verifier believes others than this machine does, so that a list of
	// revoked releases of theirs is not remembered.
	Foreign bool
	// Options go to [Open].
	Options []Option

	// silent has the sources that let one request time out; they are not asked again
	// for another release. unlisted has the same for lists of releases: a source that
	// does not list its releases may still serve one by name.
	silent   map[Source]error
	unlisted error
	// answers are the sources' lists of revoked releases, of which the first learnt ones
	// are remembered; unlearnt is why remembering them failed.
	answers  []listAnswer
	learnt   int
	unlearnt string
	triedDue bool // askIfDue has tried
}

// Find returns the release tag. For [Latest] it returns the release created last
// among those with the highest numbers that the sources offer completely. The lists
// of revoked releases are read first: those of sources on a network only if these are
// asked for anything else, or were not asked for a day. The errors are those of [Open].
func (f *Finder) Find(ctx context.Context, tag Tag) (*Release, error) {
	f.AskRevocations(ctx, false)
	f.askIfDue(ctx)
	if tag != Latest && (!slices.Contains(f.Accept, Latest) || slices.Contains(f.Accept, tag)) {
		return f.findNamed(ctx, tag, "", false)
	}
	if f.unlisted != nil {
		return nil, f.unlisted
	}
	newest, err := f.newest(ctx)
	if err != nil {
		if isTimeout(err) && ctx.Err() == nil {
			f.unlisted = err
		}
		return nil, err
	}
	if f.Cache != nil && !f.Offline && !f.Look {
		f.Cache.markListed()
	}
	latest, err := f.resolve(ctx, newest)
	if err != nil {
		return nil, err
	}
	if tag != Latest {
		return f.findNamed(ctx, tag, latest.tag, latest.tag == tag)
	}
	return f.findLatest(ctx, latest)
}

// findNamed returns the release tag. Unless latest is empty, the policy accepts that
// one too. offered means that the sources, not the user, chose tag.
func (f *Finder) findNamed(ctx context.Context, tag, latest Tag, offered bool) (*Release, error) {
	if _, err := ParseTag(string(tag)); err != nil {
		return nil, err
	}
	return f.find(ctx, tag, append(f.options(), WithAccept(f.Accept...), func(o *options) {
		o.latest, o.offered = latest, offered
	}))
}

// options go to [Open].
func (f *Finder) options() []Option {
	if f.Memory == nil {
		return slices.Clone(f.Options)
	}
	return append(slices.Clone(f.Options), WithMemory(f.Memory))
}

const (
	// maxPassed limits how many listed but incomplete releases are skipped.
	maxPassed = 3
	// maxCompared limits how many releases are compared by their release.json to find
	// the one created last.
	maxCompared = 4
)

// resolved is the release that [Latest] means.
type resolved struct {
	tag   Tag
	notes []string
	// missing is why a release with a higher number was skipped; nil if none was.
	missing error
}

// resolve returns the release that [Latest] means. tags come with the highest number
// first; of the first maxCompared existing ones, the result is the one whose signed
// release.json was created last.
//
// A listed release without SHA256SUMS.txt is incomplete: somebody pushed its tag
// while it was being published, or it is being replaced. It is skipped. Below the
// highest existing number, an untrusted release, for example one with a revoked key,
// is ignored.
//
// A revoked release is ignored, unless all are revoked.
func (f *Finder) resolve(ctx context.Context, tags []Tag) (resolved, error) {
	if good := slices.DeleteFunc(slices.Clone(tags), func(tag Tag) bool { return f.Memory.Revoked(tag) != nil }); len(good) > 0 {
		tags = good
	}
	if len(tags) == 1 {
		return resolved{tag: tags[0]}, nil
	}
	var s search
	for i := 0; s.compared < maxCompared && i < len(tags); i++ {
		r, err := f.peek(ctx, tags[i])
		if err := s.add(tags[i], r, err); err != nil {
			return resolved{}, err
		}
	}
	if s.best == nil {
		return resolved{}, s.missing
	}
	return s.resolved(), nil
}

// search is a search for the release that [Latest] means.
type search struct {
	compared      int
	highest, best *Release // by number, and by the time of creation
	passed        []string // incomplete releases, which do not count as compared
	missing       error    // why the first of them was passed
}

// add counts in the release tag, or the error with which it was opened. The search ends
// with the error that it returns.
func (s *search) add(tag Tag, r *Release, err error) error {
	switch {
	case err == nil:
		if s.best == nil {
			s.highest = r
		}
		if s.best == nil || r.info.CreatedAt.After(s.best.info.CreatedAt) {
			s.best = r
		}
	case s.best != nil && (errors.Is(err, ErrNotFound) || isUntrusted(err)):
	case s.missing != nil && isUntrusted(err):
		return s.missing
	case !errors.Is(err, ErrNotFound):
		return err
	default:
		if s.missing == nil {
			s.missing = err
		}
		if s.passed = append(s.passed, string(tag)); len(s.passed) > maxPassed {
			return s.missing
		}
		return nil
	}
	s.compared++
	return nil
}

func (s *search) resolved() resolved {
	latest := resolved{tag: s.best.tag, missing: s.missing}
	if s.missing != nil {
		latest.notes = append(latest.notes, fmt.Sprintf("%s means %s: the sources list %s without its %s; it may still be in publication", Latest, s.best.tag, strings.Join(s.passed, ", "), SumsName))
	}
	if s.best != s.highest {
		latest.notes = append(latest.notes, fmt.Sprintf("%s means %s, created on %s: %s has a higher number but is older, created on %s", Latest, s.best.tag, day(s.best.info.CreatedAt), s.highest.tag, day(s.highest.info.CreatedAt)))
	}
	return latest
}

// peek returns the release tag with its signature verified and its release.json read.
// It does not check freshness, acceptance or order, and stores nothing.
func (f *Finder) peek(ctx context.Context, tag Tag) (*Release, error) {
	opts := append(slices.Clone(f.Options), func(o *options) { o.memory, o.signedOnly = nil, true })
	if f.Cache != nil {
		if r, err := Open(ctx, f.Cache, tag, f.Verifier, opts...); err == nil {
			return r, nil
		}
	}
	return f.fromSources(ctx, tag, opts)
}

// findLatest returns the release that [Latest] means.
func (f *Finder) findLatest(ctx context.Context, latest resolved) (*Release, error) {
	accepted := Tag("")
	if slices.Contains(f.Accept, Latest) {
		accepted = latest.tag
	}
	r, err := f.findNamed(ctx, latest.tag, accepted, true)
	if latest.missing != nil && isUntrusted(err) {
		// An older release that was refused as a rollback says nothing about the
		// newest one.
		return nil, latest.missing
	}
	if err != nil {
		return nil, err
	}
	r.notes = append(r.notes, latest.notes...)
	if note := f.staleness(latest.tag); note != "" {
		r.notes = append(r.notes, note)
	}
	return r, nil
}

// listedFor is how long the sources' lists count as current: twice the day between
// two runs of the unit that asks them.
const listedFor = 48 * time.Hour

// staleness returns a note that [Latest] may be out of date; "" if the sources were
// asked recently.
func (f *Finder) staleness(newest Tag) string {
	if !f.Offline || len(f.sources()) == len(f.Sources) {
		return ""
	}
	since := "an unknown time"
	if f.Cache != nil {
		if at := f.Cache.Listed(); !at.IsZero() {
			if time.Since(at) < listedFor {
				return ""
			}
			since = at.UTC().Format(time.RFC3339)
		}
	}
	return fmt.Sprintf("%s means %s, the newest release fetched: no source on a network has answered since %s", Latest, newest, since)
}

// find returns the release tag from the cache, or else from a source.
func (f *Finder) find(ctx context.Context, tag Tag, opts []Option) (*Release, error) {
	if f.Cache == nil {
		return f.fromSources(ctx, tag, opts)
	}
	cached, refused := f.fromCache(ctx, tag, opts)
	if cached != nil && f.Cache.has(cached, f.Uses) {
		return cached, nil
	}
	if refused != nil && !mayBeMended(refused) {
		return nil, refused
	}
	r, err := f.fromSources(ctx, tag, opts)
	switch {
	case err == nil:
	case cached != nil:
		// The cached assets suffice; a missing one fails when it is requested.
		return cached, nil
	case refused != nil && !isUntrusted(err):
		return nil, refused
	default:
		return nil, err
	}
	if f.Look {
		if refused != nil {
			r.notes = append(r.notes, "the copy in the cache was not used: "+refused.Error())
		}
		return r, nil
	}
	if refused != nil {
		r.notes = append(r.notes, "the copy in the cache was replaced: "+refused.Error())
	}
	kept, err := f.keep(ctx, r)
	if lost := (*unwrittenError)(nil); errors.As(err, &lost) && !f.MustKeep {
		r.unkept = append(r.unkept, lost.Error())
		return r, nil
	}
	return kept, err
}

// keep stores r in the cache and removes surplus releases.
func (f *Finder) keep(ctx context.Context, r *Release) (*Release, error) {
	kept, err := f.Cache.Keep(ctx, r, f.Uses)
	if err != nil {
		return nil, unwritten(err)
	}
	if f.Keep > 0 {
		if _, err := f.Cache.Prune(ctx, f.Keep, append(slices.Clone(f.Accept), r.tag)...); err != nil {
			return nil, unwritten(err)
		}
	}
	return kept, nil
}

// Found is one result of [Finder.FindAccepted].
type Found struct {
	Tag     Tag
	Release *Release // nil if Err is set
	Err     error
}

// FindAccepted returns every release that the policy lists, in the policy's order.
// During a rollout, a node runs the one whose manifest has its system.
func (f *Finder) FindAccepted(ctx context.Context) []Found {
	f.AskRevocations(ctx, true)
	found := make([]Found, 0, len(f.Accept))
	for _, tag := range f.Accept {
		r, err := f.Find(ctx, tag)
		found = append(found, Found{tag, r, err})
	}
	return found
}

// newest returns the tags of the form "boot-v…" that the sources offer, at least one,
// highest number first. If one source can't list its releases, the result is an
// error: otherwise an older release could pass for the newest.
func (f *Finder) newest(ctx context.Context) ([]Tag, error) {
	f.AskRevocations(ctx, true)
	var newest []Tag
	var asked []string
	sources := f.sources()
	if f.Offline && f.Cache != nil {
		sources = append(sources, f.Cache)
	}
	for _, s := range sources {
		l, ok := s.(Lister)
		if !ok {
			continue
		}
		asked = append(asked, s.String())
		tags, err := l.Tags(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			if t.MayBeLatest() {
				newest = append(newest, t)
			}
		}
	}
	if len(newest) == 0 {
		for _, s := range sources {
			if dir, ok := s.(interface{ missing() bool }); ok && dir.missing() {
				return nil, &NotFoundError{What: fmt.Sprintf("any release of the form %s…", LatestPrefix), Source: s.String(), Hint: missingHint}
			}
		}
		return nil, &NotFoundError{What: fmt.Sprintf("any release of the form %s…", LatestPrefix), Source: strings.Join(asked, ", "), Hint: f.hint("name a tag")}
	}
	slices.SortFunc(newest, func(a, b Tag) int { return compareTags(b, a) })
	return slices.Compact(newest), nil
}

// fromCache returns the release from the cache, with all cached assets checked; nil
// and nil if it is not cached.
func (f *Finder) fromCache(ctx context.Context, tag Tag, opts []Option) (*Release, error) {
	r, err := Open(ctx, f.Cache, tag, f.Verifier, opts...)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for name := range r.sums.All() {
		if err := r.copy(ctx, io.Discard, name); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, r.named(err)
		}
	}
	// The sources may have the assets that the cache lacks.
	r.src = &layered{f.Cache, &anySource{f.sources(), f.Cache.String()}}
	return r, nil
}

// fromSources returns the release from the first source that has it.
func (f *Finder) fromSources(ctx context.Context, tag Tag, opts []Option) (*Release, error) {
	f.AskRevocations(ctx, true)
	var errs []error
	for _, s := range f.sources() {
		if err := f.silent[s]; err != nil {
			errs = append(errs, &UnavailableError{"release " + string(tag), s.String(), fmt.Errorf("it was not asked again, because it did not answer before: %w", err)})
			continue
		}
		r, err := Open(ctx, s, tag, f.Verifier, opts...)
		if err == nil {
			return r, nil
		}
		f.noteTimeout(ctx, s, err)
		if !errors.Is(err, ErrNotFound) && (!isUnavailable(err) || ctx.Err() != nil) {
			return nil, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, &NotFoundError{What: "release " + string(tag), Source: "the cache", Hint: f.hint("no sources are configured (release.source)")}
	}
	return nil, joinSourceErrors("release "+string(tag), errs)
}

// noteTimeout notes that s let a request time out, if err says so.
func (f *Finder) noteTimeout(ctx context.Context, s Source, err error) {
	if !isUnavailable(err) || !isTimeout(err) || ctx.Err() != nil {
		return
	}
	if f.silent == nil {
		f.silent = make(map[Source]error)
	}
	f.silent[s] = err
}

// sources returns the sources to ask. The caller may change the slice.
func (f *Finder) sources() []Source {
	return slices.DeleteFunc(slices.Clone(f.Sources), func(s Source) bool { return f.Offline && s.Remote() })
}

// hint returns a remedy for a release that was not found.
func (f *Finder) hint(online string) string {
	if f.Offline {
		return "no source on a network was asked (--offline); ec-verify release refresh fetches from them"
	}
	return online
}

// joinSourceErrors merges the errors of several sources about what. The result is a
// NotFoundError only if all of them are: another source may have what one lacks.
func joinSourceErrors(what string, errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	texts := make([]string, len(errs))
	missing := true
	for i, err := range errs {
		texts[i] = err.Error()
		missing = missing && errors.Is(err, ErrNotFound)
	}
	source := fmt.Sprintf("any of %d sources", len(errs))
	if missing {
		return &NotFoundError{What: what, Source: source, Hint: strings.Join(texts, "; ")}
	}
	return &UnavailableError{what, source, errors.New(strings.Join(texts, "; "))}
}

// Uses reports whether a node needs the asset name, so that the cache keeps it:
// release.json, and the manifests and listings of Configurations.
func (f *Finder) Uses(name string) bool {
	c, ok := configurationOf(name)
	return name == InfoName || ok && (len(f.Configurations) == 0 || slices.Contains(f.Configurations, c))
}

// mayBeMended reports whether fetching a cached release again may help after err: the
// copy may be damaged, or the release may have been signed again.
func mayBeMended(err error) bool {
	var untrusted *UntrustedError
	if !errors.As(err, &untrusted) {
		return isUnavailable(err)
	}
	switch untrusted.Reason {
	case ReasonExpired, ReasonRolledBack, ReasonReplaced, ReasonNotAccepted, ReasonRevoked:
		return false
	}
	return true
}

func isUntrusted(err error) bool { return errors.As(err, new(*UntrustedError)) }

// isTimeout reports whether err is a timeout.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, errSilent) || errors.As(err, &t) && t.Timeout()
}

func isUnavailable(err error) bool { return errors.As(err, new(*UnavailableError)) }

// anySource looks for an asset in several sources.
type anySource struct {
	sources []Source
	name    string
}

func (a *anySource) String() string { return a.name }

func (a *anySource) Remote() bool { return slices.ContainsFunc(a.sources, Source.Remote) }

func (a *anySource) Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error) {
	return a.openAt(ctx, tag, name, limit, 0)
}

func (a *anySource) openAt(ctx context.Context, tag Tag, name string, limit, from int64) (io.ReadCloser, error) {
	var errs []error
	for _, s := range a.sources {
		in, err := openAt(ctx, s, tag, name, limit, from)
		if err == nil {
			return origin(s, in), nil
		}
		if isUntrusted(err) {
			return nil, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, &NotFoundError{What: assetOf(name, tag), Source: a.name}
	}
	return nil, joinSourceErrors(assetOf(name, tag), errs)
}
