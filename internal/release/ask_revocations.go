package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/pkg/excerpt"
)

// RevocationState says how current a node's list of revoked releases is.
type RevocationState struct {
	// Refused is why a list was refused when the sources were last asked; "" where
	// none was.
	Refused string
	// Stale says that a source on a network is configured, and that not all sources
	// have answered for longer than Allowed. Asked is when they did; zero for never.
	Stale   bool
	Asked   time.Time
	Allowed time.Duration
	// Unkept is why the list could not be remembered; "" if it was.
	Unkept string
}

// RevocationState returns the state after the requests of this run.
func (f *Finder) RevocationState() RevocationState {
	if f.Memory == nil {
		return RevocationState{}
	}
	o := newOptions(f.Options)
	s := f.Memory.revokedState()
	state := RevocationState{Refused: s.Refused, Asked: s.Asked, Allowed: max(o.grace, listedFor), Unkept: f.unlearnt}
	state.Stale = slices.ContainsFunc(f.Sources, Source.Remote) && o.now().Sub(s.Asked) > state.Allowed
	return state
}

// AskRevocations asks the sources, once in a run, for their lists of revoked releases;
// sources on a network only if remote is true. The newest list wins; an older or
// untrusted one changes nothing. The result is in [Finder.RevocationState]; an
// unreachable source is not an error.
func (f *Finder) AskRevocations(ctx context.Context, remote bool) { f.askRevocations(ctx, remote, 0) }

// askRevocations is AskRevocations; with most above 0, all answers have so long.
func (f *Finder) askRevocations(ctx context.Context, remote bool, most time.Duration) {
	if f.Memory == nil {
		return
	}
	asking := ctx
	if most > 0 {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	for _, s := range f.sources() {
		if s.Remote() && !remote || slices.ContainsFunc(f.answers, func(a listAnswer) bool { return a.source == s }) || asking.Err() != nil {
			continue
		}
		if err := f.silent[s]; err != nil {
			continue
		}
		list, err := f.openList(asking, s)
		if dir, ok := s.(interface{ missing() bool }); ok && err != nil && dir.missing() {
			continue // e.g. a stick that is not there says nothing
		}
		f.noteTimeout(asking, s, err)
		if asking.Err() == nil {
			f.answers = append(f.answers, listAnswer{s, list, err})
		}
	}
	if len(f.answers) == f.learnt {
		return
	}
	f.learnt = len(f.answers)
	all := len(f.answers) == len(f.Sources)
	err := f.Memory.learn(ctx, !f.Look && !f.Foreign, func(s *revokedState) {
		own := s.Revoked
		if f.Foreign {
			defer func() { s.Revoked = united(own, s.Revoked) }()
		}
		weigh(s, f.answers, all, slices.ContainsFunc(f.Sources, Source.Remote), newOptions(f.Options).now())
	})
	if err != nil {
		f.unlearnt = err.Error()
	}
}

// openList returns the list of a source. If a source on a network has none, or one that is
// not trusted, although this machine has seen a list before, it is asked up to twice more:
// while a list is replaced on a forge, parts of it are missing for a moment.
func (f *Finder) openList(ctx context.Context, s Source) (*Revocations, error) {
	list, err := OpenRevocations(ctx, s, f.Verifier, f.Options...)
	remote, ok := s.(*HTTPSource)
	if !ok || f.Memory.Revocations().CreatedAt.IsZero() {
		return list, err
	}
	for _, wait := range []time.Duration{remote.timeouts.Pause, 4 * remote.timeouts.Pause} {
		if err == nil || !errors.Is(err, ErrNotFound) && !isUntrusted(err) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		list, err = OpenRevocations(ctx, s, f.Verifier, f.Options...)
	}
	return list, err
}

const (
	// askedFor is how long a run that needs nothing of a source on a network does not
	// ask it for its list either.
	askedFor = 24 * time.Hour
	// askDue is how long such a run waits for the lists.
	askDue = 15 * time.Second
)

// askIfDue asks sources on a network for their lists if none has answered for a day, in a
// run that otherwise would ask them nothing. It tries once in a run. Without an answer
// there is no error: a long silence is reported elsewhere.
func (f *Finder) askIfDue(ctx context.Context) {
	if f.Memory == nil || f.Offline || f.triedDue {
		return
	}
	f.triedDue = true
	if newOptions(f.Options).now().Sub(f.Memory.revokedState().Asked) >= askedFor {
		f.askRevocations(ctx, true, askDue)
	}
}

// united merges two lists; for a release in both, the entry of the first one is kept.
func united(a, b []Revocation) []Revocation {
	first := &Revocations{Revoked: a}
	out := slices.Clone(a)
	for _, r := range b {
		if first.Find(r.Tag) == nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Revocation) int { return strings.Compare(string(a.Tag), string(b.Tag)) })
	return out
}

// listAnswer is a source's answer to the request for its list.
type listAnswer struct {
	source Source
	list   *Revocations
	err    error
}

// weigh updates the state by the answers of all sources, or of some. With remote, it
// records when they answered.
func weigh(s *revokedState, answers []listAnswer, all, remote bool, now time.Time) {
	newest, from, whole, refused := readAnswers(answers)
	whole = whole && all
	switch {
	case newest != nil && newest.CreatedAt.After(s.CreatedAt):
		s.CreatedAt, s.Sums, s.Revoked = newest.CreatedAt, newest.Sums, newest.Revoked
	case newest != nil && newest.CreatedAt.Equal(s.CreatedAt) && newest.Sums != s.Sums:
		refused = listRefused(refused, Untrusted(ReasonReplaced, "it is another list than the one of the same time, %s, that this machine has seen", day(s.CreatedAt)), from)
	case s.CreatedAt.IsZero() || !whole || newest != nil && newest.CreatedAt.Equal(s.CreatedAt):
	case newest != nil:
		refused = listRefused(refused, Untrusted(ReasonRolledBack, "it was created %s, and this machine has seen a newer list, created %s", day(newest.CreatedAt), day(s.CreatedAt)), from)
	default:
		refused = listRefused(refused, Untrusted(ReasonWithheld, "no source has a list, but this machine has seen one, created %s", day(s.CreatedAt)), "")
	}
	switch {
	case refused != nil:
		s.Refused = excerpt.Of(refused.Error(), maxRefusal)
	case whole:
		s.Refused = ""
		if remote {
			s.Asked = now.UTC().Truncate(time.Second)
		}
	}
}

// readAnswers returns the newest list and its source, whether all answered, and the
// first refusal.
func readAnswers(answers []listAnswer) (newest *Revocations, from string, whole bool, refused error) {
	whole = true
	for _, a := range answers {
		switch {
		case a.err == nil && (newest == nil || a.list.CreatedAt.After(newest.CreatedAt)):
			newest, from = a.list, a.source.String()
		case a.err == nil, errors.Is(a.err, ErrNotFound):
		case isUnavailable(a.err) && a.source.Remote(), errors.As(a.err, new(*ClockError)):
			whole = false
		default:
			whole = false
			if refused == nil {
				refused = a.err
			}
		}
	}
	return newest, from, whole, refused
}

func listRefused(before error, why *UntrustedError, source string) error {
	if before != nil {
		return before
	}
	why.Tag, why.Source = RevocationsTag, source
	return why
}

// refusal is why a revoked release is refused.
func (r *Revocation) refusal() *UntrustedError {
	return Untrusted(ReasonRevoked, "%s", r.String())
}

// String says who revoked what and why, in one line.
func (r *Revocation) String() string {
	return fmt.Sprintf("its publisher has revoked it, on %s: %s", day(r.RevokedAt), r.Reason)
}
