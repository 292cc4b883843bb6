package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// testLedger is a real ledger as the command has it, or one whose parts fail.
type testLedger struct {
	*ledger.Ledger
	begin, expect, end, records error
}

type testRecorder struct {
	*ledger.Recorder
	*testLedger
}

func (l *testLedger) Begin(ctx context.Context, tool string) (Recorder, error) {
	if l.begin != nil {
		return nil, l.begin
	}
	r, err := l.Ledger.Begin(ctx, tool)
	return testRecorder{r, l}, err
}

func (r testRecorder) Expect(ctx context.Context, inv ledger.Inventory) error {
	return errors.Join(r.expect, r.Recorder.Expect(ctx, inv))
}

func (r testRecorder) Records(ctx context.Context, tier ledger.Tier) (ledger.Records, error) {
	if r.records != nil {
		return nil, r.records
	}
	return r.Ledger.Records(ctx, tier)
}

func (r testRecorder) End(ctx context.Context, _ *report.Report, end ledger.End) error {
	return errors.Join(r.end, r.Recorder.End(ctx, end))
}

// remembering returns m's verifier with a ledger in dir.
func (m *machine) remembering(dir string) (*Verifier, *testLedger) {
	m.t.Helper()
	l, err := ledger.Open(m.t.Context(), dir, ledger.Options{})
	m.must(err)
	m.t.Cleanup(func() { l.Close() })
	v, tl := m.verifier(), &testLedger{Ledger: l}
	v.Ledger, v.Tool = tl, "v1.2.3"
	return v, tl
}

// remembered returns what the ledger says came of each path: result and cause
// of the last check.
func remembered(t *testing.T, l *testLedger) map[string]string {
	t.Helper()
	states, err := l.States(t.Context())
	state := states[ledger.Contents]
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, item := range state.Inventory.Items {
		c := state.Records[item.Key()].Last
		if out[short(string(item.Path))] = "never"; c.Done() {
			out[short(string(item.Path))] = c.Result.String() + " " + string(c.Cause)
		}
	}
	return out
}

func lastRun(t *testing.T, l *testLedger) ledger.Run {
	t.Helper()
	runs, err := l.Runs(t.Context(), 1)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%v, %v", runs, err)
	}
	return runs[0]
}

// TestRemember: each path is remembered with what the report says of it.
func TestRemember(t *testing.T) {
	const verified = "verified "
	for _, test := range []struct {
		name   string
		damage func(m *machine)
		want   map[string]string
		run    ledger.Findings
	}{
		{"all is well", func(*machine) {}, map[string]string{
			"data": verified, "lib": verified, "source": verified, "nixos-system": verified,
		}, ledger.Findings{}},
		{"a file altered", func(m *machine) { m.write(string(data)+"/a/file", "DATA") }, map[string]string{
			"data": "drifted disk-altered", "lib": verified, "source": verified, "nixos-system": verified,
		}, ledger.Findings{Drift: 1}},
		{"with the database made to match", func(m *machine) {
			m.write(string(data)+"/a/file", "DATA")
			m.claim(data)
		}, map[string]string{
			"data": "drifted replaced-unexplained", "lib": verified, "source": verified, "nixos-system": verified,
		}, ledger.Findings{Drift: 1}},
		{"a path missing", func(m *machine) { m.remove(string(lib)) }, map[string]string{
			"data": verified, "lib": "drifted missing", "source": verified, "nixos-system": verified,
		}, ledger.Findings{Drift: 1}},
		{"the right bytes, registered as something else", func(m *machine) {
			m.sql("update ValidPaths set hash = '" + otherHash("x") + "' where path = '" + string(lib) + "'")
		}, map[string]string{
			"data": verified, "lib": "drifted database-altered", "source": verified, "nixos-system": verified,
		}, ledger.Findings{Drift: 1}},
		{"no database", func(m *machine) { m.remove("/nix/var/nix/db") }, map[string]string{
			"data": verified, "lib": verified, "source": verified, "nixos-system": verified,
		}, ledger.Findings{Inconclusive: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			test.damage(m)
			v, l := m.remembering(t.TempDir())
			r := v.Verify(t.Context(), nil)
			if diff := cmp.Diff(test.want, remembered(t, l)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			run := lastRun(t, l)
			if run.End == nil || run.Tool != "v1.2.3" {
				t.Fatalf("%+v", run)
			}
			if run.End.Verdict != r.Verdict().String() || run.End.Configuration != testConfiguration || run.End.Manifest.Tag != string(testTag) || run.End.Manifest.SHA256.IsZero() {
				t.Errorf("%+v", run.End)
			}
			if diff := cmp.Diff(test.run, run.End.Findings); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestRememberRelease: what is remembered is of the release that it was held
// against, and a run that trusts none expects nothing.
func TestRememberRelease(t *testing.T) {
	m := newMachine(t)
	v, l := m.remembering(t.TempDir())
	v.Open = func(context.Context) []Candidate { return []Candidate{{Tag: "boot-none", Err: errors.New("away")}} }
	v.Unsafe, v.Skip = []string{"unsafe-skip eval"}, []report.TierName{report.TierEval}
	v.Verify(t.Context(), nil)
	run := lastRun(t, l)
	if run.End == nil || run.End.Verdict != "inconclusive" || run.End.Manifest != (ledger.Manifest{}) || run.End.Unsafe != "unsafe-skip eval" {
		t.Errorf("%+v", run.End)
	}
	if got := remembered(t, l); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// TestInterruptedRemembers: a run that was ended keeps what it finished, and
// says how it ended.
func TestInterruptedRemembers(t *testing.T) {
	m := newMachine(t)
	v, l := m.remembering(t.TempDir())
	if got := v.Verify(t.Context(), nil).Verdict(); got != report.Verified {
		t.Fatal(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m.eval.block = func(context.Context) { cancel() }
	v.Verify(ctx, nil)
	run := lastRun(t, l)
	if run.ID != 2 || run.End == nil || run.End.Verdict != "inconclusive" {
		t.Errorf("%+v", run)
	}
	if got := remembered(t, l); got["data"] != "verified " {
		t.Errorf("got %v", got)
	}
}

// TestNotRemembered: whatever of the ledger fails, the machine is verified all
// the same, and the report says so once.
func TestNotRemembered(t *testing.T) {
	broken := errors.New("the disk is full")
	for name, fail := range map[string]func(*testLedger){
		"begin":          func(l *testLedger) { l.begin = broken },
		"expect":         func(l *testLedger) { l.expect = broken },
		"end":            func(l *testLedger) { l.end = broken },
		"expect and end": func(l *testLedger) { l.expect, l.end = broken, broken },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			v, l := m.remembering(t.TempDir())
			fail(l)
			r := v.Verify(t.Context(), nil)
			expect(t, r, report.Verified, "not-remembered")
			if r.Findings[0].Detail != broken.Error() || r.Findings[0].Class() != report.Notice {
				t.Errorf("%+v", r.Findings[0])
			}
			if r.Coverage.Hashed != len(m.manifest.Paths) {
				t.Errorf("%d paths were hashed", r.Coverage.Hashed)
			}
		})
	}
}

// TestLedgerDamaged: that a damaged ledger was set aside stands in the report.
func TestLedgerDamaged(t *testing.T) {
	m, dir := newMachine(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ledger.FileName), []byte("damaged by something"), 0o644); err != nil {
		t.Fatal(err)
	}
	v, l := m.remembering(dir)
	r := v.Verify(t.Context(), nil)
	expect(t, r, report.Verified, "ledger-damaged "+l.SetAside())
	if l.SetAside() == "" || len(remembered(t, l)) != len(m.manifest.Paths) {
		t.Error("nothing is remembered in the new one")
	}
}

// TestKilledRemembers: paths that were hashed before a run was killed are remembered as
// verified, and no others.
func TestKilledRemembers(t *testing.T) {
	m := newMachine(t)
	m.write(string(data)+"/a/file", "DATA")
	v, l := m.remembering(t.TempDir())
	r := v.begin(nil)
	r.beginRemembering(t.Context())
	r.tier(t.Context(), tiers()[0])
	if _, err := r.openStore(); err != nil {
		t.Fatal(err)
	}
	defer r.store.Close()
	c := r.newContentsCheck()
	c.expectContents(t.Context())
	c.selected = everything(r.manifest.Paths)
	if _, err := c.hash(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Here it is killed: what came in is on the disk, and there is no end.
	if err := r.recorder.(testRecorder).Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{
		"data": "never", "lib": "verified ", "source": "verified ", "nixos-system": "verified ",
	}, remembered(t, l)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if lastRun(t, l).End != nil {
		t.Error("the run has an end")
	}
	var paths []closure.StorePath
	states, err := l.States(t.Context())
	state := states[ledger.Contents]
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range ledger.Select(state.Inventory.Items, state.Records, 1) {
		paths = append(paths, item.Path)
	}
	if len(paths) != 1 || paths[0] != data {
		t.Errorf("the next run begins with %v", paths)
	}
}
