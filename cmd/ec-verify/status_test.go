package main

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

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"every.channel/ec-verify/internal/ledger"
	"every.channel/ec-verify/internal/systemd"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// TestStatusScripts runs testdata/script/status*.txtar. Beside what testscript
// knows they have:
//
//	exits CODE ARG...       runs ec-verify, which must exit with CODE
//	ledger DIR AGO VERDICT N/M [K]
//	                        records a run that began AGO, a duration, verified N
//	                        items of M and ended with VERDICT ("-" for none); K
//	                        of the N drifted
func TestStatusScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/status*.txtar")
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
				a := newApp(ts.Stdout(), ts.Stderr())
				cmd := newRootCommand(a)
				cmd.SetArgs(args[1:])
				if code := a.exitCode(t.Context(), cmd.ExecuteContext(t.Context())); strconv.Itoa(code) != args[0] {
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
	l, err := ledger.Open(t.Context(), ledgerDir(dir), ledger.Options{Now: func() time.Time { return now }})
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
	return rec.End(t.Context(), ledger.End{
		Verdict: run.verdict, Manifest: manifest, Configuration: "ec-runner-x86_64",
		Findings: ledger.Findings{Drift: run.drifted},
	})
}

// TestStatusJSON holds the JSON form to the one that docs/status.md describes.
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
	s, err := readStatus(t.Context(), dir, ledger.DefaultPolicy(), nar.ReadCached, now)
	if err != nil {
		t.Fatal(err)
	}
	next := now.Add(5 * time.Hour)
	s.statusMachine = statusMachine{
		UnderWay: &statusHolder{4711, now.Add(-time.Minute), "ec-verify.service", "/usr/bin/ec-verify --offline"},
		Reboot:   &statusReboot{"/nix/store/a-system", "/nix/store/b-system"},
		Timers: []statusTimer{
			{Unit: verifyTimer, State: systemd.TimerWaiting, Next: &next},
			{Unit: rebuildTimer, State: systemd.TimerUnknown, Why: "nobody answers"},
		},
		Forgotten: []statusExit{{"ec-verify.service", now.Add(-time.Second), now, "exit-code", 1}},
	}
	got, err := json.Marshal(s, jsontext.WithIndent("  "))
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
	page, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(got)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), `":`); ok && !bytes.Contains(page, []byte("`"+name[1:]+"`")) {
			t.Errorf("docs/status.md has nothing about %s", name[1:])
		}
	}
}

// TestForgotten: a run of a unit that the ledger knows nothing of is told.
func TestForgotten(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ran := []systemd.Exit{{Unit: "ec-verify.service", Began: at, Ended: at.Add(time.Minute), Result: "exit-code", Status: 1}}
	for name, tc := range map[string]struct {
		s    status
		want int
	}{
		"nothing is remembered":    {status{}, 1},
		"it is the last one":       {status{LastRun: &statusRun{Finished: at.Add(time.Second)}}, 0},
		"it has no end":            {status{LastRun: &statusRun{Finished: at.Add(-time.Hour)}, OpenRun: &statusOpenRun{Started: at}}, 0},
		"the last one is older":    {status{LastRun: &statusRun{Finished: at.Add(-time.Hour)}}, 1},
		"the open one is older":    {status{OpenRun: &statusOpenRun{Started: at.Add(-time.Hour)}}, 1},
		"one by hand is the newer": {status{LastRun: &statusRun{Finished: at.Add(time.Hour)}}, 0},
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
		LastRun: &statusRun{
			ID: 41, Started: at, Finished: at.Add(41 * time.Second), Verdict: "drifted", Tool: "v1\x1b[31m", Unsafe: "unsafe-skip eval",
			Release: &statusRelease{Tag: "boot-\x07"}, Configuration: "ec-runner-x86_64",
			Findings: ledger.Findings{Drift: 2, Inconclusive: 1},
		},
		OpenRun: &statusOpenRun{Started: now.Add(-5 * time.Minute)},
		Tiers: []statusTier{
			{
				Name: ledger.Contents, Release: &statusRelease{}, EverySeconds: 24 * 3600, Items: 12, Covered: 9, Overdue: 3, Future: 2, Drifted: 1, Pending: 12,
				Oldest: &at, CompleteSince: &at,
				DriftedItems: []statusItem{{Path: "/nix/store/a\n", At: &at, Result: ledger.Drifted, Cause: "disk-altered"}},
				Next:         []statusItem{{Path: "1"}, {Path: "2", At: &at}, {Path: "3"}, {Path: "4"}, {Path: "5"}},
			},
			{Name: ledger.Rebuild, EverySeconds: 90},
		},
		SetAside: []string{"/var/lib/ec-verify/ledger/ledger.db.damaged-20260228T000000Z"},
		statusMachine: statusMachine{
			Forgotten: []statusExit{{Unit: "ec-verify.service", Ended: now.Add(-time.Minute), Result: "exit-code", Status: 1}},
			Reboot:    &statusReboot{"/nix/store/a-system", "/nix/store/b-system"},
			Timers:    []statusTimer{{Unit: verifyTimer, State: systemd.TimerWaiting, Next: &at}, {Unit: rebuildTimer, State: systemd.TimerInactive}},
		},
	}
	const want = `drifted 1 day ago: release boot-\a (ec-runner-x86_64)

ended     2026-02-27T12:00:41Z, after 41s, ec-verify v1\x1b[31m, run 41
findings  2 drift, 1 inconclusive
weakened  by unsafe-skip eval
another   run began 5 minutes ago and has no end yet: it is under way, or was killed
later     ec-verify.service ran 1 minute ago and ended with exit-code 1, which is not remembered: journalctl -u ec-verify.service
reboot    pending: it leads to /nix/store/b-system, booted is /nix/store/a-system
next run  2 days ago, 2026-02-27T12:00:00Z (ec-verify.timer)
rebuild   none (ec-verify-rebuild.timer is not started)

 tier      items  covered  overdue  drifted  oldest      complete pass  asked for
 contents     12        9        3        1  2 days ago  2 days ago     every 1 day
 rebuild       -        -        -        -  -           -              nothing was ever asked for

contents: 2 checks bear a time to come, and count as overdue: the clock was wrong then, or is now

drifted
  contents  /nix/store/a\n, drifted 2 days ago [disk-altered]

next
  contents  1, never checked
  contents  2, inconclusive 2 days ago
  contents  3, never checked
  contents  … and 9 more

damaged ledgers lie beside this one as evidence, 1 of them; what they remembered is lost:
  /var/lib/ec-verify/ledger/ledger.db.damaged-20260228T000000Z
`
	var b bytes.Buffer
	if err := full.writeText(&b, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	b.Reset()
	if err := full.writeText(&b, true); err != nil {
		t.Fatal(err)
	}
	for _, painted := range []string{"\x1b[31;1mdrifted 1 day ago", "\x1b[33;1m3\x1b[0m", "\x1b[31;1m1\x1b[0m"} {
		if !strings.Contains(b.String(), painted) {
			t.Errorf("%q is not painted:\n%q", painted, b.String())
		}
	}
}

// TestTimerWithoutNext: a timer that is started and never fires again is no timer
// that waits.
func TestTimerWithoutNext(t *testing.T) {
	var b bytes.Buffer
	elapsed := statusTimer{Unit: verifyTimer, State: systemd.TimerElapsed}
	elapsed.write(&b, &status{}, false)
	const want = "next run  none (ec-verify.timer has no next run: systemctl status ec-verify.timer says whether it understands OnCalendar=)\n"
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
