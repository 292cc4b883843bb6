package node

import (
	"context"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/metrics"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/report"
)

// writeMetrics writes what is known after the run with the report r, if the configuration
// asks for it. A failure is reported, and changes no verdict.
func (e *events) writeMetrics(r *report.Report) {
	// A mounted disk has none: they are this machine's.
	if e.config.Metrics.File == "" || newLedger(e.config) == nil {
		return
	}
	s := metrics.Snapshot{Report: r, Standing: e.stand.now}
	if e.known != nil {
		s.Ledger = &metrics.Ledger{}
		for _, t := range e.known.Tiers {
			s.Ledger.Tiers = append(s.Ledger.Tiers, tierMetrics(t))
		}
	}
	if err := metrics.Write(e.config.Metrics.File, s); err != nil {
		e.unmeasured(err)
	}
}

// unmeasured reports that metrics could not be written, to the journal or on stderr.
func (e *events) unmeasured(err error) {
	if e.journal != nil {
		e.journal.Send(systemd.Unmeasured(e.run, err))
		if n, _ := e.journal.Lost(); n == 0 && systemd.StderrIsJournal() {
			return
		}
	}
	e.app.Note(report.Escape(err.Error()))
}

func tierMetrics(t statusTier) metrics.Tier {
	m := metrics.Tier{
		Name: string(t.Name), Items: t.Items, Covered: t.Covered, Overdue: t.Overdue, Drifted: t.Drifted,
		Every: time.Duration(t.Every),
	}
	if t.Oldest != nil {
		m.Oldest = *t.Oldest
	}
	if t.CompleteSince != nil {
		m.Complete = *t.CompleteSince
	}
	return m
}

// fail has the metrics say that no run of the policy could be made, for the reason
// err, so that they do not go on saying that the machine is verified. It returns err.
func (e *events) fail(ctx context.Context, err error, dryRun bool) error {
	if !dryRun && e.stand.asked.Look() == "" {
		now := time.Now()
		e.readLedger(ctx)
		e.stand.now = standing.Without(e.before(ctx), now)
		e.writeMetrics(&report.Report{Started: now, Finished: now, Tool: terminal.ToolVersion(), Against: e.run.Against})
	}
	return err
}
