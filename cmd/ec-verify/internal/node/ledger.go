package node

import (
	"context"
	"errors"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
)

// stateLedger is the ledger in that directory as the verifier sees it. It is open
// while a run is under way.
type stateLedger struct {
	dir string
	// budgeted means that the run needs the results of earlier ones.
	budgeted bool
	// stand sets the standing after runs; nil to leave it.
	stand *keeper
	// ended, if not nil, is called with the ledger once the run's end is in it.
	ended func(ctx context.Context, l *ledger.Ledger)
}

// newLedger returns the ledger of runs; nil for a mounted disk, which is not this
// machine.
func newLedger(c config.Config) verify.Ledger {
	if c.StoreRoot != "" {
		return nil
	}
	return stateLedger{dir: ledger.Dir(c.StateDir), budgeted: c.Contents.Budget > 0}
}

func (s stateLedger) Begin(ctx context.Context, tool string) (verify.Recorder, error) {
	l, err := ledger.Open(ctx, s.dir, ledger.Options{Keep: s.budgeted})
	if err != nil {
		return nil, err
	}
	begin := l.Begin
	if s.stand != nil && s.stand.asked.Look() != "" {
		begin = l.BeginLook
	}
	r, err := begin(ctx, tool)
	if err != nil {
		l.Close()
		return nil, err
	}
	return runRecorder{r, l, s}, nil
}

// runRecorder closes the ledger with the run.
type runRecorder struct {
	*ledger.Recorder
	ledger *ledger.Ledger
	of     stateLedger
}

func (r runRecorder) SetAside() string { return r.ledger.SetAside() }

func (r runRecorder) Records(ctx context.Context, tier ledger.Tier) (ledger.Records, error) {
	return r.ledger.Records(ctx, tier)
}

func (r runRecorder) End(ctx context.Context, made *report.Report, end ledger.End) error {
	var failed error
	if r.of.stand != nil {
		end.Standing, failed = r.of.stand.after(ctx, r.ledger, r.Run(), made, end)
	}
	// That a rest could not be written, End says; Close would say it again.
	err := errors.Join(failed, r.Recorder.End(ctx, end))
	if err == nil && r.of.ended != nil {
		r.of.ended(ctx, r.ledger)
	}
	if err := errors.Join(err, r.ledger.Close()); err != nil {
		return err
	}
	return ledger.Publish(r.of.dir)
}
