package standing

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

var day0 = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)

// ran is a run that ended so many days after day0, with each tier named and a + done,
// and with a - failed.
func ran(day int, tiers string, findings ...report.Finding) *report.Report {
	r := &report.Report{Finished: day0.AddDate(0, 0, day), Findings: findings}
	for _, word := range strings.Fields("release+ " + tiers) {
		t := report.Tier{Name: report.TierName(word[:len(word)-1]), Asked: true, Status: report.Done, Checked: 1}
		if strings.HasSuffix(word, "-") {
			t.Status = report.Failed
		}
		r.Tiers = append(r.Tiers, t)
	}
	return r
}

var (
	live      = report.Finding{Tier: report.TierLive, Cause: report.OtherProfile, Path: "/nix/var/nix/profiles/system"}
	other     = report.Finding{Tier: report.TierLive, Cause: report.OtherRelease, Path: "/run/current-system"}
	altered   = report.Finding{Tier: report.TierContents, Cause: closure.DiskAltered, Path: "/nix/store/a"}
	missing   = report.Finding{Tier: report.TierContents, Cause: closure.Missing, Path: "/nix/store/b"}
	rebuilt   = report.Finding{Tier: report.TierRebuild, Cause: closure.UnreproducibleBuild, Path: "/nix/store/c"}
	untrusted = report.Finding{Tier: report.TierRelease, Cause: report.ReleaseUntrusted, Path: "boot-v1"}
	unfound   = report.Finding{Tier: report.TierRelease, Cause: report.ReleaseUnavailable, Path: "boot-v1"}
	failed    = report.Finding{Tier: report.TierEval, Cause: report.EvaluationFailed}
	note      = report.Finding{Tier: report.TierRelease, Cause: report.ReleaseNote}
	pending   = report.Finding{Tier: report.TierLive, Cause: report.PendingAltered, Path: "/boot/entry", ConsequenceOf: closure.DiskAltered}
	follows   = report.Finding{Tier: report.TierContents, Cause: closure.Extra, Path: "/nix/store/d", ConsequenceOf: report.OtherProfile}
)

// words returns s in the notation of the tests: the verdict, the days since then, and the
// findings with theirs.
func words(s Standing) string {
	days := func(t time.Time) int { return int(t.Sub(day0) / (24 * time.Hour)) }
	out := fmt.Sprintf("%s %d", s.Verdict, days(s.Since))
	for _, f := range s.Findings {
		out += fmt.Sprintf(", %s %d", f.Cause, days(f.Since))
	}
	return out
}

// TestNext: what differed stays until a run of the same scope verified it.
func TestNext(t *testing.T) {
	const all, daily = "eval+ live+ contents+ rebuild+", "eval+ live+ contents+"
	for name, tc := range map[string]struct {
		runs []*report.Report
		want string
	}{
		"verified, with a notice":              {[]*report.Report{ran(0, daily), ran(1, daily, note)}, "verified 0"},
		"drifted":                              {[]*report.Report{ran(0, daily), ran(1, daily, live, follows)}, "drifted 1, other-profile 1"},
		"the next boot is altered":             {[]*report.Report{ran(1, daily, altered, pending)}, "drifted 1, pending-altered 1, disk-altered 1"},
		"and mended":                           {[]*report.Report{ran(1, daily, altered, pending), ran(2, daily)}, "verified 2"},
		"and still":                            {[]*report.Report{ran(1, daily, live), ran(2, daily, live)}, "drifted 1, other-profile 1"},
		"and something more":                   {[]*report.Report{ran(1, daily, live), ran(2, daily, live, altered)}, "drifted 1, other-profile 1, disk-altered 2"},
		"another release, altered":             {[]*report.Report{ran(1, daily, other, altered)}, "drifted 1, disk-altered 1, other-release 1"},
		"and something else":                   {[]*report.Report{ran(1, daily, altered), ran(2, daily, missing)}, "drifted 1, missing 2"},
		"in another tier, where it was":        {[]*report.Report{ran(1, daily, live), ran(2, daily, altered)}, "drifted 1, other-profile 1, disk-altered 2"},
		"and verified":                         {[]*report.Report{ran(1, daily, live), ran(2, daily)}, "verified 2"},
		"and verified without that tier":       {[]*report.Report{ran(1, daily, live), ran(2, "contents+")}, "drifted 1, other-profile 1"},
		"and not come to":                      {[]*report.Report{ran(1, daily, altered), ran(2, "eval+ live+ contents-", failed)}, "drifted 1, disk-altered 1, evaluation-failed 2"},
		"and not found, and not verified":      {[]*report.Report{ran(1, daily, altered), ran(2, "eval- live+ contents+", failed)}, "drifted 1, disk-altered 1, evaluation-failed 2"},
		"two, not found, and not verified":     {[]*report.Report{ran(1, daily, altered, missing), ran(2, "eval- live+ contents+", failed)}, "drifted 1, disk-altered 1, missing 1, evaluation-failed 2"},
		"and untrusted":                        {[]*report.Report{ran(1, daily, live), ran(2, "", untrusted)}, "untrusted 2, release-untrusted 2, other-profile 1"},
		"and untrusted, and trusted again":     {[]*report.Report{ran(1, daily, live), ran(2, "", untrusted), ran(3, daily, live)}, "drifted 1, other-profile 1"},
		"untrusted, and not to be had":         {[]*report.Report{ran(1, "", untrusted), {Finished: day0.AddDate(0, 0, 2), Findings: []report.Finding{unfound}, Tiers: []report.Tier{{Name: report.TierRelease, Asked: true, Status: report.Failed}}}}, "untrusted 1, release-untrusted 1, release-unavailable 2"},
		"untrusted, and trusted again":         {[]*report.Report{ran(1, "", untrusted), ran(2, "eval- contents+", failed)}, "inconclusive 2, evaluation-failed 2"},
		"inconclusive twice":                   {[]*report.Report{ran(1, "eval-", failed), ran(2, "eval-", failed)}, "inconclusive 1, evaluation-failed 1"},
		"inconclusive, then verified":          {[]*report.Report{ran(1, "eval-", failed), ran(2, daily)}, "verified 2"},
		"by a rebuild, then a run without":     {[]*report.Report{ran(1, all, rebuilt), ran(2, daily), ran(3, daily)}, "drifted 1, unreproducible 1"},
		"by a rebuild, then a good one":        {[]*report.Report{ran(1, all, rebuilt), ran(2, daily), ran(3, all)}, "verified 3"},
		"contents by a rebuild's run":          {[]*report.Report{ran(1, all, altered), ran(2, daily)}, "verified 2"},
		"nothing but what follows from others": {[]*report.Report{ran(1, daily, follows)}, "drifted 1, extra 1"},
		"nothing checked":                      {[]*report.Report{ran(1, "")}, "inconclusive 1"},
	} {
		var s Standing
		for _, r := range tc.runs {
			s = Next(s, r, func(report.TierName, string) bool { return true })
			encoded, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if s, err = Decode(encoded); err != nil {
				t.Fatal(err)
			}
		}
		if got := words(s); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
	// What nobody's policy asks for any more is not owed.
	everything := func(report.TierName, string) bool { return true }
	s := Next(Standing{}, ran(1, all, rebuilt, failed), everything)
	less := func(t report.TierName, _ string) bool { return t != report.TierRebuild }
	if got := [2]int{Dropped(s, everything), Dropped(s, less)}; got != [2]int{0, 1} {
		t.Errorf("%v findings are dropped", got)
	}
	s = Next(s, ran(2, daily), less)
	if got := words(s); got != "verified 2" {
		t.Errorf("without a rebuild in the policy: %s", got)
	}
	// The same of a part.
	file := report.Finding{Tier: "machine", Part: "etc", Cause: report.FileUnknown, Path: "/etc/x"}
	unit := report.Finding{Tier: "machine", Part: "units", Cause: report.UnitUnknown, Path: "/run/x"}
	s = Next(Standing{}, ran(1, "machine+", file, unit), everything)
	less = func(_ report.TierName, part string) bool { return part != "units" }
	if got := Dropped(s, less); got != 1 {
		t.Errorf("%d findings of a part are dropped", got)
	}
	if s = Next(s, ran(2, "machine-"), less); words(s) != "drifted 1, file-unknown 1" {
		t.Errorf("without a part in the policy: %s", words(s))
	}
	// A difference of one part does not replace that of another, which is hidden.
	hidden := report.Finding{Tier: "machine", Part: "units", Cause: report.MachineUnseen, Path: "part units"}
	s = Next(Next(Standing{}, ran(1, "machine+", unit), everything), ran(2, "machine+", file, hidden), everything)
	if got := words(s); got != "drifted 1, unit-unknown 1, file-unknown 2, machine-unseen 2" && got != "drifted 1, file-unknown 2, unit-unknown 1, machine-unseen 2" {
		t.Errorf("a part that can't be checked any more: %s", got)
	}
}

func TestVerified(t *testing.T) {
	owed := func(report.TierName, string) bool { return true }
	s := Next(Standing{}, ran(1, "contents+"), owed)
	weakened := ran(2, "contents+")
	weakened.Unsafe = []string{"unsafe-skip live"}
	for _, r := range []*report.Report{weakened, ran(3, "contents+", altered)} {
		if s = Next(s, r, owed); !s.Verified.Equal(day0.AddDate(0, 0, 1)) {
			t.Errorf("last verified %s", s.Verified)
		}
	}
}

// TestMilliseconds: times are those that docs/operating.md promises.
func TestMilliseconds(t *testing.T) {
	r := ran(1, "contents+", altered)
	r.Finished = r.Finished.Add(1234567 * time.Nanosecond)
	want := day0.AddDate(0, 0, 1).Add(time.Millisecond)
	s := Next(Standing{}, r, func(report.TierName, string) bool { return true })
	if !s.Since.Equal(want) || !s.Findings[0].Since.Equal(want) {
		t.Errorf("since %s and %s, want %s", s.Since, s.Findings[0].Since, want)
	}
	if s := Without(Standing{}, r.Finished); !s.Since.Equal(want) {
		t.Errorf("since %s, want %s", s.Since, want)
	}
}

// TestWithout: that no run could be made takes back what is good, and nothing else.
func TestWithout(t *testing.T) {
	owed := func(report.TierName, string) bool { return true }
	at := day0.AddDate(0, 0, 5)
	for _, tc := range []struct {
		before Standing
		want   string
	}{
		{Standing{}, "inconclusive 5"},
		{Next(Standing{}, ran(1, "contents+"), owed), "inconclusive 5"},
		{Next(Standing{}, ran(1, "contents+", altered), owed), "drifted 1, disk-altered 1"},
		{Next(Standing{}, ran(1, "eval-", failed), owed), "inconclusive 1, evaluation-failed 1"},
	} {
		if got := words(Without(tc.before, at)); got != tc.want {
			t.Errorf("after %s: got %s, want %s", words(tc.before), got, tc.want)
		}
	}
}

// TestBounded: however much is found, and whatever it is called, what is kept is
// bounded and has something of each tier.
func TestBounded(t *testing.T) {
	findings := []report.Finding{rebuilt, failed}
	for i := range 5000 {
		findings = append(findings, report.Finding{Tier: report.TierContents, Cause: closure.DiskAltered, Path: fmt.Sprintf("%d\xff%s", i, strings.Repeat("\x00", 5000))})
	}
	s := Next(Standing{}, ran(1, "contents+ rebuild+ eval-", findings...), func(report.TierName, string) bool { return true })
	encoded, err := s.Encode()
	if err != nil || len(s.Findings) != MaxFindings || s.More != len(findings)-MaxFindings || len(encoded) > 200<<10 {
		t.Errorf("%d findings, %d more, %d bytes, %v", len(s.Findings), s.More, len(encoded), err)
	}
	for _, tier := range []report.TierName{report.TierRebuild, report.TierEval} {
		if !strings.Contains(encoded, `"tier":"`+string(tier)+`"`) {
			t.Errorf("nothing of %s is kept", tier)
		}
	}
	again, err := Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if s = Next(again, ran(2, "contents+ rebuild+ eval-", findings...), func(report.TierName, string) bool { return true }); s.Findings[0].Since != day0.AddDate(0, 0, 1) {
		t.Errorf("what was known is new: %v", s.Findings[0])
	}
}

// TestRestIsCounted: what is not listed still counts, as long as what is listed does.
func TestRestIsCounted(t *testing.T) {
	owed := func(report.TierName, string) bool { return true }
	numbered := func(from, to int) (out []report.Finding) {
		for i := from; i < to; i++ {
			out = append(out, report.Finding{Tier: report.TierContents, Cause: closure.DiskAltered, Path: fmt.Sprintf("/nix/store/%04d", i)})
		}
		return out
	}
	const all = MaxFindings + 50
	before := Next(Standing{}, ran(1, "contents+", numbered(0, all)...), owed)
	for name, tc := range map[string]struct {
		run  *report.Report
		more int
	}{
		"nothing was hashed":           {ran(2, "contents-", report.Finding{Tier: report.TierContents, Cause: report.Interrupted}), 51},
		"again, as far as it got":      {ran(2, "contents-", numbered(0, 20)...), 50},
		"again, all of it":             {ran(2, "contents-", numbered(0, all)...), 50},
		"one that is known but not so": {ran(2, "contents-", numbered(all-1, all)...), 50},
		"more than is known":           {ran(2, "contents-", numbered(all, all+60)...), 60},
		"others instead":               {ran(2, "contents+", numbered(all, all+10)...), 0},
		"verified":                     {ran(2, "contents+"), 0},
	} {
		s := before
		for range 3 { // however often
			s = Next(s, tc.run, owed)
		}
		if s.More != tc.more {
			t.Errorf("%s: %d findings and %d more, want %d more", name, len(s.Findings), s.More, tc.more)
		}
	}
	if n := Dropped(before, func(t report.TierName, _ string) bool { return t != report.TierContents }); n != all {
		t.Errorf("%d are dropped, want %d", n, all)
	}
	encoded, err := before.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(encoded)
	if err != nil || !slices.Equal(again.Rest, before.Rest) {
		t.Errorf("%v: %v, want %v", err, again.Rest, before.Rest)
	}
}
