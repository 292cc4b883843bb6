package node

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/runlock"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
)

// The timers that start runs, and the units that they start.
const (
	verifyTimer  = "ec-verify.timer"
	rebuildTimer = "ec-verify-rebuild.timer"

	verifyService  = "ec-verify.service"
	rebuildService = "ec-verify-rebuild.service"
)

// statusMachine is the state of the machine at one moment, beside the ledger.
type statusMachine struct {
	// UnderWay is the run that holds the state directory's lock; nil if none is visible.
	UnderWay *statusHolder `json:"underWay"`
	// Died is the last run that held it, if that crashed or was killed; else nil.
	Died *statusHolder `json:"died"`
	// Reboot is what a reboot would change; nil for nothing.
	Reboot *statusReboot `json:"pendingReboot"`
	// Switched means that another system runs than when the last run of the policy began;
	// nil if not, or if that is unknown.
	Switched *statusSwitched `json:"switched"`
	// GateClosed says whether ec-verify switch alone sets the system profile; nil if
	// unknown.
	GateClosed *bool         `json:"gateClosed"`
	Timers     []statusTimer `json:"timers"`
	// Forgotten are services that ran after the last run that is remembered.
	Forgotten []systemd.Exit `json:"forgotten"`
}

// forgotten returns the exits that s does not remember: its standing does not include
// their results.
func (s *status) forgotten(exits []systemd.Exit) []systemd.Exit {
	return slices.DeleteFunc(append([]systemd.Exit{}, exits...), s.remembers)
}

// remembers reports whether the ledger has the run of a service that ended so, or a newer
// run of the policy. A newer look does not count: it says nothing about the service's
// result.
func (s *status) remembers(e systemd.Exit) bool {
	// systemd's times are to the second here.
	began, ended := e.Started.Truncate(time.Second), e.Ended.Add(time.Second)
	return s.LastRun != nil && !began.After(s.LastRun.Finished) ||
		s.OpenRun != nil && !began.After(s.OpenRun.Started) ||
		slices.ContainsFunc(s.runs, func(r ledger.Run) bool {
			return r.End != nil && !r.Started.Before(began) && !r.End.At.After(ended)
		})
}

type statusHolder struct {
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Unit    string    `json:"unit"`
	Command string    `json:"command"`
	// Look means that it is not a run of the policy.
	Look bool `json:"look"`
}

type statusReboot struct {
	Booted string `json:"booted"`
	Next   string `json:"next"`
}

type statusSwitched struct {
	Before string `json:"before"`
	Runs   string `json:"runs"`
}

type statusTimer struct {
	Unit  string             `json:"unit"`
	State systemd.TimerState `json:"state"`
	// Next is nil if unknown.
	Next *time.Time `json:"next"`
	// Why is empty but where the state is unknown.
	Why string `json:"why"`
}

// lookAtMachine asks the machine. What can't be obtained is unknown, and no error.
func lookAtMachine(ctx context.Context, c config.Config) statusMachine {
	m := statusMachine{Timers: []statusTimer{}}
	if h, ok := runlock.Look(c.StateDir); ok {
		m.UnderWay = &statusHolder{h.PID, h.Since, h.Unit, h.Command, h.Look}
	}
	if h, died := runlock.Died(c.StateDir); died {
		m.Died = &statusHolder{h.PID, h.Since, h.Unit, h.Command, h.Look}
	}
	if c.StoreRoot == "" || c.StoreRoot == "/" {
		m.Reboot = pendingReboot(verify.BootedSystem, verify.SystemProfile)
		if closed, err := gateClosed(c.StoreDir); err == nil {
			m.GateClosed = &closed
		}
	}
	units := []string{verifyTimer, rebuildTimer}
	timers, err := systemd.Timers(ctx, units...)
	for i, t := range timers {
		s := statusTimer{Unit: units[i], State: t.State, Next: timeOf(t.Next)}
		if err != nil && t.State == systemd.TimerUnknown {
			s.Why = err.Error()
		}
		m.Timers = append(m.Timers, s)
	}
	return m
}

// runningSystem returns the system that runs; "" if c is about another disk, or if it is
// unknown.
func runningSystem(c config.Config) string {
	if c.StoreRoot != "" && c.StoreRoot != "/" {
		return ""
	}
	now, err := filepath.EvalSymlinks(verify.CurrentSystem)
	if err != nil {
		return "" // which a run reports
	}
	return now
}

// switchedSince compares the system that runs with that of a run; nil for no run.
func switchedSince(last *standing.Run, runs string) *statusSwitched {
	if last == nil || last.System == "" || runs == "" || runs == last.System {
		return nil
	}
	return &statusSwitched{last.System, runs}
}

// pendingReboot compares the booted system with the one that boots next. A dangling link
// gives nothing; a run reports it.
func pendingReboot(booted, profile string) *statusReboot {
	now, err := filepath.EvalSymlinks(booted)
	if err != nil {
		return nil
	}
	next, err := filepath.EvalSymlinks(profile)
	if err != nil || now == next {
		return nil
	}
	return &statusReboot{now, next}
}

// writeMachine writes m for people, as lines of the head of a status.
func (m *statusMachine) writeMachine(w io.Writer, s *status) {
	if m.UnderWay != nil {
		field(w, "running", "now, by "+report.Escape(m.UnderWay.String()))
	}
	if h := m.Died; h != nil {
		what := "the last run above is an older one"
		if h.Look {
			what = "it was a look, not a run of the policy"
		}
		field(w, "died", fmt.Sprintf("%s crashed or was killed without a verdict: %s", report.Escape(h.String()), what))
	}
	for _, e := range m.Forgotten {
		field(w, "later", fmt.Sprintf("%s ran %s and ended with %s %d, which is not remembered: journalctl -u %[1]s",
			report.Escape(e.Unit), s.ago(e.Ended), report.Escape(e.Result), e.Status))
	}
	if m.Switched != nil {
		field(w, "switched", fmt.Sprintf("since the last run, which is about %s; %s runs, and no run has verified the machine with it: ec-verify",
			shortened(m.Switched.Before, statusWidth-statusLabel-len(";")), shortened(m.Switched.Runs, statusWidth-statusLabel)))
	}
	m.writeReboot(w, s)
	if m.GateClosed != nil {
		field(w, "gate", gateWords(*m.GateClosed))
	}
	for i := range m.Timers {
		m.Timers[i].write(w, s)
	}
}

// writeReboot says whether a reboot is pending, and whether a run found that it starts
// what is altered, which the boot menu may do though the profile leads elsewhere.
func (m *statusMachine) writeReboot(w io.Writer, s *status) {
	var words []string
	if r := m.Reboot; r != nil {
		const wide = statusWidth - statusLabel - len(",")
		words = append(words, fmt.Sprintf("pending: it leads to %s, booted is %s", shortened(r.Next, wide), shortened(r.Booted, wide)))
	}
	if s.Standing != nil && slices.ContainsFunc(s.Standing.Findings, func(f standing.Finding) bool { return f.Cause == report.PendingAltered }) {
		words = append(words, fmt.Sprintf("unsafe: %s [%s]", report.Title(report.PendingAltered), report.PendingAltered))
	}
	if len(words) > 0 {
		field(w, "reboot", strings.Join(words, "; "))
	}
}

func (h *statusHolder) String() string {
	return runlock.Holder{PID: h.PID, Since: h.Since, Unit: h.Unit, Command: h.Command}.String()
}

func (t *statusTimer) write(w io.Writer, s *status) {
	label, what := "next run", t.Unit
	if t.Unit == rebuildTimer {
		label = "rebuild"
	}
	var words string
	switch t.State {
	case systemd.TimerWaiting:
		words = "not known"
		if t.Next != nil {
			words = fmt.Sprintf("%s, %s", humanize.RelTime(*t.Next, s.Now, "ago", "from now"), t.Next.Format(time.RFC3339))
		}
	case systemd.TimerRunning:
		words = "under way"
	case systemd.TimerElapsed:
		words = "none"
		what += " has no next run: systemctl status " + t.Unit + " says whether it understands OnCalendar="
	case systemd.TimerInactive:
		words = "none"
		what += " is not started"
	case systemd.TimerAbsent:
		words, what = "none", what+" is not installed"
	default:
		words, what = "unknown", report.Escape(t.Why)
	}
	// Where nobody knows of timers, once is enough.
	if t.Unit == rebuildTimer && (t.State == systemd.TimerUnknown || t.State == systemd.TimerAbsent) {
		return
	}
	field(w, label, fmt.Sprintf("%s (%s)", words, what))
}
