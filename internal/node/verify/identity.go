package verify

import (
	"context"
	"fmt"
	"slices"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// Identifier finds, among all available releases, the one whose system is at a store
// path, with its manifest; nil if there is none. The release must be signed by somebody
// whom the policy trusts; the policy's other conditions do not apply.
type Identifier func(ctx context.Context, system closure.StorePath) (*release.Release, *closure.Manifest)

// runsAnother returns the release that the machine runs, if that is available and another
// one than the requested one. The machine is then compared with that release: the report
// says in one finding that it runs another release, and otherwise what was altered of it,
// instead of how two releases differ. It returns nil if no tier checks what runs.
func (r *run) runsAnother(ctx context.Context) (*candidate, error) {
	running := r.runningNow()
	if running == "" || running == r.chosen.manifest.Toplevel.OutPath || slices.Contains(r.Skip, report.TierLive) {
		return nil, nil
	}
	accepted, _, err := r.acceptedAs(ctx, running)
	if accepted == r.chosen {
		return nil, err // a specialisation of it
	}
	if accepted != nil || err != nil {
		return accepted, err
	}
	return r.identify(ctx, running), ctx.Err()
}

// identify returns the release of a system that belongs to no accepted one, as far as that
// is available; nil if not. Each system is searched for once.
func (r *run) identify(ctx context.Context, system closure.StorePath) *candidate {
	if r.Identify == nil || r.planning {
		return nil
	}
	if known, ok := r.identified[system]; ok {
		return known
	}
	var c *candidate
	rel, manifest := r.Identify(ctx, system)
	if rel != nil && manifest.Toplevel.OutPath == system && manifest.StoreDir == r.StoreDir {
		c = &candidate{Candidate: Candidate{Tag: string(rel.Tag()), Release: rel}, manifest: manifest}
	}
	if r.identified == nil {
		r.identified = make(map[closure.StorePath]*candidate)
	}
	r.identified[system] = c
	return c
}

// strangerWords says of a system that no accepted release has whose it is, as far as that
// can be found out.
func (r *run) strangerWords(ctx context.Context, system closure.StorePath) string {
	if c := r.identify(ctx, system); c != nil {
		return fmt.Sprintf("it is release %s, which is not accepted; accepted: %s", c.Tag, r.report.Against)
	}
	return "no release that is accepted has this system; accepted: " + r.report.Against
}

// judgeIdentity adds the finding that the machine runs another release than the one
// that it was to be compared with. It is called as soon as the release is chosen.
func (r *run) judgeIdentity() {
	if r.chosen == r.expected {
		return
	}
	f := report.Finding{
		Tier: report.TierLive, Cause: report.OtherRelease, Path: CurrentSystem,
		Want: string(r.expected.manifest.Toplevel.OutPath), Got: string(r.chosen.manifest.Toplevel.OutPath),
		Detail: "it is release " + r.chosen.Tag + ", which the policy does not accept; it accepts " + r.report.Against,
	}
	if r.outside() {
		f.Path = SystemProfile
	}
	switch {
	case r.chosen.revoked() != nil:
		f.Detail = "it is release " + r.chosen.Tag + ", which its publisher has revoked, and was to be compared with " + r.report.Against
	case r.isCandidate(r.chosen):
		f.Detail = "it is the accepted release " + r.chosen.Tag + ", and was to be compared with " + r.report.Against
	case r.Pinned:
		f.Detail = "it is release " + r.chosen.Tag + ", and was to be compared with " + r.report.Against
	}
	r.find(f)
}

// isCandidate reports whether c is one of the releases that the policy accepts, or
// that the run was to compare with.
func (r *run) isCandidate(c *candidate) bool {
	for i := range r.candidates {
		if &r.candidates[i] == c {
			return true
		}
	}
	return false
}
