package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// compared is the result of the release tier: what the machine is compared with.
type compared struct {
	candidates []candidate
	chosen     *candidate        // nil until a release is trusted
	expected   *candidate        // chosen, but where the machine runs another one
	manifest   *closure.Manifest // of chosen
}

// candidate is a Candidate with the manifest of the configuration.
type candidate struct {
	Candidate
	manifest *closure.Manifest
}

// revoked returns the publisher's revocation of the release; nil if there is none.
func (c *candidate) revoked() *release.Revocation {
	if c.Release == nil {
		return nil
	}
	return c.Release.Revoked()
}

// checkRelease opens the releases that the policy accepts, reads the manifest
// of this machine's configuration in each, and chooses the one to compare with.
func (r *run) checkRelease(ctx context.Context, t *report.Tier) error {
	for _, c := range r.Open(ctx) {
		loaded := candidate{Candidate: c}
		if loaded.Err == nil {
			loaded.manifest, loaded.Err = r.readManifest(ctx, c.Release)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		r.candidates = append(r.candidates, loaded)
	}
	r.report.Against = r.against()
	r.reportRevocations()
	if len(r.candidates) == 0 {
		return &failure{cause: report.ReleaseUnavailable, err: errors.New("no release was named: give --against TAG, or release.accept in the configuration")}
	}
	if err := r.choose(ctx); err != nil {
		return err
	}
	for i := range r.candidates {
		c := &r.candidates[i]
		if c.Err != nil {
			r.find(report.Finding{Tier: report.TierRelease, Cause: report.AcceptedUnavailable, Path: c.Tag, Detail: c.Err.Error()})
			continue
		}
		t.Checked++
	}
	r.expected = r.chosen
	if err := r.findCandidate(ctx); err != nil {
		return err
	}
	another, err := r.runsAnother(ctx)
	if err != nil {
		return err
	}
	if another != nil {
		r.chosen = another
		r.judgeIdentity()
	}
	r.reportRevoked()
	rel := r.expected.Release
	for _, why := range rel.Unkept() {
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.NotRemembered, Path: string(rel.Tag()), Detail: why})
	}
	for _, note := range rel.Notes() {
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.ReleaseNote, Path: string(rel.Tag()), Detail: note})
	}
	r.report.Unsafe = append(r.report.Unsafe, rel.Unsafe()...)
	r.findEnds(rel)
	rel = r.chosen.Release
	info := rel.Info()
	r.manifest = r.chosen.manifest
	manifest, _ := rel.Sums().Digest(release.ManifestName(r.manifest.Configuration))
	r.report.Configuration = r.manifest.Configuration
	r.report.Release = &report.Release{
		Tag: string(rel.Tag()), Commit: info.Commit, Created: info.CreatedAt, BestBefore: info.BestBefore,
		RefusedAfter: rel.RefusedAfter(), KeyNotAfter: rel.Signer().Until,
		Source: rel.Source(), Signer: rel.Signer().String(), Unsigned: rel.Unsigned(),
		Sums: rel.Digest().String(), Manifest: manifest.String(),
		DrvPath: r.manifest.Toplevel.DrvPath, OutPath: r.manifest.Toplevel.OutPath,
	}
	return nil
}

// findEnds adds the findings that the release is soon refused for its age or for that
// of its key.
func (r *run) findEnds(rel *release.Release) {
	best, key := rel.Info().BestBefore, rel.Signer().Until
	// One of its notes says so once it is past its bestBefore.
	if d := rel.Left(best); d >= 0 && d < r.NoticeBefore {
		detail := fmt.Sprintf("its bestBefore is %s, %s from now", best.UTC().Format(time.RFC3339), span(d))
		if refused := rel.RefusedAfter(); refused.After(best) {
			detail += "; with the grace it is taken until " + refused.UTC().Format(time.RFC3339)
		}
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.ReleaseExpires, Path: string(rel.Tag()), Detail: detail})
	}
	if d := rel.Left(key); !key.IsZero() && d < r.NoticeBefore {
		r.find(report.Finding{
			Tier: report.TierRelease, Cause: report.KeyExpires, Path: string(rel.Tag()),
			Detail: fmt.Sprintf("signed by %s, until %s, %s from now", rel.Signer(), key.UTC().Format(time.RFC3339), span(d)),
		})
	}
}

// span formats a future duration in days, or in hours below two days.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 2*day {
		return report.Quantity(int(d/time.Hour), "hour")
	}
	return report.Quantity(int(d/day), "day")
}

// against names the releases that the policy asks for.
func (r *run) against() string {
	var tags []string
	for i := range r.candidates {
		if i == 0 || !r.Pinned {
			tags = append(tags, r.candidates[i].Tag)
		}
	}
	return strings.Join(tags, ", ")
}

func (r *run) readManifest(ctx context.Context, rel *release.Release) (*closure.Manifest, error) {
	name := r.Configuration
	if name == "" {
		names := rel.Info().Configurations
		if len(names) != 1 {
			return nil, fmt.Errorf("release %s has several configurations: choose with --configuration, one of %s", rel.Tag(), strings.Join(names, ", "))
		}
		name = names[0]
	}
	m, err := rel.Manifest(ctx, name)
	if err == nil && m.StoreDir != r.StoreDir {
		err = release.Untrusted(release.ReasonMalformedManifest, "its store directory is %s, this machine's is %s", m.StoreDir, r.StoreDir)
	}
	return m, err
}

// choose sets r.chosen: the pinned release, or the accepted one that runs here, or else
// the first that could be opened. It fails if none of them can be trusted, and when ctx
// ends.
func (r *run) choose(ctx context.Context) error {
	if !r.Pinned {
		if c, err := r.runningOne(ctx); err != nil || c != nil {
			r.chosen = c
			return err
		}
	}
	if failed := r.gravestFailure(); failed != nil {
		return failed
	}
	r.chosen = &r.candidates[0]
	for i := range r.candidates {
		if c := &r.candidates[i]; !r.Pinned && c.revoked() == nil {
			r.chosen = c
			break
		}
	}
	return nil
}

// runningOne returns the release that runs here; nil if none of the opened ones does.
func (r *run) runningOne(ctx context.Context) (*candidate, error) {
	running := r.runningNow()
	var same []*candidate
	for i := range r.candidates {
		if c := &r.candidates[i]; c.Err == nil && c.manifest.Toplevel.OutPath == running {
			same = append(same, c)
		}
	}
	if len(same) > 0 {
		return r.nearest(ctx, same)
	}
	if running != "" {
		// The live tier reports what is unreadable now.
		if c, _, err := r.specialisationOf(running); err == nil {
			return c, nil
		}
	}
	return nil, nil
}

// gravestFailure returns why a release could not be opened; nil if all were. None of the
// opened ones runs here, and that one may: then nothing can be said. An invalid release
// outweighs an unavailable one.
func (r *run) gravestFailure() (failed *failure) {
	for i := range r.candidates {
		c := &r.candidates[i]
		if c.Err == nil || i > 0 && r.Pinned {
			continue
		}
		if f := releaseFailure(c); failed == nil || report.ClassOf(f.cause) == report.Untrusted && report.ClassOf(failed.cause) != report.Untrusted {
			failed = f
		}
	}
	return failed
}

// runningNow returns the toplevel that the machine runs according to its links, "" if
// they do not say; the live tier judges it. For a candidate it is the requested store
// path.
func (r *run) runningNow() closure.StorePath {
	store, err := r.openStore()
	if err != nil {
		return ""
	}
	if r.System != "" {
		return r.asked()
	}
	link := CurrentSystem
	if r.outside() {
		link = SystemProfile
	}
	p, _, err := store.ResolveLink(link)
	if err != nil {
		return ""
	}
	return p
}

// refusedFor are the causes of releases whose signature is good.
var refusedFor = map[release.Reason]report.Cause{
	release.ReasonExpired:     report.ReleaseExpired,
	release.ReasonRolledBack:  report.ReleaseRolledBack,
	release.ReasonNotAccepted: report.ReleaseNotAccepted,
	release.ReasonKeyWindow:   report.ReleaseKeyEnded,
	release.ReasonRevoked:     report.ReleaseRevoked,
}

// RefusedFor returns the cause of the finding about a release that is refused.
func RefusedFor(reason release.Reason) report.Cause {
	if cause, ok := refusedFor[reason]; ok {
		return cause
	}
	return report.ReleaseUntrusted
}

// releaseFailure distinguishes an untrusted release from an unavailable one.
func releaseFailure(c *candidate) *failure {
	var untrusted *release.UntrustedError
	var clock *release.ClockError
	cause := report.ReleaseUnavailable
	switch {
	case errors.As(c.Err, &untrusted):
		cause = RefusedFor(untrusted.Reason)
	case errors.As(c.Err, &clock):
		cause = report.ClockWrong
	}
	return &failure{cause: cause, path: c.Tag, err: c.Err}
}
