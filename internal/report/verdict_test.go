package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

func judged(tiers []Tier, findings []Finding) Verdict {
	return (&Report{Tiers: tiers, Findings: findings}).Verdict()
}

// causeOf is a cause of each class.
var causeOf = map[Class]Cause{
	Untrusted: ReleaseUntrusted, Drift: SourceAltered, Inconclusive: Unreadable, Notice: PendingReboot,
}

// TestJudgeFindings has every set of classes against a run that was complete
// and one that was not: the gravest class decides, and a notice never does.
func TestJudgeFindings(t *testing.T) {
	classes := []Class{Untrusted, Drift, Inconclusive, Notice}
	complete := []Tier{{Name: TierRelease, Status: Done, Checked: 1, Asked: true}, {Name: TierContents, Status: Done, Checked: 3, Asked: true}}
	failed := []Tier{complete[0], {Name: TierContents, Status: Failed, Checked: 1, Asked: true}}
	for set := range 1 << len(classes) {
		var findings []Finding
		has := map[Class]bool{}
		for i, c := range classes {
			if set&(1<<i) != 0 {
				has[c] = true
				findings = append(findings, Finding{Cause: causeOf[c]})
			}
		}
		want := map[bool]Verdict{true: Verified, false: Unsettled}
		switch {
		case has[Untrusted]:
			want = map[bool]Verdict{true: Refused, false: Refused}
		case has[Drift]:
			want = map[bool]Verdict{true: Drifted, false: Drifted}
		case has[Inconclusive]:
			want[true] = Unsettled
		}
		for range 2 { // in any order
			for done, tiers := range map[bool][]Tier{true: complete, false: failed} {
				if got := judged(tiers, findings); got != want[done] {
					t.Errorf("findings %v, all done %v: got %s, want %s", has, done, got, want[done])
				}
			}
			slices.Reverse(findings)
		}
	}
}

// TestJudgeTiers has every way in which two tiers can end, without a finding:
// only what was asked for, done and looked at verifies.
func TestJudgeTiers(t *testing.T) {
	var ways []Tier
	for _, status := range []Status{Done, Skipped, Failed, ""} {
		for checked := range 2 {
			for _, asked := range []bool{true, false} {
				ways = append(ways, Tier{Status: status, Checked: checked, Asked: asked})
			}
		}
	}
	good := func(t Tier) bool { return t.Status == Done && t.Checked > 0 }
	for _, release := range ways {
		for _, contents := range ways {
			release.Name, contents.Name = TierRelease, TierContents
			want := Unsettled
			if contents.Asked && good(contents) && (!release.Asked || good(release)) {
				want = Verified
			}
			if got := judged([]Tier{release, contents}, nil); got != want {
				t.Errorf("release %+v, contents %+v: got %s, want %s", release, contents, got, want)
			}
		}
	}
}

func TestJudgeNothing(t *testing.T) {
	trusted := Tier{Name: TierRelease, Status: Done, Checked: 1, Asked: true}
	skipped := func(name TierName) Tier { return Tier{Name: name, Status: Skipped} }
	for name, tiers := range map[string][]Tier{
		"no tiers":             nil,
		"the release alone":    {trusted},
		"all that can be left": {trusted, skipped(TierSource), skipped(TierEval), skipped(TierLive), skipped(TierContents), skipped(TierRebuild)},
		"a tier that saw nothing": {
			trusted, {Name: TierSource, Status: Done, Checked: 2, Asked: true}, {Name: TierContents, Status: Done, Asked: true},
		},
	} {
		if got := judged(tiers, nil); got != Unsettled {
			t.Errorf("%s: got %s, want inconclusive", name, got)
		}
	}
	var zero Verdict
	if zero != Unsettled || new(Report).Verdict() != Unsettled {
		t.Error("the zero values are not inconclusive")
	}
}

// A cause that somebody forgot to class must not pass for a notice.
func TestJudgeUnknownCause(t *testing.T) {
	tiers := []Tier{{Name: TierContents, Status: Done, Checked: 1, Asked: true}}
	if got := judged(tiers, []Finding{{Cause: "no-such-cause"}}); got != Unsettled {
		t.Errorf("got %s, want inconclusive", got)
	}
}

// TestHeadlineOfNextBoot: who reads that the machine is not the release looks at what runs.
// That is said unless everything that differs is what can be booted next.
func TestHeadlineOfNextBoot(t *testing.T) {
	const is, runs, boots = "this machine is not release", "but what it can boot next has", "what this machine boots from is not release"
	pending := Finding{Tier: TierLive, Cause: PendingAltered, Path: "/nix/var/nix/profiles/system", ConsequenceOf: closure.DiskAltered}
	next := Finding{Tier: TierContents, Cause: closure.DiskAltered, Path: string(object("b", "tool")), Release: "boot-v2"}
	file := Finding{Tier: TierLive, Cause: BootAltered, Path: "/boot/kernel"}
	profile := Finding{Tier: TierLive, Cause: OtherProfile}
	for _, test := range []struct {
		want     string
		findings []Finding
		change   func(r *Report)
	}{
		{runs, []Finding{next, pending}, nil},
		{runs + " 1 difference, with 1 more in consequence, and 1 thing could not be checked", []Finding{next, pending, {Cause: LiveUnknown}}, nil},
		{"as far as it was checked, " + runs, []Finding{next, pending, {Cause: LiveUnknown}}, nil},
		{"as far as it was checked, " + runs, []Finding{profile, {Tier: TierEval, Cause: CheckSkipped}}, func(r *Report) { fail(r, TierEval, Skipped, "skipped on request") }},
		{runs, []Finding{profile, {Cause: PendingReboot}}, nil},
		{runs, []Finding{{Tier: TierLive, Cause: OtherEntry}, {Tier: TierLive, Cause: ReleaseRevoked, Path: "/boot/a.conf"}}, nil},
		{runs, []Finding{{Tier: TierLive, Cause: BootAltered, Release: "boot-v2"}}, nil},
		{boots, []Finding{file}, nil},
		{boots, []Finding{file, next, pending}, nil},
		{is, []Finding{file, {Tier: TierContents, Cause: closure.DiskAltered}}, nil},
		{is, []Finding{next, {Tier: TierLive, Cause: BootedAltered, ConsequenceOf: closure.DiskAltered}}, nil},
		{is, []Finding{{Tier: TierLive, Cause: ReleaseRevoked, Path: "/run/booted-system"}}, nil},
		{is, []Finding{profile, {Tier: TierLive, Cause: OtherBoot}}, nil},
		{is, []Finding{profile, {Tier: TierLive, Cause: CommandLineAltered}}, nil},
		{is, []Finding{{Cause: "of a later version", class: Drift}, profile}, nil},
		{is, []Finding{profile}, func(r *Report) { r.More = map[Class]int{Drift: 1} }},
		{"the disk at /mnt is not release", []Finding{profile}, func(r *Report) { r.StoreRoot = "/mnt" }},
		{"runs release boot-v2026.02.28 (ec-runner-x86_64) ", []Finding{profile, {Tier: TierLive, Cause: OtherRelease}}, nil},
		{"which its publisher has revoked", []Finding{profile, {Tier: TierRelease, Cause: ReleaseRevoked}}, nil},
	} {
		r := verified()
		r.Findings = test.findings
		if test.change != nil {
			test.change(r)
		}
		if got := r.Headline(); r.Verdict() != Drifted || !strings.Contains(got, test.want) {
			t.Errorf("%s, want %q", got, test.want)
		}
		if got := r.Brief(); (test.want == boots) != strings.Contains(got, "in what it boots from") || strings.Contains(test.want, runs) != strings.Contains(got, "in what it can boot") || cells(got) > 80 && test.change == nil && len(test.findings) == 1 {
			t.Errorf("%s (%d cells), for %q", got, cells(got), test.want)
		}
	}
}

func TestVerdictString(t *testing.T) {
	words := map[Verdict]string{Unsettled: "inconclusive", Verified: "verified", Drifted: "drifted", Refused: "untrusted"}
	for v, want := range words {
		text, err := v.MarshalText()
		if v.String() != want || string(text) != want || err != nil {
			t.Errorf("verdict %d: got %q and %q, %v, want %q", v, v, text, err, want)
		}
	}
}

func TestCounts(t *testing.T) {
	r := &Report{Findings: []Finding{{Cause: Unreadable}, {Cause: Unreadable}, {Cause: PendingReboot}, {Cause: "no-such-cause"}}}
	want := map[Class]int{Untrusted: 0, Drift: 0, Inconclusive: 3, Notice: 1}
	if got := r.Counts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSort(t *testing.T) {
	want := []Finding{
		{Cause: ReleaseUntrusted, Tier: TierRelease},
		{Cause: SourceAltered, Tier: TierSource},
		{Cause: OtherSystem, Tier: TierLive},
		{Cause: "disk-altered", Tier: TierContents, Path: "a"},
		{Cause: "disk-altered", Tier: TierContents, Path: "b", Field: "ca"},
		{Cause: "disk-altered", Tier: TierContents, Path: "b", Field: "narSize"},
		{Cause: "extra", Tier: TierContents, Path: "a"},
		{Cause: EvaluationDrift, Tier: TierEval, ConsequenceOf: SourceAltered}, // after all causes of its class
		{Cause: EvaluationFailed, Tier: TierEval},
		{Cause: MountedOver, Tier: TierContents},
		{Cause: "missing", Tier: TierContents, ConsequenceOf: MountedOver}, // graver than its cause
		{Cause: PendingReboot, Tier: TierLive},
	}
	r := &Report{
		Tiers:    []Tier{{Name: TierRelease}, {Name: TierSource}, {Name: TierEval}, {Name: TierLive}, {Name: TierContents}},
		Findings: slices.Clone(want),
	}
	slices.Reverse(r.Findings)
	r.Sort()
	order := func(findings []Finding) string {
		var b strings.Builder
		for _, f := range findings {
			fmt.Fprintln(&b, f.Tier, f.Cause, f.Path, f.Field)
		}
		return b.String()
	}
	if got, want := order(r.Findings), order(want); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
