package verify

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

// ending believes everything until its time.
type ending struct{ until time.Time }

func (e ending) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.SignedByKey, Name: "test", Until: e.until}, nil
}

// TestEnds: a run reports that a release, or its key, is valid for a short time only, and
// the end of each.
func TestEnds(t *testing.T) {
	m := newMachine(t)
	const day = 24 * time.Hour
	best := testCreated.AddDate(0, 0, 90)
	key := best.AddDate(0, 0, -30)
	for name, tc := range map[string]struct {
		now    time.Time
		before time.Duration
		key    time.Time
		causes []report.Cause
		detail string
	}{
		"in good time":          {testCreated, 14 * day, key, nil, ""},
		"a key without an end":  {best.AddDate(0, 0, -20), 14 * day, time.Time{}, nil, ""},
		"the key":               {key.AddDate(0, 0, -13), 14 * day, key, []report.Cause{report.KeyExpires}, `signed by key "test"`},
		"the release":           {best.Add(-14*day + time.Hour), 14 * day, time.Time{}, []report.Cause{report.ReleaseExpires}, ", 13 days from now; with the grace it is taken until"},
		"the release, in hours": {best.Add(-47 * time.Hour), 14 * day, time.Time{}, []report.Cause{report.ReleaseExpires}, ", 47 hours from now"},
		"both":                  {best.AddDate(0, 0, -1), 14 * day, best, []report.Cause{report.ReleaseExpires, report.KeyExpires}, ""},
		"another notice":        {best.AddDate(0, 0, -20), 21 * day, best, []report.Cause{report.ReleaseExpires, report.KeyExpires}, ""},
		"no notice":             {best.AddDate(0, 0, -1), 0, best, nil, ""},
		// Past its bestBefore it is one of its notes.
		"in its grace": {best.AddDate(0, 0, 1), 14 * day, time.Time{}, []report.Cause{report.ReleaseNote}, "past its bestBefore"},
	} {
		v := m.verifier()
		v.NoticeBefore = tc.before
		v.Open = func(ctx context.Context) []Candidate {
			rel, err := release.Open(ctx, release.NewDirSource(m.releases), testTag, ending{tc.key},
				release.WithClock(func() time.Time { return tc.now }), release.WithGrace(3*day))
			return []Candidate{{Tag: string(testTag), Release: rel, Err: err}}
		}
		r := v.Verify(t.Context(), nil)
		var causes []report.Cause
		detail := ""
		for _, f := range r.Findings {
			causes, detail = append(causes, f.Cause), detail+f.Detail
		}
		if r.Verdict() != report.Verified || !slices.Equal(causes, tc.causes) || !strings.Contains(detail, tc.detail) {
			t.Errorf("%s: %s, %q: %s", name, r.Verdict(), causes, detail)
		}
		if !r.Release.BestBefore.Equal(best) || !r.Release.RefusedAfter.Equal(best.Add(3*day)) || !r.Release.KeyNotAfter.Equal(tc.key) {
			t.Errorf("%s: %+v", name, r.Release)
		}
	}
}

// TestNoneChosen: a run that is there to rebuild, by a policy that rebuilds nothing,
// says so.
func TestNoneChosen(t *testing.T) {
	m := newMachine(t)
	v := m.verifier()
	v.ToRebuild = true
	expect(t, v.Verify(t.Context(), nil), report.Verified, "rebuild-not-asked")
}

// TestRefusedFor: a release whose signature is good is refused with advice of its own.
func TestRefusedFor(t *testing.T) {
	m := newMachine(t)
	advice := map[string]bool{report.Next(report.ReleaseUntrusted): true}
	for reason, cause := range map[release.Reason]report.Cause{
		release.ReasonExpired: report.ReleaseExpired, release.ReasonRolledBack: report.ReleaseRolledBack,
		release.ReasonNotAccepted: report.ReleaseNotAccepted, release.ReasonKeyWindow: report.ReleaseKeyEnded,
	} {
		v := m.verifier()
		v.Open = func(context.Context) []Candidate {
			return []Candidate{{Tag: "v1", Err: release.Untrusted(reason, "test")}}
		}
		expect(t, v.Verify(t.Context(), nil), report.Refused, string(cause)+" v1")
		next := report.Next(cause)
		if advice[next] || strings.Contains(next, "treat the source as compromised") {
			t.Errorf("%s: its advice is %s", cause, next)
		}
		advice[next] = true
	}
	// One that is refused outweighs one that could not be obtained, in any order.
	for _, errs := range [][]error{{errUnavailable, release.Untrusted(release.ReasonExpired, "test")}, {release.Untrusted(release.ReasonExpired, "test"), errUnavailable}} {
		v := m.verifier()
		v.Pinned = false
		v.Open = func(context.Context) []Candidate {
			return []Candidate{{Tag: "v1", Err: errs[0]}, {Tag: "v2", Err: errs[1]}}
		}
		if r := v.Verify(t.Context(), nil); r.Verdict() != report.Refused {
			t.Errorf("%v: %s", errs, r.Verdict())
		}
	}
}
