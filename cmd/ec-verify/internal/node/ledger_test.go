package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/report"
)

// TestLedgerOfThisMachine: a disk that is looked at from outside is not this
// machine, and nothing is remembered of it.
func TestLedgerOfThisMachine(t *testing.T) {
	for root, want := range map[string]bool{"": true, "/": false, "/mnt": false} {
		if got := newLedger(config.Config{StoreRoot: root, StateDir: "/var/lib/ec-verify"}); (got != nil) != want {
			t.Errorf("--store-root %q: %v", root, got)
		}
	}
}

// TestLedgerOfRun: the ledger is open for as long as the run is.
func TestLedgerOfRun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, ledger.FileName)
	if err := os.WriteFile(file, []byte("damaged by something"), 0o644); err != nil {
		t.Fatal(err)
	}
	for run := range 2 {
		r, err := stateLedger{dir: dir}.Begin(t.Context(), "v1")
		if err != nil {
			t.Fatal(err)
		}
		if first := r.SetAside() != ""; first != (run == 0) {
			t.Errorf("run %d: set aside: %q", run, r.SetAside())
		}
		if err := r.End(t.Context(), &report.Report{}, ledger.End{Verdict: "verified"}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ledger.OpenReadOnly(t.Context(), dir, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if runs, err := l.Runs(t.Context(), 10); err != nil || len(runs) != 2 || runs[0].End == nil {
		t.Errorf("%+v, %v", runs, err)
	}
}

func TestNoLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err := (stateLedger{dir: file}).Begin(t.Context(), "v1"); err == nil || r != nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, %v", r, err)
	}
}
