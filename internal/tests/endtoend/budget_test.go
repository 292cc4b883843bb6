package endtoend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
)

// remembered is what a state directory's ledger says of a tier, read as any
// other program would.
func (m *machine) remembered(dir string, tier ledger.Tier) (ledger.State, []ledger.Run) {
	m.t.Helper()
	// A copy, journal included: SQLite would follow the path of the host's root
	// into this machine's own.
	copied := m.t.TempDir()
	for _, name := range []string{ledger.FileName, ledger.FileName + "-journal", ".ledger.lock"} {
		data, err := os.ReadFile(filepath.Join(m.Path(dir), "ledger", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.t.Fatal(err)
		}
		if err == nil {
			if err := os.WriteFile(filepath.Join(copied, name), data, 0o644); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	l, err := ledger.OpenReadOnly(context.Background(), copied, ledger.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	defer l.Close()
	states, err := l.States(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	runs, err := l.Runs(context.Background(), ledger.KeptRuns)
	if err != nil {
		m.t.Fatal(err)
	}
	return states[tier], runs
}

// lookedAt returns, in the order of turns before the run, what it looked at.
func (m *machine) lookedAt(before, after ledger.State, run int64) []ledger.Item {
	var items []ledger.Item
	for _, item := range ledger.Select(after.Inventory.Items, before.Records, 0) {
		if after.Records[item.Key()].Last.Run == run {
			items = append(items, item)
		}
	}
	return items
}

// inTurn fails if a run did not look at what had its turn, or passed over some.
func (m *machine) inTurn(before, after ledger.State, run int64) (took time.Duration) {
	m.t.Helper()
	got := m.lookedAt(before, after, run)
	want := ledger.Select(after.Inventory.Items, before.Records, 0)[:len(got)]
	if !slices.Equal(got, want) {
		m.t.Errorf("run %d looked at\n\t%v\nand the turn was that of\n\t%v", run, got, want)
	}
	for _, item := range got {
		took += after.Records[item.Key()].Last.Took
	}
	return took
}

// With a budget of a quarter of what everything takes, runs cover everything in
// turn, each uses its budget up, and then they begin again with the oldest.
func TestRebuildBudget(t *testing.T) {
	t.Parallel()
	m := startCases(t, "parts", nil)
	asks := func(state, budget string) {
		m.asPolicy(`, "stateDir": "` + state + `", "rebuild": {"choice": "first-party", "budget": "` + budget + `", "firstParty": ["part-*[02468]"]}, "unsafeSkip": ["eval"]`)
	}
	asks("/root/whole", "0s")
	m.verify().expect(t, "verified", 0)
	whole, _ := m.remembered("/root/whole", ledger.Rebuild)
	items := len(whole.Inventory.Items)
	need := m.inTurn(ledger.State{}, whole, 1)
	budget := need / 4
	asks(stateDir, budget.String())
	var before ledger.State
	covered, runs := 0, 0
	for covered < items {
		runs++
		a := m.verify()
		after, history := m.remembered(stateDir, ledger.Rebuild)
		m.inTurn(before, after, history[0].ID)
		before, covered = after, len(after.Records)
		if covered < items {
			a.expect(t, "inconclusive", 4, "budget-spent")
			if took := history[0].End.At.Sub(history[0].Started); took < budget {
				t.Errorf("run %d took %v, and had %v to build", runs, took, budget)
			}
		} else {
			a.expect(t, "verified", 0)
		}
		if status, checked := a.tier("rebuild"); checked == 0 {
			t.Fatalf("run %d built nothing: the tier is %s", runs, status)
		}
	}
	t.Logf("%d derivations, which took %v; a budget of %v: %d runs", items, need.Round(time.Millisecond), budget.Round(time.Millisecond), runs)
	// And again with the oldest.
	asks(stateDir, "1ns")
	a := m.verify()
	a.expect(t, "verified", 0)
	if _, checked := a.tier("rebuild"); checked != 1 {
		t.Errorf("%d derivations were rebuilt without time, want 1", checked)
	}
	after, history := m.remembered(stateDir, ledger.Rebuild)
	m.inTurn(before, after, history[0].ID)
	out := m.Run(program)
	if headline, _, _ := strings.Cut(out, "\n"); !strings.Contains(headline, "rebuild (1 of ") || !strings.Contains(headline, fmt.Sprintf("%d more by earlier runs within 90 days)", items-1)) {
		t.Errorf("the headline says more than was checked: %s", headline)
	}
}

// The same of store paths, by the configuration.
func TestContentsBudget(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.asPolicy(`, "contents": {"budget": "1ns"}`)
	paths := len(m.manifest.Paths)
	var before ledger.State
	for n := 1; n <= 3; n++ {
		a := m.verify()
		if len(a.causes()) != 1 || !a.has("coverage-overdue") || a.code != 4 {
			t.Errorf("run %d: exit %d, findings %q", n, a.code, a.causes())
		}
		if c := a.Coverage; c.Hashed != 1 || c.Remembered != n-1 || c.Overdue != paths-n {
			t.Errorf("run %d: %+v", n, c)
		}
		after, history := m.remembered(stateDir, ledger.Contents)
		m.inTurn(before, after, history[0].ID)
		before = after
	}
	m.asPolicy("")
	m.verify().expect(t, "verified", 0)
	m.asPolicy(`, "contents": {"budget": "1ns"}`)
	a := m.verify()
	a.expect(t, "verified", 0)
	if c := a.Coverage; c.Hashed != 1 || c.Remembered != paths-1 || c.Overdue != 0 {
		t.Errorf("%+v", c)
	}
	// The policy is the configuration's: nothing that is remembered is so new.
	m.asPolicy(`, "contents": {"budget": "1ns"}, "ledger": {"contentsEvery": "1ns"}`)
	if a := m.verify(); a.code != 4 || a.Coverage.Overdue != paths-1 {
		t.Errorf("exit %d, %+v", a.code, a.Coverage)
	}
	// What is found once is found again, until it is mended.
	m.asPolicy("")
	file := m.path("program-01-1.1") + "/bin/program-01"
	m.FlipByte(file, 3)
	m.verify().expect(t, "drifted", 1, "disk-altered "+m.path("program-01-1.1")+" bin/program-01:content")
	m.asPolicy(`, "contents": {"budget": "1ns"}`)
	for range 3 {
		m.verify().expect(t, "drifted", 1, "disk-altered "+m.path("program-01-1.1")+" bin/program-01:content")
	}
	m.FlipByte(file, 3)
	m.verify().expect(t, "verified", 0)
	// Without a ledger nobody answers for the rest.
	m.Run("sh", "-euc", `rm -r /var/lib/ec-verify; mount -t tmpfs -o ro,mode=755 none "$(mkdir /var/lib/ec-verify; echo /var/lib/ec-verify)"`)
	if a := m.verify(); a.Verdict != "verified" || a.Coverage.Hashed != paths {
		t.Errorf("%s, %+v", a.Verdict, a.Coverage)
	}
}

// A run that is killed loses what it did in its last second and nothing else,
// and the next one goes on there.
func TestRebuildKilled(t *testing.T) {
	t.Parallel()
	m := startCases(t, "cases", nil)
	m.asPolicy(`, "rebuild": {"choice": "first-party", "firstParty": ["part-[01]*", "clock-*", "pair", "triple", "after-clock", "fails", "fixed"]}, "unsafeSkip": ["eval"]`)
	argv := []string{program, "--against", tag, "--release", releases, "--unsafe-unsigned", "--rebuild", "first-party"}
	// What a derivation can come to, by its name.
	results := func(name string) ledger.Result {
		name = strings.TrimSuffix(name, ".drv")
		switch {
		case strings.HasPrefix(name, "clock-"), name == "pair", name == "triple":
			return ledger.Drifted
		case name == "fails":
			return ledger.Inconclusive
		}
		return ledger.Verified
	}
	m.Run("mkdir", "-p", stateDir)
	var before ledger.State
	var lastRun int64
	// A run that began is killed at once, some time later, or when it has remembered
	// something.
	const began, done = "select count(*) from runs where id > ", "select count(*) from checks join items on id = item where tier = 'rebuild' and run > "
	type moment struct {
		question string
		pause    float64
	}
	moments := []moment{{began, 0}, {done, 0}, {began, 0.1}, {done, 0.2}, {began, 0.4}, {done, 0.5}, {began, 0.7}, {done, 0}, {began, 0.9}, {done, 0.3}}
	for at, quick := 0, 0; at < len(moments); {
		m.Run(append([]string{"bash", "-c", `
			question=$1 pause=$2; shift 2
			setsid "$@" >/tmp/said 2>&1 & pid=$!
			until [ "$(sqlite3 -readonly -cmd ".timeout 10000" ` + ledgerFile + ` "$question" 2>/dev/null || echo 0)" -gt 0 ] || ! kill -0 $pid; do sleep 0.02; done
			sleep "$pause"; kill -KILL -- -$pid; wait $pid; exit 0`, "sh", moments[at].question + fmt.Sprint(lastRun), fmt.Sprint(moments[at].pause)}, argv...)...)
		now, runs := m.remembered(stateDir, ledger.Rebuild)
		if runs[0].ID != lastRun+1 {
			t.Fatalf("after run %d: %+v, %+v\n%s", lastRun, runs[0], runs[0].End, m.Run("head", "-1", "/tmp/said"))
		}
		lastRun = runs[0].ID
		if runs[0].End == nil {
			at++
		} else if quick++; quick > 20 { // it was done before it was killed
			t.Fatalf("of %d runs only %d were killed", lastRun, at)
		} else {
			moments[at].pause /= 2
		}
		m.inTurn(before, now, lastRun)
		for key, was := range before.Records {
			is := now.Records[key]
			if is.Last.Run < was.Last.Run || is.Settled.Run < was.Settled.Run {
				t.Errorf("%s: %+v was forgotten, there is %+v", key.Path, was, is)
			}
		}
		for key, record := range now.Records {
			if want := results(key.Path.Name()); record.Last.Result != want {
				t.Errorf("%s is remembered as %s, want %s", key.Path, record.Last.Result, want)
			}
		}
		before = now
	}
	t.Logf("%d of %d derivations were done by %d runs, of which %d were killed", len(before.Records), len(before.Inventory.Items), lastRun, len(moments))
	a := m.verify("--rebuild", "first-party")
	if a.Verdict != "drifted" {
		t.Errorf("got %s, findings %q", a.Verdict, a.causes())
	}
	now, runs := m.remembered(stateDir, ledger.Rebuild)
	if runs[0].End == nil || len(now.Records) != len(now.Inventory.Items) {
		t.Errorf("%d of %d are remembered by a run that came to its end: %+v", len(now.Records), len(now.Inventory.Items), runs[0])
	}
	m.inTurn(before, now, runs[0].ID)
	if aside, _ := filepath.Glob(m.Path(stateDir) + "/ledger/*.damaged-*"); len(aside) > 0 {
		t.Errorf("set aside as damaged: %q", aside)
	}
}
