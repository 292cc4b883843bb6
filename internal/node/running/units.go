package running

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/report"
)

// Unit is a unit that the service manager has loaded.
type Unit struct {
	Name string
	// Fragment is the unit's file, empty for a unit without one, such as a device; DropIns
	// are the files that change it.
	Fragment string
	DropIns  []string
	// Stale says that a file was changed after it was loaded.
	Stale bool
	// Gone says that it is active, and that the service manager found no file of it
	// when it last looked.
	Gone bool
	// Active says that it runs, or has run and stays active.
	Active bool
	// Pending says that the service manager is starting or stopping it, or will.
	Pending bool
	// Commands and Environment are those of a service. Settings say which user runs the
	// commands and which files have more of the environment, such as "User=root".
	Commands              []Command
	Environment, Settings []string
}

// Units are the loaded units of the service manager.
type Units struct {
	Units []Unit
	// Begun and Done are when it ran its generators at boot, Loaded when it last began
	// to load units: after a boot's generators, and before those of a reload.
	Begun, Done, Loaded time.Time
	// Set is the time by which the clock was set since Loaded.
	Set time.Duration
	// Environment is the environment that it gives to everything it starts.
	Environment []string
	// dirs are the directories that it searches for units.
	dirs []string
}

// runtimeUnits are the directories in which a unit, or a generator, is put while
// the machine runs. On a NixOS there is nothing in them.
var runtimeUnits = []string{
	"/run/systemd/system", "/run/systemd/system.control", "/etc/systemd/system.control", "/run/systemd/system.attached",
	"/run/systemd/system-generators", "/run/systemd/system-environment-generators",
	"/run/systemd/user", "/run/systemd/user-generators", "/run/systemd/user-environment-generators",
}

// transientUnits has the units that programs ask the service manager for.
const transientUnits = "/run/systemd/transient"

// generatedUnits are the directories to which the service manager's generators write. It
// empties them before it runs the generators.
var generatedUnits = []string{"/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late"}

// checkUnits checks the files from which the service manager loaded its units, and the files
// in places where it would find units.
func (m *Machine) checkUnits(ctx context.Context, l *look) error {
	units, err := m.LoadedUnits(ctx)
	if err != nil {
		return err
	}
	want, err := m.expected(ctx)
	if err != nil {
		return err
	}
	g := &generated{look: l, Units: units, files: map[string]bool{}, tree: "none"}
	if at, ours := m.leadsIn(path.Join(want.EtcTree, "systemd/system")); ours {
		g.tree = at + "/"
	}
	for _, u := range want.Units {
		g.files[u.Target] = true
	}
	for i := range units.Units {
		g.checkLoaded(&units.Units[i])
	}
	l.checkFirewall(want, units)
	if err := l.checkManager(units.Environment); err != nil {
		return err
	}
	if err := g.checkDirs(ctx); err != nil {
		return err
	}
	// Another run of the generators writes all their files again.
	again, err := m.UnitsLoaded(ctx)
	if err != nil {
		return err
	}
	if !again.Equal(units.Loaded) {
		return errChanging
	}
	return nil
}

// checkLoaded checks the files from which the service manager loaded a unit.
func (g *generated) checkLoaded(u *Unit) {
	g.checked++
	foreign := false
	for _, name := range append([]string{u.Fragment}, u.DropIns...) {
		if name == "" || name == "/dev/null" || g.fine(name) {
			continue
		}
		f := report.Finding{Cause: report.UnitUnknown, Path: name, Got: "in effect for " + u.Name}
		if _, err := g.m.Store.Stat(name); isAbsent(err) {
			f.Got += "; it was removed"
		}
		foreign = foreign || g.m.excusedBy(f) < 0
		g.find(f)
	}
	switch {
	case u.Gone:
		g.find(report.Finding{Cause: report.UnitUnknown, Path: "unit " + u.Name, Got: "in effect without a file"})
	case u.Stale && !foreign:
		g.find(report.Finding{Cause: report.UnitStale, Path: "unit " + u.Name})
	case !u.Stale:
		g.checkEffect(u)
	}
}

// checkDirs looks for units where the service manager would find them.
func (g *generated) checkDirs(ctx context.Context) error {
	for _, dir := range runtimeUnits {
		if err := g.unitFiles(ctx, dir, nil); err != nil {
			return err
		}
	}
	if err := g.unitFiles(ctx, transientUnits, grouping); err != nil {
		return err
	}
	for _, dir := range generatedUnits {
		if err := g.unitFiles(ctx, dir, g.written); err != nil {
			return err
		}
	}
	return nil
}

// checkFirewall adds a finding if the configuration's firewall was stopped.
func (l *look) checkFirewall(want *expected.Machine, units *Units) {
	for _, name := range expected.FirewallUnits {
		if !want.Enables(name) || slices.ContainsFunc(units.Units, func(u Unit) bool { return u.Name == name && u.Active }) {
			continue
		}
		l.find(report.Finding{Cause: report.UnitAltered, Path: "unit " + name, Field: "state", Want: "active, as configured", Got: "not active"})
	}
}

// grouping reports whether a transient unit only groups processes and starts nothing, such
// as that of a session.
func grouping(name string) bool {
	name = strings.TrimPrefix(name, transientUnits+"/")
	unit, _, _ := strings.Cut(name, "/")
	unit = strings.TrimSuffix(unit, ".d")
	return strings.HasSuffix(unit, ".scope") || strings.HasSuffix(unit, ".slice")
}

const (
	// generatorSlack allows for clocks that are coarser than others.
	generatorSlack = time.Second
	// generatorTime is the longest time that generators may take at a reload. The service
	// manager does not report their end.
	generatorTime = 10 * time.Second
)

// generated identifies the files that generators wrote.
type generated struct {
	*look
	*Units
	files map[string]bool // of the accepted system's units
	tree  string          // the directory that they are in, with a slash behind it
}

// fine reports whether a file of a unit belongs to the accepted system, or may be in effect
// without a finding.
func (g *generated) fine(name string) bool {
	// The release does not activate every unit in its paths.
	if at, ours := g.m.leadsIn(name); ours && g.files[at] {
		return true
	}
	// A unit that the system masks is a link to /dev/null among its units.
	if at, ours := g.m.leadsIn(path.Dir(name)); ours && (at+"/" == g.tree || strings.HasPrefix(at, g.tree)) {
		return true
	}
	if strings.HasPrefix(name, transientUnits+"/") && grouping(name) {
		return true
	}
	for _, dir := range generatedUnits {
		if strings.HasPrefix(name, dir+"/") {
			return g.written(name)
		}
	}
	return false
}

// written reports whether a file was last changed while the generators ran. A program can
// set every time of a file except that of the last change.
func (g *generated) written(name string) bool {
	st, err := g.m.Store.Stat(name)
	if err != nil {
		return isAbsent(err)
	}
	within := func(changed, begin, end time.Time) bool {
		return !changed.Before(begin.Add(-generatorSlack)) && !changed.After(end.Add(generatorSlack))
	}
	changed, reloaded := time.Unix(st.Ctim.Unix()), g.Loaded.Add(generatorTime)
	// If the clock was set while generators ran, the file has a time of the new clock.
	return within(changed, g.Begun, g.Done) || within(changed, g.Loaded, reloaded) || within(changed.Add(-g.Set), g.Loaded, reloaded)
}

// unitFiles adds findings for the files in a directory of units, except those that are fine.
func (l *look) unitFiles(ctx context.Context, dir string, fine func(name string) bool) error {
	return l.entries(dir, func(name string, st *unix.Stat_t) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			if fine == nil || !fine(name) {
				l.find(report.Finding{Cause: report.UnitUnknown, Path: name, Got: "in a directory that the service manager searches"})
			}
		case strings.Count(name, "/") > etcDepth:
			l.unseen(name, fmt.Errorf("directories deeper than %d", etcDepth))
		default:
			return l.unitFiles(ctx, name, fine)
		}
		return nil
	})
}
