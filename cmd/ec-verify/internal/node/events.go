package node

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/rs/zerolog"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// events reports one run: in a unit to the journal, otherwise to the log. It is for one
// goroutine.
type events struct {
	app     *app
	config  config.Config
	run     systemd.Run
	journal *systemd.Journal // nil where events go to the log
	log     zerolog.Logger
	known   *status // what the ledger says after the run; nil where it can't be read
	stand   *keeper
}

// newEvents returns the events of a run with the configuration c; policy is the
// configuration file's.
func (a *app) newEvents(policy, c config.Config, against string) *events {
	e := &events{
		app: a, config: c, run: systemd.Run{Tool: terminal.ToolVersion(), Against: against}, log: a.Logger(),
		stand: &keeper{asked: askedBy(policy, c, against, currentUnit()), owed: owedBy(policy), system: runningSystem(c)},
	}
	if a.otherPolicy(policy) {
		e.stand.asked.Options = append(e.stand.asked.Options, "--config")
	}
	if against == "" {
		e.run.Against = strings.Join(c.Release.Accept, ", ")
	}
	a.JournalWhen = cmp.Or(a.JournalWhen, c.Journal.When)
	if a.Journals() {
		e.journal = systemd.NewJournal()
	}
	return e
}

// begin makes e report the start of v's run.
func (e *events) begin(v *verify.Verifier) {
	if v.Ledger == nil {
		e.send(systemd.Started(e.run))
		return
	}
	if own, ok := v.Ledger.(stateLedger); ok {
		own.stand = e.stand
		if e.heard() {
			own.ended = e.lookAt
		}
		v.Ledger = own
	}
	v.Ledger = startedLedger{v.Ledger, e}
}

// startedLedger reports the start of a run once it has its number.
type startedLedger struct {
	verify.Ledger
	events *events
}

func (l startedLedger) Begin(ctx context.Context, tool string) (verify.Recorder, error) {
	r, err := l.Ledger.Begin(ctx, tool)
	if numbered, ok := r.(interface{ Run() int64 }); ok && err == nil {
		l.events.run.ID = numbered.Run()
	}
	l.events.send(systemd.Started(l.events.run))
	return r, err
}

// settle sets r's standing, unless the ledger did, and writes it beside the ledger.
func (e *events) settle(ctx context.Context, r *report.Report) {
	if newLedger(e.config) == nil {
		e.stand.judge(standing.Standing{}, 0, r, nil)
		return
	}
	if r.Standing == nil {
		e.stand.judge(e.before(ctx), e.run.ID, r, comparedWith(r))
	}
	if e.stand.lost != "" {
		e.app.Note(fmt.Sprintf("the findings of earlier runs are lost, with %s; the standing is inconclusive until a run of everything that the policy requests verifies this machine", report.Escape(e.stand.lost)))
	}
	if r.Standing.Look != "" {
		return
	}
	if err := e.stand.keep(ledger.Dir(e.config.StateDir)); err != nil {
		e.log.Warn().Err(err).Msg("the machine's standing is not kept beside the ledger")
	}
}

// comparedWith returns nil for no release.
func comparedWith(r *report.Report) *standing.Release {
	if r.Release == nil {
		return nil
	}
	digest, err := hex.DecodeString(r.Release.Manifest)
	if err != nil || len(digest) != len(nar.Hash{}) {
		return nil
	}
	return releaseOf(ledger.Manifest{Tag: r.Release.Tag, SHA256: nar.Hash(digest)})
}

// before returns the standing that is kept.
func (e *events) before(ctx context.Context) (s standing.Standing) {
	dir := ledger.Dir(e.config.StateDir)
	l, err := ledger.OpenReadOnly(ctx, dir, ledger.Options{})
	if err == nil {
		defer l.Close()
	}
	s, e.stand.lost = recall(ctx, dir, l, err)
	return s
}

// end reports the end of the run with the report r. It returns whether a reader of the
// journal has seen all of it, so that the text need not be there as well.
func (e *events) end(ctx context.Context, r *report.Report) (told bool) {
	// An interrupted run is reported too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*ledger.DefaultWait)
	defer cancel()
	// The verdict comes last, where readers of a log look first.
	entries := systemd.Ended(e.run, r)
	if r.Standing.Look == "" {
		e.readLedger(ctx)
		e.writeMetrics(r)
		entries = append(e.overdue(), entries...)
	} else if e.journal != nil {
		// A look raises no alarm: whoever started it reads its output.
		for i := range entries {
			entries[i].Priority = max(entries[i].Priority, journal.PriNotice)
		}
	}
	e.send(entries...)
	if e.journal == nil {
		return false
	}
	if n, err := e.journal.Lost(); n > 0 {
		e.app.Note(report.Quantity(n, "event") + " not in the journal: " + report.Escape(err.Error()))
		return false
	}
	if err := e.journal.Flush(); err != nil {
		e.app.Note("the journal may not have all events: " + report.Escape(err.Error()))
		return false
	}
	return systemd.StdoutIsJournal()
}

// lookAt reads the state of this machine after the run, from the ledger that the run has
// open.
func (e *events) lookAt(ctx context.Context, l *ledger.Ledger) {
	// If this fails, readLedger tries again, and says why.
	e.known, _ = statusOf(ctx, l, e.wants(), time.Now())
}

// heard reports whether anything will report the state of the machine after the run, so
// that the whole ledger must be read again.
func (e *events) heard() bool {
	return e.journal != nil || e.config.Metrics.File != "" || e.log.GetLevel() != zerolog.Disabled
}

// readLedger reads the state of this machine after the run, unless that was done before.
func (e *events) readLedger(ctx context.Context) {
	if newLedger(e.config) == nil || e.known != nil || !e.heard() {
		return
	}
	known, err := readStatus(ctx, e.config.StateDir, e.wants(), time.Now())
	if err != nil {
		e.log.Warn().Err(err).Msg("the results of earlier runs are unknown")
		return
	}
	e.known = known
}

// wants returns what the policy asks of remembered checks.
func (e *events) wants() wants {
	return wants{e.config.Ledger.Policy(), e.config.Read, e.stand.owed}
}

// overdue returns an entry for each tier with overdue items.
func (e *events) overdue() []systemd.Entry {
	if e.known == nil {
		return nil
	}
	var entries []systemd.Entry
	for _, t := range e.known.Tiers {
		if t.Overdue == 0 {
			continue
		}
		o := systemd.Overdue{Tier: string(t.Name), Items: t.Items, Overdue: t.Overdue, Never: t.Never, Every: time.Duration(t.Every)}
		if t.Oldest != nil {
			o.Oldest = *t.Oldest
		}
		entries = append(entries, o.Entry(e.run))
	}
	return entries
}

// send sends entries to the journal, or logs them; findings are logged when they
// are made.
func (e *events) send(entries ...systemd.Entry) {
	if e.journal != nil {
		e.journal.Send(entries...)
		return
	}
	for _, entry := range entries {
		if entry.Event == systemd.FindingMade || entry.Event == systemd.RebootPending {
			continue
		}
		level := zerolog.InfoLevel
		if entry.Priority <= journal.PriWarning {
			level = zerolog.WarnLevel
		}
		first, _, _ := strings.Cut(entry.Message, "\n")
		e.log.WithLevel(level).Msg(first)
	}
}
