package node

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// TestStatusScripts runs cmd/ec-verify/testdata/script/status*.txtar. Beside what testscript
// knows they have:
//
//	exits CODE ARG...       runs ec-verify, which must exit with CODE
//	ledger DIR AGO VERDICT N/M [K]
//	                        records a run that began AGO, a duration, verified N
//	                        items of M and ended with VERDICT ("-" for none); K
//	                        of the N drifted
func TestStatusScripts(t *testing.T) {
	scripts, err := filepath.Glob("../../testdata/script/status*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Files: scripts,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 1 {
					ts.Fatalf("usage: exits CODE ARG...")
				}
				a := &app{terminal.New(ts.Stdout(), ts.Stderr())}
				cmd := new(cobra.Command)
				a.Attach(cmd)
				cmd.AddCommand(newStatusCommand(a))
				cmd.SetArgs(args[1:])
				if code := a.ExitCode(t.Context(), cmd.ExecuteContext(t.Context())); strconv.Itoa(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
			"ledger": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 4 {
					ts.Fatalf("usage: ledger DIR AGO VERDICT N/M [K]")
				}
				ago, err := time.ParseDuration(args[1])
				ts.Check(err)
				run := recorded{at: time.Now().Add(-ago), verdict: args[2]}
				_, err = fmt.Sscanf(args[3], "%d/%d", &run.verified, &run.items)
				ts.Check(err)
				if len(args) > 4 {
					run.drifted, err = strconv.Atoi(args[4])
					ts.Check(err)
				}
				ts.Check(run.record(t, ts.MkAbs(args[0])))
			},
		},
	})
}

// recorded is a run as the tests record one.
type recorded struct {
	at                       time.Time
	verdict                  string // "-" for a run without an end
	items, verified, drifted int
}

func statusItems(n int) []ledger.Item {
	items := make([]ledger.Item, n)
	for i := range items {
		p := closure.StorePath(fmt.Sprintf("/nix/store/%032d-program-%d", i, i))
		items[i] = ledger.Item{Path: p, Want: nar.Hash(sha256.Sum256([]byte(p))), Cost: 1000}
	}
	return items
}

func (run recorded) record(t *testing.T, dir string) error {
	now := run.at
	l, err := ledger.Open(t.Context(), ledger.Dir(dir), ledger.Options{Now: func() time.Time { return now }})
	if err != nil {
		return err
	}
	defer l.Close()
	rec, err := l.Begin(t.Context(), "v1.2.3")
	if err != nil {
		return err
	}
	defer rec.Close()
	manifest := ledger.Manifest{Tag: "boot-v2026.02.28", SHA256: nar.Hash(sha256.Sum256([]byte("manifest")))}
	items := statusItems(run.items)
	if run.items > 0 {
		if err := rec.Expect(t.Context(), ledger.Inventory{Tier: ledger.Contents, Manifest: manifest, Items: items}); err != nil {
			return err
		}
	}
	for i, item := range items[:run.verified] {
		outcome := ledger.Outcome{Result: ledger.Verified}
		if i < run.drifted {
			outcome = ledger.Outcome{Result: ledger.Drifted, Cause: closure.DiskAltered}
		}
		rec.Record(ledger.Contents, item, outcome)
	}
	now = now.Add(90 * time.Second)
	if run.verdict == "-" {
		return rec.Close()
	}
	made := run.report(items)
	made.Started, made.Finished = run.at, now
	end := ledger.End{Verdict: run.verdict, Manifest: manifest, Configuration: made.Configuration}
	keep := keeper{owed: func(report.TierName, string) bool { return true }}
	if end.Standing, err = keep.after(t.Context(), l, rec.Run(), made, end); err != nil {
		return err
	}
	return rec.End(t.Context(), end)
}

// report is that of run, which gives its verdict.
func (run recorded) report(items []ledger.Item) *report.Report {
	r := &report.Report{
		Configuration: "ec-runner-x86_64", Tool: "v1.2.3",
		Tiers: []report.Tier{{Name: report.TierContents, Asked: true, Status: report.Done, Checked: run.verified}},
	}
	for _, item := range items[:run.drifted] {
		r.Findings = append(r.Findings, report.Finding{Tier: report.TierContents, Cause: closure.DiskAltered, Path: string(item.Path)})
	}
	switch {
	case run.verdict == "untrusted":
		r.Findings = append(r.Findings, report.Finding{Tier: report.TierRelease, Cause: report.ReleaseUntrusted, Path: "boot-v2026.02.28"})
	case run.verdict == "inconclusive":
		r.Findings = append(r.Findings, report.Finding{Tier: report.TierEval, Cause: report.EvaluationFailed})
	case run.verdict == "drifted" && run.drifted == 0:
		r.Findings = append(r.Findings, report.Finding{Tier: report.TierLive, Cause: report.OtherProfile, Path: "/nix/var/nix/profiles/system"})
	}
	return r
}

// defaultWants is what the tests ask for where they don't care.
var defaultWants = wants{ledger.DefaultPolicy(), nar.ReadCached, func(report.TierName, string) bool { return true }}

// TestStatusJSON holds the JSON form to the one that docs/operating.md describes.
func TestStatusJSON(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, run := range []recorded{
		{at: now.Add(-10 * 24 * time.Hour), verdict: "inconclusive", items: 3, verified: 2},
		{at: now.Add(-3 * time.Hour), verdict: "drifted", items: 3, verified: 1, drifted: 1},
		{at: now.Add(-time.Minute), verdict: "-"},
	} {
		if err := run.record(t, dir); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readStatus(t.Context(), dir, defaultWants, now)
	if err != nil {
		t.Fatal(err)
	}
	next := now.Add(5 * time.Hour)
	s.statusMachine = statusMachine{
		UnderWay: &statusHolder{4711, now.Add(-time.Minute), "ec-verify.service", "/usr/bin/ec-verify --offline", false},
		Reboot:   &statusReboot{"/nix/store/a-system", "/nix/store/b-system"}, GateClosed: new(bool),
		Timers: []statusTimer{
			{Unit: verifyTimer, State: systemd.TimerWaiting, Next: &next},
			{Unit: rebuildTimer, State: systemd.TimerUnknown, Why: "nobody answers"},
		},
		Forgotten: []systemd.Exit{{Unit: "ec-verify.service", Started: now.Add(-time.Second), Ended: now, Result: "exit-code", Status: 1}},
	}
	got, err := json.Marshal(s, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.ReplaceAll(string(got), dir, "/var/lib/ec-verify")+"\n"); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// Every member is documented.
	page, err := os.ReadFile("../../../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, ok := bytes.Cut(page, []byte("\n## Status as JSON\n"))
	if !ok {
		t.Fatal("docs/operating.md has no section on the JSON")
	}
	for line := range strings.Lines(string(got)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), `":`); ok && !bytes.Contains(page, []byte("`"+name[1:]+"`")) {
			t.Errorf("docs/operating.md has nothing about %s", name[1:])
		}
	}
}

// TestForgotten: a run of a unit that the ledger knows nothing of is told.
func TestForgotten(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ran := []systemd.Exit{{Unit: "ec-verify.service", Started: at, Ended: at.Add(time.Minute), Result: "exit-code", Status: 1}}
	ended := func(started, end time.Time) []ledger.Run {
		return []ledger.Run{{Started: started, End: &ledger.End{At: end}}}
	}
	for name, tc := range map[string]struct {
		s    status
		want int
	}{
		"nothing is remembered":    {status{}, 1},
		"it is the last one":       {status{runs: ended(at, at.Add(time.Second))}, 0},
		"it has no end":            {status{runs: ended(at.Add(-time.Hour), at.Add(-time.Hour)), OpenRun: &statusOpenRun{Started: at}}, 0},
		"the last one is older":    {status{runs: ended(at.Add(-time.Hour), at.Add(-time.Minute))}, 1},
		"the open one is older":    {status{OpenRun: &statusOpenRun{Started: at.Add(-time.Hour)}}, 1},
		"one by hand is the newer": {status{LastRun: &standing.Run{Finished: at.Add(time.Hour)}}, 0},
		// A look does not say what the service found.
		"a look is the newer": {status{runs: ended(at.Add(time.Hour), at.Add(2*time.Hour)), LastRun: &standing.Run{Finished: at.Add(-time.Hour)}}, 1},
	} {
		if got := tc.s.forgotten(ran); len(got) != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestStatusText: what is worth a look has a colour, what an outsider may have
// written can't mislead, and what is known is said.
func TestStatusText(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := now.Add(-2 * 24 * time.Hour)
	full := status{
		Now: now,
		LastRun: &standing.Run{
			ID: 41, Started: at, Finished: at.Add(41 * time.Second), Verdict: report.Unsettled, Tool: "v1\x1b[31m", Unsafe: "unsafe-skip eval",
			Release: &standing.Release{Tag: "boot-\x07"}, Configuration: "ec-runner-x86_64",
			Findings: map[report.Class]int{report.Drift: 2, report.Inconclusive: 1},
		},
		Standing: &statusStanding{
			Verdict: report.Drifted, Since: at.Add(-24 * time.Hour), More: 3,
			Findings: []standing.Finding{
				{Class: report.Drift, Cause: report.OtherProfile, Tier: report.TierLive, Path: "/nix/var/nix/profiles/system", Since: at},
				{Class: report.Drift, Cause: report.PendingAltered, Tier: report.TierLive, Path: "/boot/loader/entries/a.conf", Since: at},
				{Class: report.Drift, Cause: closure.DiskAltered, Tier: report.TierContents, Path: "/nix/store/a\n", Since: at},
				{Class: report.Drift, Cause: closure.DatabaseAltered, Tier: report.TierContents, Path: "/nix/store/a\n", Since: at},
				{Class: report.Inconclusive, Cause: report.EvaluationFailed, Tier: report.TierEval, Since: at},
			},
		},
		OpenRun: &statusOpenRun{Started: now.Add(-5 * time.Minute)},
		Tiers: []statusTier{
			{
				Name: ledger.Contents, Release: &standing.Release{}, Every: seconds(24 * time.Hour), Items: 12, Covered: 9, Overdue: 3, Future: 2, Drifted: 1, Pending: 12,
				Oldest: &at, CompleteSince: &at,
				DriftedItems: []statusItem{{Path: "/nix/store/a\n", At: &at, Result: ledger.Drifted, Cause: "disk-altered"}},
				Next:         []statusItem{{Path: "1"}, {Path: "2", At: &at}, {Path: "3"}, {Path: "4"}, {Path: "5"}},
			},
			{Name: ledger.Rebuild, Every: seconds(90 * time.Second)},
		},
		SetAside: []string{"/var/lib/ec-verify/ledger/ledger.db.damaged-20260228T000000Z"},
		statusMachine: statusMachine{
			Forgotten:  []systemd.Exit{{Unit: "ec-verify.service", Ended: now.Add(-time.Minute), Result: "exit-code", Status: 1}},
			Reboot:     &statusReboot{"/nix/store/a-system", "/nix/store/b-system"},
			Timers:     []statusTimer{{Unit: verifyTimer, State: systemd.TimerWaiting, Next: &at}, {Unit: rebuildTimer, State: systemd.TimerInactive}},
			GateClosed: new(bool),
		},
	}
	const want = `drifted for 3 days: release boot-\a (ec-runner-x86_64)

last run  inconclusive 1 day ago, 2026-02-27T12:00:41Z, after 41s, run 41,
          ec-verify v1\x1b[31m
findings  drift 2, inconclusive 1
weakened  by unsafe-skip eval
another   run began 5 minutes ago and has not ended: it is running or was killed
later     ec-verify.service ran 1 minute ago and ended with exit-code 1, which
          is not remembered: journalctl -u ec-verify.service
reboot    pending: it leads to /nix/store/b-system, booted is
          /nix/store/a-system; unsafe: the system profile or the boot menu leads
          to an altered system [pending-altered]
gate      open: every tool of root can set the system profile
next run  2 days ago, 2026-02-27T12:00:00Z (ec-verify.timer)
rebuild   none (ec-verify-rebuild.timer is not started)

 tier      items  covered  overdue  drifted  oldest  complete  every
 contents     12        9        3        1  2 days  2 days    1 day
 rebuild       -        -        -        -  -       -         off

contents: 2 checks bear a time to come, and count as overdue: the clock was
wrong then, or is now

found
  /nix/var/nix/profiles/system
    the system profile leads to a system that belongs to no accepted release
    [live, other-profile], for 2 days
    → If this was not intended, switch the machine back to the release;
    otherwise verify it against the release that it runs.
  /boot/loader/entries/a.conf
    the system profile or the boot menu leads to an altered system [live,
    pending-altered], for 2 days
    → Do not reboot: first lead both to a release that verifies (ec-verify
    switch), or repair this one (nix-store --verify --check-contents --repair)
    and run again.
  /nix/store/a\n
    the files on disk differ from the release [contents, disk-altered]; the Nix
    database disagrees with the release [contents, database-altered], for 2 days
    → Keep the disk as evidence; reinstall the release from a trusted medium,
    and find out who could write to the store. ec-verify explain PATH shows what
    differs.
  the embedded flake could not be evaluated [eval, evaluation-failed], for 2
  days
  → Read nix's message; all inputs of the flake must be in the store.
  … and 3 more
  → Not all of this was found by the last run: it counts until a run completes
  the same tier and verifies the machine.

next
  1
    contents, never checked
  2
    contents, inconclusive 2 days ago
  3
    contents, never checked
  … and 9 more, contents

damaged ledgers kept beside this one as evidence: 1; their contents
are lost:
  /var/lib/ec-verify/ledger/ledger.db.damaged-20260228T000000Z
`
	if diff := cmp.Diff(want, full.Text(terminal.Screen{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	colored := full.Text(terminal.Screen{Color: true})
	for _, painted := range []string{"\x1b[31;1mdrifted for 3 days", "\x1b[33;1m3\x1b[0m", "\x1b[31;1m1\x1b[0m"} {
		if !strings.Contains(colored, painted) {
			t.Errorf("%q is not painted:\n%q", painted, colored)
		}
	}
}

// TestStatusCheck: one line and one verdict, which is never better than the known state.
func TestStatusCheck(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	of := func(v report.Verdict, ago time.Duration) *status {
		at := now.Add(-ago)
		return &status{
			Now: now, Standing: &statusStanding{Verdict: v, Since: at},
			LastRun: &standing.Run{Finished: at, Verdict: v, Release: &standing.Release{Tag: "boot-v1"}, Configuration: "machine"},
		}
	}
	with := func(s *status, change func(*status)) *status { change(s); return s }
	exit := func(result string, code int) func(*status) {
		return func(s *status) {
			s.Forgotten = []systemd.Exit{{Unit: "ec-verify.service", Result: result, Status: code}}
		}
	}
	for name, tc := range map[string]struct {
		s    *status
		want report.Verdict
		line string
	}{
		"nothing":                 {&status{Now: now}, report.Unsettled, "inconclusive: no run of the policy has ended"},
		"verified":                {of(report.Verified, 3*time.Hour), report.Verified, "verified 3 hours ago: release boot-v1 (machine)"},
		"drifted":                 {of(report.Drifted, 3*time.Hour), report.Drifted, "drifted 3 hours ago: release boot-v1 (machine)"},
		"untrusted":               {of(report.Refused, 3*time.Hour), report.Refused, "untrusted 3 hours ago: release boot-v1 (machine)"},
		"too old":                 {of(report.Verified, 27*time.Hour), report.Unsettled, "inconclusive: the last run ended 1 day ago, and the limit is 26h0m0s (verified 1 day ago: release boot-v1 (machine))"},
		"drifted and too old":     {of(report.Drifted, 72*time.Hour), report.Drifted, "drifted: the last run ended 3 days ago, and the limit is 26h0m0s (drifted 3 days ago: release boot-v1 (machine))"},
		"in the future":           {of(report.Verified, -time.Hour), report.Unsettled, "inconclusive: the last run ended 1 hour in the future, and the limit is 26h0m0s (verified 1 hour in the future: release boot-v1 (machine))"},
		"a run died":              {with(of(report.Verified, time.Hour), func(s *status) { s.Died = &statusHolder{} }), report.Unsettled, "inconclusive: a run died since (verified 1 hour ago: release boot-v1 (machine))"},
		"a look died":             {with(of(report.Verified, time.Hour), func(s *status) { s.Died = &statusHolder{Look: true} }), report.Verified, "verified 1 hour ago: release boot-v1 (machine)"},
		"switched since":          {with(of(report.Verified, time.Hour), func(s *status) { s.Switched = &statusSwitched{"/nix/store/a", "/nix/store/b"} }), report.Unsettled, "inconclusive: no run has verified the system that runs (verified 1 hour ago: release boot-v1 (machine), before the machine switched to another system)"},
		"drift not remembered":    {with(of(report.Verified, time.Hour), exit("exit-code", 1)), report.Drifted, "drifted: ec-verify.service ended since with exit-code 1 (verified 1 hour ago: release boot-v1 (machine))"},
		"failure not remembered":  {with(of(report.Verified, time.Hour), exit("exit-code", 78)), report.Unsettled, "inconclusive: ec-verify.service ended since with exit-code 78 (verified 1 hour ago: release boot-v1 (machine))"},
		"verified not remembered": {with(of(report.Verified, time.Hour), exit("success", 0)), report.Verified, "verified 1 hour ago: release boot-v1 (machine)"},
	} {
		if v, line := tc.s.check(defaultMaxAge); v != tc.want || line != tc.line {
			t.Errorf("%s: got %s, %s", name, v, line)
		}
	}
}

// TestSwitchedSince: another system than that of the last run has no verdict.
func TestSwitchedSince(t *testing.T) {
	for _, tc := range []struct {
		last *standing.Run
		runs string
		want *statusSwitched
	}{
		{nil, "/nix/store/b", nil},
		{&standing.Run{}, "/nix/store/b", nil}, // of an older version
		{&standing.Run{System: "/nix/store/a"}, "", nil},
		{&standing.Run{System: "/nix/store/a"}, "/nix/store/a", nil},
		{&standing.Run{System: "/nix/store/a"}, "/nix/store/b", &statusSwitched{"/nix/store/a", "/nix/store/b"}},
	} {
		if got := switchedSince(tc.last, tc.runs); !cmp.Equal(got, tc.want) {
			t.Errorf("%+v, %s: %+v", tc.last, tc.runs, got)
		}
	}
	var b bytes.Buffer
	(&statusMachine{Switched: &statusSwitched{"/nix/store/a", "/nix/store/b"}}).writeMachine(&b, new(status))
	const want = "switched  since the last run, which is about /nix/store/a; /nix/store/b runs,\n          and no run has verified the machine with it: ec-verify\n"
	if b.String() != want {
		t.Errorf("got %q", b.String())
	}
}

// TestStatusWidth: no line has more than 80 columns, except for a longer word.
func TestStatusWidth(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := now.Add(-59 * time.Minute)
	long := "/nix/store/00000000000000000000000000000000-" + strings.Repeat("long-name-", 20)
	s := status{
		Now:      now,
		LastRun:  &standing.Run{ID: 1 << 40, Started: at, Finished: now, Tool: strings.Repeat("v", 40), Release: &standing.Release{Tag: strings.Repeat("t", 60)}, Configuration: strings.Repeat("c", 60)},
		Standing: &statusStanding{Since: at, Findings: []standing.Finding{{Cause: report.OtherBoot, Path: long, Since: at}}},
		Tiers: []statusTier{
			{Name: ledger.Contents, Release: &standing.Release{}, Every: seconds(9 * time.Hour), Items: 99999, Covered: 99999, Overdue: 99999, Drifted: 99999, Oldest: &at, CompleteSince: &at,
				DriftedItems: []statusItem{{Path: long}, {Path: long + "x"}}, Next: []statusItem{{Path: long}, {Path: long + "y"}}},
			{Name: ledger.Rebuild},
		},
		statusMachine: statusMachine{Reboot: &statusReboot{long[:70], long[:71]}, UnderWay: &statusHolder{Unit: "ec-verify.service"}},
	}
	text := s.Text(terminal.Screen{})
	for line := range strings.Lines(text) {
		if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 80 {
			t.Errorf("%d columns: %s", width, line)
		}
	}
	if n := strings.Count(text, "long-name-long"); n == 0 || t.Failed() {
		t.Logf("%s", text)
	}
}

// TestTimerWithoutNext: a timer that is started and never fires again is no timer
// that waits.
func TestTimerWithoutNext(t *testing.T) {
	var b bytes.Buffer
	elapsed := statusTimer{Unit: verifyTimer, State: systemd.TimerElapsed}
	elapsed.write(&b, &status{})
	const want = "next run  none (ec-verify.timer has no next run: systemctl status\n          ec-verify.timer says whether it understands OnCalendar=)\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestStatusWords(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := status{Now: now}
	for d, want := range map[time.Duration]string{
		0: "just now", time.Minute: "just now", -500 * time.Millisecond: "just now",
		-3 * time.Hour: "3 hours ago", 24 * time.Hour: "1 day in the future",
	} {
		if got := s.ago(now.Add(d)); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "1 day", 7 * 24 * time.Hour: "7 days", 36 * time.Hour: "36h0m0s", time.Minute: "1m0s",
	} {
		if got := span(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

// TestStatusGroupsPaths: paths with the same finding have one line each, and the finding
// comes once, below the last.
func TestStatusGroupsPaths(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := status{Now: now, Standing: &statusStanding{}}
	for _, f := range []struct {
		cause report.Cause
		path  string
	}{{closure.DiskAltered, "/a"}, {closure.DiskAltered, "/b"}, {closure.Missing, "/c"}, {closure.DiskAltered, "/d"}, {report.EvaluationFailed, ""}} {
		s.Standing.Findings = append(s.Standing.Findings, standing.Finding{Cause: f.cause, Tier: report.TierContents, Path: f.path, Since: now})
	}
	var b strings.Builder
	s.writeFindings(&b)
	const want = `found
  /a
  /b
    the files on disk differ from the release [contents, disk-altered], just now
    → Keep the disk as evidence; reinstall the release from a trusted medium,
    and find out who could write to the store. ec-verify explain PATH shows what
    differs.
  /c
    missing from the store [contents, missing], just now
    → Find out what removed it, and reinstall the release, or have Nix bring it
    back: nix-store --verify --check-contents --repair.
  /d
    the files on disk differ from the release [contents, disk-altered], just now
  the embedded flake could not be evaluated [contents, evaluation-failed], just
  now
  → Read nix's message; all inputs of the flake must be in the store.

`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// TestShortenedKeepsTheVersion: two systems that differ in their version do not look alike.
func TestShortenedKeepsTheVersion(t *testing.T) {
	for _, version := range []string{"26.05.1", "26.05.2"} {
		path := "/nix/store/" + strings.Repeat("a", 32) + "-nixos-system-testhost-" + version
		if got := shortened(path, 50); !strings.HasSuffix(got, version) || len([]rune(got)) != 50 {
			t.Errorf("%s: %s", path, got)
		}
	}
}
