package main

import (
	"context"
	"errors"
	"path/filepath"

	"every.channel/ec-verify/internal/config"
	"every.channel/ec-verify/internal/ledger"
	"every.channel/ec-verify/internal/verify"
)

// ledgerDir is where the ledger of a state directory lies: in a directory of its
// own, which the unit that fetches can't write to.
func ledgerDir(stateDir string) string { return filepath.Join(stateDir, "ledger") }

// stateLedger is the ledger in that directory as the verifier sees it. It is open
// while a run is under way.
type stateLedger struct{ dir string }

// newLedger returns where runs are remembered; nil for a disk looked at from
// outside, which isn't this machine.
func newLedger(c config.Config) verify.Ledger {
	if c.StoreRoot != "" && c.StoreRoot != "/" {
		return nil
	}
	return stateLedger{ledgerDir(c.StateDir)}
}

func (s stateLedger) Begin(ctx context.Context, tool string) (verify.Recorder, error) {
	l, err := ledger.Open(ctx, s.dir, ledger.Options{})
	if err != nil {
		return nil, err
	}
	r, err := l.Begin(ctx, tool)
	if err != nil {
		l.Close()
		return nil, err
	}
	return runRecorder{r, l, s.dir}, nil
}

// runRecorder closes the ledger with the run.
type runRecorder struct {
	*ledger.Recorder
	ledger *ledger.Ledger
	dir    string
}

func (r runRecorder) SetAside() string { return r.ledger.SetAside() }

func (r runRecorder) Records(ctx context.Context, tier ledger.Tier) (ledger.Records, error) {
	return r.ledger.Records(ctx, tier)
}

func (r runRecorder) End(ctx context.Context, end ledger.End) error {
	// That a rest could not be written, End says; Close would say it again.
	if err := errors.Join(r.Recorder.End(ctx, end), r.ledger.Close()); err != nil {
		return err
	}
	return ledger.Publish(r.dir)
}
