package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
)

const (
	// askFor limits each question.
	askFor = 20 * time.Second
	// fetchAge is how old the last fetch may be: reports mention it after two days.
	fetchAge = 2 * 24 * time.Hour
)

// Machine is the examined machine, with the functions that query it.
type Machine struct {
	// File is the configuration file. If Mistakes is set, the configuration is invalid,
	// and Config has the defaults.
	File     string
	Config   config.Config
	Mistakes []config.Mistake
	Now      time.Time
	// Units asks systemd for units, Timers for timers.
	Units  func(ctx context.Context, names ...string) ([]systemd.Unit, error)
	Timers func(ctx context.Context, names ...string) ([]systemd.Timer, error)
	// Source checks that a source of releases answers.
	Source func(ctx context.Context, spec string) error
	// Release finds and checks an accepted release, without keeping anything.
	Release func(ctx context.Context, tag string) (Valid, error)
	// Fetched returns when every source last answered; zero for never.
	Fetched func() time.Time
	// Nix returns the version of nix; Database opens and closes the Nix database.
	Nix      func(ctx context.Context) (string, error)
	Database func(ctx context.Context) error
	// LastRun returns when the last remembered run ended; zero for none.
	LastRun func(ctx context.Context) (time.Time, error)
	// GateClosed reports whether ec-verify switch alone sets the system profile.
	GateClosed func() (bool, error)
	// Synchronised reports whether the clock follows a time server.
	Synchronised func() (bool, error)
}

// Valid is a valid release.
type Valid struct {
	Signer string
	// BestBefore, RefusedAfter and KeyNotAfter are as in [report.Release].
	BestBefore, RefusedAfter, KeyNotAfter time.Time
}

// Examine runs every check, in the order in which a run needs what they check.
func Examine(ctx context.Context, m Machine) []Result {
	units, unitsErr := m.Units(ctx, append(Services(m.Config), timers(m.Config)...)...)
	var all []Result
	for _, mistake := range m.Mistakes {
		all = append(all, Result{"configuration", Problem, mistake.Key, mistake.Error(), "correct the file: ec-verify.json(5)"})
	}
	if len(all) == 0 {
		all = Configured(m.File, m.Config, units, m.Now)
	}
	x := &machineExamination{Machine: m, units: units, unitsErr: unitsErr}
	for i := range all {
		// A run by hand has these rights.
		if all[i].Check == "machine" && all[i].State == Problem && x.byHand() {
			all[i].State, all[i].Found = Notice, "once it is installed, "+all[i].Found
		}
	}
	for _, check := range []struct {
		name string
		do   func(context.Context)
		// needs means that the check requires a valid configuration.
		needs bool
	}{
		{"sources", x.checkAnswers, true}, {"fetch", x.checkFetch, true}, {"releases", x.checkReleases, true}, {"flake", x.checkFlake, true},
		{"database", x.checkDatabase, false}, {"nix", x.checkVersion, false}, {"ledger", x.checkLedger, true}, {"clock", x.checkClock, false},
		{"units", x.checkUnits, false}, {"timer", x.checkTimer, false}, {"gate", x.checkGate, false},
	} {
		if check.needs && len(m.Mistakes) > 0 {
			continue
		}
		x.check = check.name
		asked, cancel := context.WithTimeout(ctx, askFor)
		check.do(asked)
		cancel()
	}
	return append(all, x.all...)
}

type machineExamination struct {
	results
	Machine
	units    []systemd.Unit
	unitsErr error
	lastRun  time.Time
}

// online returns the sources that are not directories.
func (x *machineExamination) online() []string {
	var specs []string
	for _, spec := range x.Config.Release.Source {
		source, err := release.NewSource(spec)
		if _, dir := source.(*release.DirSource); err == nil && !dir {
			specs = append(specs, spec)
		}
	}
	return specs
}

func (x *machineExamination) checkAnswers(ctx context.Context) {
	for _, spec := range x.online() {
		name := sourceNames([]string{spec})[0]
		if err := x.Source(ctx, spec); err != nil {
			x.problem("release.source", "check the address, the network and the token; runs use the fetched releases until the source answers", "%s does not answer: %s", name, err)
			continue
		}
		x.ok("%s answers", name)
	}
}

func (x *machineExamination) checkFetch(context.Context) {
	if len(x.online()) == 0 {
		return
	}
	start, more := "systemctl start "+FetchUnit, ", and journalctl -u "+FetchUnit
	if x.absent(FetchUnit) {
		start, more = "ec-verify release refresh", ""
	}
	switch at := x.Fetched(); {
	case at.IsZero():
		x.notice("", start, "nothing was fetched yet from all sources")
	case x.Now.Sub(at) > fetchAge:
		x.notice("", start+more, "the last fetch from all sources was on %s", at.UTC().Format(time.RFC3339))
	default:
		x.ok("last on %s", at.UTC().Format(time.RFC3339))
	}
}

func (x *machineExamination) checkReleases(ctx context.Context) {
	for _, tag := range x.Config.Release.Accept {
		valid, err := x.Release(ctx, tag)
		var untrusted *release.UntrustedError
		switch {
		case err == nil:
			x.checkWindow(tag, valid)
		case errors.As(err, &untrusted) && untrusted.Reason == release.ReasonRevoked:
			x.problem("release.accept", "accept a release that is not revoked, and if the machine runs this one, switch to that: ec-verify switch TAG", "%s: %s", tag, err)
		case errors.As(err, &untrusted):
			x.problem("release.accept", "publish and accept a release that is valid, or correct trust.keys: ec-verify.json(5)", "%s: %s", tag, err)
		default:
			x.problem("release.accept", "publish it at release.source, or accept one that is there: ec-verify release list", "%s: %s", tag, err)
		}
	}
}

// checkWindow says until when a release is accepted, if that is soon.
func (x *machineExamination) checkWindow(tag string, r Valid) {
	soon := func(at time.Time) bool {
		return !at.IsZero() && at.Sub(x.Now) < time.Duration(x.Config.Release.NoticeBefore)
	}
	const publish = "publish and accept a newer release"
	switch day := func(at time.Time) string { return at.UTC().Format(time.RFC3339) }; {
	case soon(r.BestBefore) && !x.Now.Before(r.BestBefore):
		x.notice("release.accept", publish, "%s is past its best-before date, %s, and refused after %s", tag, day(r.BestBefore), day(r.RefusedAfter))
	case soon(r.BestBefore):
		x.notice("release.accept", publish, "%s is best before %s, and refused after %s", tag, day(r.BestBefore), day(r.RefusedAfter))
	case soon(r.KeyNotAfter):
		x.notice("trust.keys", "sign it with a key that is valid for longer, or publish and accept a release that is", "%s is signed by %s, which is not valid after %s", tag, r.Signer, day(r.KeyNotAfter))
	default:
		x.ok("%s is valid, signed by %s", tag, r.Signer)
	}
}

func (x *machineExamination) checkFlake(context.Context) {
	name := filepath.Join(x.Config.StoreRoot, x.Config.Flake)
	if _, err := os.Stat(name); err != nil {
		x.problem("flake", "link the flake that this system is built of there (on NixOS the runner module does), or name its place with the key flake", "there is no flake at %s", name)
		return
	}
	x.ok("%s", name)
}

func (x *machineExamination) checkDatabase(ctx context.Context) {
	switch err := x.Database(ctx); {
	case errors.Is(err, fs.ErrNotExist):
		x.problem("", "run it on a machine with Nix", "there is no Nix database: %s", err)
	case errors.Is(err, fs.ErrPermission):
		x.problem("", "run ec-verify as root", "%s", err)
	case err != nil:
		x.problem("", "nix-store --verify says more; keep a copy of /nix/var/nix/db as evidence before you repair it", "%s", err)
	default:
		x.ok("readable")
	}
}

func (x *machineExamination) checkVersion(ctx context.Context) {
	version, err := x.Nix(ctx)
	if err != nil {
		x.problem("nix.binDir", "install Nix 2.18 or newer, or name the directory of its programs with nix.binDir", "%s", err)
		return
	}
	x.ok("%s", version)
}

func (x *machineExamination) checkLedger(ctx context.Context) {
	at, err := x.LastRun(ctx)
	x.lastRun = at
	start := "systemctl start " + VerifyUnit
	if x.absent(VerifyUnit) {
		start = "ec-verify"
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && at.IsZero():
		x.notice("", start, "no run is remembered yet")
	case err != nil:
		x.notice("stateDir", "ec-verify status says more; the next run sets a damaged ledger aside", "the results of earlier runs are unknown: %s", err)
	default:
		x.ok("the last run ended on %s", at.UTC().Format(time.RFC3339))
	}
}

func (x *machineExamination) checkClock(context.Context) {
	const remedy = "set the clock: timedatectl set-ntp true"
	newest := x.lastRun
	if fetched := x.Fetched(); fetched.After(newest) {
		newest = fetched
	}
	if x.Now.Before(newest.Add(-time.Minute)) {
		x.problem("", remedy, "the clock says %s, and something was written on %s", x.Now.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
		return
	}
	switch synchronised, err := x.Synchronised(); {
	case err != nil:
		x.unknown("", "whether the clock follows a time server is not known: %s", err)
	case !synchronised:
		x.notice("", remedy, "the clock does not follow a time server")
	default:
		x.ok("%s, follows a time server", x.Now.UTC().Format(time.RFC3339))
	}
}

// absent reports whether systemd was asked for a unit and has none.
func (x *machineExamination) absent(name string) bool {
	return slices.ContainsFunc(x.units, func(u systemd.Unit) bool { return u.Name == name && u.Absent })
}

// byHand reports whether none of the units is installed. If only some are, the installation
// is incomplete.
func (x *machineExamination) byHand() bool {
	return len(x.units) > 0 && !slices.ContainsFunc(x.units, func(u systemd.Unit) bool { return !u.Absent })
}

func (x *machineExamination) checkUnits(context.Context) {
	if x.unitsErr != nil {
		x.unknown("run it as root on a machine with systemd", "%s", x.unitsErr)
		return
	}
	if x.byHand() {
		x.notice("", "make install PREFIX=/usr, systemctl daemon-reload, and systemctl enable --now "+VerifyTimer, "none of the units is installed: only runs by hand verify this machine")
		return
	}
	for _, u := range x.units {
		if strings.HasSuffix(u.Name, ".timer") {
			continue
		}
		if u.Absent {
			x.problem("", "make install PREFIX=/usr, and systemctl daemon-reload", "there is no %s", u.Name)
			continue
		}
		if u.Stale {
			x.problem("", "systemctl daemon-reload", "%s was changed since systemd read it", u.Name)
		}
		for _, drop := range u.DropIns {
			x.notice("", "", "%s is changed by %s", u.Name, drop)
		}
		if len(u.Program) == 0 {
			x.problem("", "systemctl cat "+u.Name+": remove the drop-in with an empty ExecStart=", "%s runs nothing", u.Name)
		} else if _, err := os.Stat(u.Program[0]); err != nil {
			x.problem("", "make install with the PREFIX that the unit names, or systemctl edit "+u.Name, "%s runs %s, which is not there", u.Name, u.Program[0])
		}
	}
	if x.quiet() {
		x.ok("as they are shipped")
	}
}

func (x *machineExamination) checkTimer(ctx context.Context) {
	if x.byHand() {
		return // which the check of the units says
	}
	names := timers(x.Config)
	all, err := x.Timers(ctx, names...)
	for i, t := range all {
		name, nothing := names[i], "nothing verifies this machine"
		if name == RebuildTimer {
			nothing = "rebuild.choice requests rebuilds, and nothing makes them"
		}
		x.timer(name, nothing, t, err)
	}
}

// timer checks one timer; nothing describes the consequence if it is not started.
func (x *machineExamination) timer(name, nothing string, t systemd.Timer, err error) {
	enable := "systemctl enable --now " + name
	switch t.State {
	case systemd.TimerAbsent:
		x.problem("", "make install PREFIX=/usr, systemctl daemon-reload, and "+enable, "there is no %s", name)
	case systemd.TimerInactive:
		x.problem("", enable, "%s is not started: %s", name, nothing)
	case systemd.TimerElapsed:
		x.problem("", "systemctl status "+name+" says whether it understands OnCalendar=", "%s has no next run", name)
	case systemd.TimerRunning:
		x.ok("%s: a run is under way", name)
	case systemd.TimerWaiting:
		x.ok("%s: %s", name, nextRun(t.Next))
	default:
		x.unknown("run it as root on a machine with systemd", "%s", err)
	}
	for _, u := range x.units {
		if u.Name == name && u.Enabled == "disabled" && t.State != systemd.TimerInactive {
			x.problem("", enable, "%s is started, and will not be at the next boot", name)
		}
	}
}

// checkGate says whether other tools can set the system profile, and whether that is as
// the machine was set up.
func (x *machineExamination) checkGate(ctx context.Context) {
	if x.Config.StoreRoot != "" {
		x.ok("storeRoot names another disk, which has none")
		return
	}
	closed, err := x.GateClosed()
	if err != nil {
		x.unknown("", "whether other tools can set the system profile is not known: %s", err)
		return
	}
	units, err := x.Units(ctx, GateUnit)
	enabled := err == nil && len(units) == 1 && units[0].Enabled == "enabled"
	switch {
	case closed && enabled:
		x.ok("closed, also after the next boot")
	case closed:
		x.ok("closed until the next boot: %s is not enabled", GateUnit)
	case enabled:
		x.notice("", "find out who opened it, and systemctl restart "+GateUnit, "open, although %s is enabled", GateUnit)
	default:
		x.ok("open: every tool of root can set the system profile")
	}
}

func nextRun(at time.Time) string {
	if at.IsZero() {
		return "waiting"
	}
	return fmt.Sprintf("next run on %s", at.UTC().Format(time.RFC3339))
}
