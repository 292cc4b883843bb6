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

// A Finder finds releases for a configured node: in its cache, and else in its
// sources. The zero value finds nothing; Verifier must be set. It is for one run, and
// not for several goroutines at once.
type Finder struct {
	// Sources are asked in this order. The next one is asked where a release is
	// not found or a source cannot be reached; never where a release was found
	// and refused, which somebody has to hear of.
	Sources []Source
	// Offline leaves out the sources that are on a network. What the cache holds
	// then stands for what they offer.
	Offline bool
	// Cache keeps what is accepted; nil for none.
	Cache *Cache
	// MustKeep makes it an error that Cache can't be written to. Otherwise the
	// release is used from where it was found; see [Release.Unkept].
	MustKeep bool
	// Look leaves Cache as it is: what it has is used, and nothing is put there.
	Look bool
	// Verifier decides whom to believe.
	Verifier Verifier
	// Accept are the tags that the policy lists; see [WithAccept]. [Latest]
	// among them accepts the newest that the sources offer, as long as it is no
	// step back: what they offer is not signed.
	Accept []Tag
	// Configurations are those whose manifests and listings are kept; none for
	// all.
	Configurations []string
	// Keep is how many releases the cache may hold; 0 for any number.
	Keep int
	// Options go to [Open].
	Options []Option

	// silent has the sources that kept one request waiting until its limit. They are
	// not waited for again for another release. unlisted is the same of the lists of
	// releases: a source that does not list them may still have one that is named.
	silent   map[Source]error
	unlisted error
}

// Find returns the release tag, or with [Latest] the one that was created last of
// those of the highest numbers that the sources offer and have whole. The errors are those of [Open].
func (f *Finder) Find(ctx context.Context, tag Tag) (*Release, error) {
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

// findNamed returns the release tag. The policy accepts latest as well, unless it is
// empty; offered says that it is the sources that name tag.
func (f *Finder) findNamed(ctx context.Context, tag, latest Tag, offered bool) (*Release, error) {
	if _, err := ParseTag(string(tag)); err != nil {
		return nil, err
	}
	return f.find(ctx, tag, append(slices.Clone(f.Options), WithAccept(f.Accept...), func(o *options) {
		o.latest, o.offered = latest, offered
	}))
}

const (
	// maxPassed is how many releases may be passed over, which are listed and not there.
	maxPassed = 3
	// maxCompared is of how many releases release.json is read, to tell which of them
	// was created last.
	maxCompared = 4
)

// resolved is what [Latest] stands for.
type resolved struct {
	tag   Tag
	notes []string
	// missing is why a release of a higher number was passed over; nil where none was.
	missing error
}

// resolve returns which of the tags, highest number first, [Latest] stands for: of the
// first maxCompared that are there, the one that was created last by its signed
// release.json.
//
// One that is listed and has no SHA256SUMS.txt is not whole yet: somebody pushed its tag
// while it was put together, or it is being replaced. Below the highest number that is
// there, one that is not trusted, as by a key that is not believed any more, is none of
// them.
func (f *Finder) resolve(ctx context.Context, tags []Tag) (resolved, error) {
	if len(tags) == 1 {
		return resolved{tag: tags[0]}, nil
	}
	var highest, best *Release
	var passed []string
	var missing error
	for compared, i := 0, 0; compared < maxCompared && i < len(tags); i++ {
		r, err := f.peek(ctx, tags[i])
		switch {
		case err == nil && best == nil:
			highest, best = r, r
		case err == nil:
			if r.info.CreatedAt.After(best.info.CreatedAt) {
				best = r
			}
		case best != nil && (errors.Is(err, ErrNotFound) || isUntrusted(err)):
		case missing != nil && isUntrusted(err):
			return resolved{}, missing
		case !errors.Is(err, ErrNotFound):
			return resolved{}, err
		default:
			if missing == nil {
				missing = err
			}
			if passed = append(passed, string(tags[i])); len(passed) > maxPassed {
				return resolved{}, missing
			}
			continue
		}
		compared++
	}
	if best == nil {
		return resolved{}, missing
	}
	latest := resolved{tag: best.tag, missing: missing}
	if missing != nil {
		latest.notes = append(latest.notes, fmt.Sprintf("%s stands for %s: the sources list %s and do not have its %s, as while it is published", Latest, best.tag, strings.Join(passed, ", "), SumsName))
	}
	if best != highest {
		latest.notes = append(latest.notes, fmt.Sprintf("%s stands for %s, which was created on %s: %s has a higher number and is older, of %s", Latest, best.tag, day(best.info.CreatedAt), highest.tag, day(highest.info.CreatedAt)))
	}
	return latest, nil
}

// peek returns the release tag with its signature verified and its release.json read.
// Whether it is fresh, accepted and no step back is not looked at, and nothing is kept
// of it.
func (f *Finder) peek(ctx context.Context, tag Tag) (*Release, error) {
	opts := append(slices.Clone(f.Options), func(o *options) { o.memory, o.signedOnly = nil, true })
	if f.Cache != nil {
		if r, err := Open(ctx, f.Cache, tag, f.Verifier, opts...); err == nil {
			return r, nil
		}
	}
	return f.fromSources(ctx, tag, opts)
}

// findLatest returns the release that [Latest] stands for.
func (f *Finder) findLatest(ctx context.Context, latest resolved) (*Release, error) {
	accepted := Tag("")
	if slices.Contains(f.Accept, Latest) {
		accepted = latest.tag
	}
	r, err := f.findNamed(ctx, latest.tag, accepted, true)
	if latest.missing != nil && isUntrusted(err) {
		// An older one that must not be gone back to says nothing of the newest.
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

// listedFor is how long what the sources said they have is taken as news: twice
// the day that lies between two runs of the unit that asks them.
const listedFor = 48 * time.Hour

// staleness says that latest may stand for more than is known here; "" where
// the sources were asked, or were not long ago.
func (f *Finder) staleness(newest Tag) string {
	if !f.Offline || len(f.sources()) == len(f.Sources) {
		return ""
	}
	since := "no time that is known"
	if f.Cache != nil {
		if at := f.Cache.Listed(); !at.IsZero() {
			if time.Since(at) < listedFor {
				return ""
			}
			since = at.UTC().Format(time.RFC3339)
		}
	}
	return fmt.Sprintf("%s stands for %s, the newest that was fetched: no source on a network has answered since %s", Latest, newest, since)
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
		// What it has will do, or the asset that is missing says so when it is
		// asked for.
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

// keep puts r into the cache, and takes out what is too much there.
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

// Found is one outcome of [Finder.FindAccepted].
type Found struct {
	Tag     Tag
	Release *Release // nil where Err is set
	Err     error
}

// FindAccepted returns every release that the policy lists, in its order.
// During a rollout a node is one of them: the one whose manifest has the
// system that runs.
func (f *Finder) FindAccepted(ctx context.Context) []Found {
	found := make([]Found, 0, len(f.Accept))
	for _, tag := range f.Accept {
		r, err := f.Find(ctx, tag)
		found = append(found, Found{tag, r, err})
	}
	return found
}

// newest returns the tags of the form "boot-v…" that the sources offer, at least one,
// highest number first. Where one of them cannot say what it has, the answer is an
// error: an older release would pass for the newest.
func (f *Finder) newest(ctx context.Context) ([]Tag, error) {
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

// fromCache returns the release from the cache with everything that the cache
// has of it checked; nil and nil where the cache does not have it.
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
	// What the cache does not have, the sources may.
	r.src = &layered{f.Cache, &anySource{f.sources(), f.Cache.String()}}
	return r, nil
}

// fromSources returns the release from the first source that has it.
func (f *Finder) fromSources(ctx context.Context, tag Tag, opts []Option) (*Release, error) {
	var errs []error
	for _, s := range f.sources() {
		if err := f.silent[s]; err != nil {
			errs = append(errs, &UnavailableError{"release " + string(tag), s.String(), fmt.Errorf("it was not asked, since it did not answer before: %w", err)})
			continue
		}
		r, err := Open(ctx, s, tag, f.Verifier, opts...)
		if err == nil {
			return r, nil
		}
		if isUnavailable(err) && isTimeout(err) && ctx.Err() == nil {
			if f.silent == nil {
				f.silent = make(map[Source]error)
			}
			f.silent[s] = err
		}
		if !errors.Is(err, ErrNotFound) && (!isUnavailable(err) || ctx.Err() != nil) {
			return nil, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, &NotFoundError{What: "release " + string(tag), Source: "the cache", Hint: f.hint("no sources are configured (release.source)")}
	}
	return nil, together("release "+string(tag), errs)
}

// sources are those that are asked. The slice is the caller's.
func (f *Finder) sources() []Source {
	return slices.DeleteFunc(slices.Clone(f.Sources), func(s Source) bool { return f.Offline && s.Remote() })
}

// hint is what helps where a release is not found.
func (f *Finder) hint(online string) string {
	if f.Offline {
		return "no source on a network was asked (--offline); ec-verify release refresh fetches from them"
	}
	return online
}

// together returns what several sources answered as one error about what. That
// one of them has nothing while another could not be asked does not mean that
// there is nothing.
func together(what string, errs []error) error {
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

// Uses reports whether the asset name is one that a node looks at, which the
// cache keeps: release.json, and the manifests and listings of Configurations.
func (f *Finder) Uses(name string) bool {
	c, ok := configurationOf(name)
	return name == InfoName || ok && (len(f.Configurations) == 0 || slices.Contains(f.Configurations, c))
}

// mayBeMended reports whether a cached release that was refused with err may
// be accepted when it is fetched again: it was damaged, or has been signed
// anew.
func mayBeMended(err error) bool {
	var untrusted *UntrustedError
	if !errors.As(err, &untrusted) {
		return isUnavailable(err)
	}
	switch untrusted.Reason {
	case ReasonExpired, ReasonRolledBack, ReasonReplaced, ReasonNotAccepted:
		return false
	}
	return true
}

func isUntrusted(err error) bool {
	var untrusted *UntrustedError
	return errors.As(err, &untrusted)
}

// isTimeout reports whether err is that nothing came in time.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, errSilent) || errors.As(err, &t) && t.Timeout()
}

func isUnavailable(err error) bool {
	var unavailable *UnavailableError
	return errors.As(err, &unavailable)
}

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
	return nil, together(assetOf(name, tag), errs)
}
