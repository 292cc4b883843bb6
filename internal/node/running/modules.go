package running

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/report"
)

const (
	maxModules    = 4 << 20  // bytes of the kernel's list of modules
	maxModuleTree = 32 << 20 // bytes of the list of a kernel's modules
	// taintForced is the bit of the kernel's taint for a module that was loaded by
	// force.
	taintForced = 1 << 1
)

// checkModules compares the names of the loaded kernel modules with those that the booted
// system has for its kernel.
func (m *Machine) checkModules(l *look) error {
	if m.inContainer() {
		l.notSeen = append(l.notSeen, "the kernel's modules (this is a container)")
		return nil
	}
	loaded, err := hostfile.ReadSmall(proc+"/modules", maxModules)
	if isAbsent(err) {
		return nil // a kernel without modules
	}
	if err != nil {
		return err
	}
	release, err := hostfile.ReadSmall(proc+"/sys/kernel/osrelease", 100)
	if err != nil {
		return err
	}
	tree := moduleTree(string(release))
	has, err := m.modulesOf(tree)
	if err != nil {
		l.unseen(tree, err)
		return nil
	}
	for line := range strings.Lines(string(loaded)) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		l.checked++
		f := report.Finding{Cause: report.CodeUnknown, Path: "/sys/module/" + fields[0]}
		switch {
		case !has[fields[0]]:
			f.Want, f.Got = "a module of the booted system's kernel", "module "+fields[0]
		case len(fields) > 6 && strings.Contains(fields[6], "F"):
			f.Want, f.Got = "a module that loads without force", "loaded by force"
		default:
			continue
		}
		l.find(f)
	}
	taint, err := hostfile.ReadSmall(proc+"/sys/kernel/tainted", 100)
	if err != nil {
		return err
	}
	bits, err := strconv.ParseUint(strings.TrimSpace(string(taint)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s/sys/kernel/tainted: %w", proc, err)
	}
	if bits&taintForced != 0 {
		l.find(report.Finding{
			Cause: report.CodeUnknown, Path: "/proc/sys/kernel/tainted", Want: "no module loaded by force", Got: strconv.FormatUint(bits, 10),
		})
	}
	return nil
}

// moduleTree returns the directory in which the booted system has a kernel's modules.
func moduleTree(release string) string {
	return path.Join("/run/booted-system/kernel-modules/lib/modules", strings.TrimSpace(release))
}

// modulesOf returns the names of the modules in a tree of the accepted system, in the
// kernel's spelling.
func (m *Machine) modulesOf(tree string) (map[string]bool, error) {
	if p, _, err := m.Store.ResolveLink(tree + "/modules.dep"); err != nil || !m.hashed(p) {
		return nil, errors.New("it does not lead into an accepted system")
	}
	data, _, err := m.Store.ReadOutside(tree+"/modules.dep", maxModuleTree)
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		file, _, _ := strings.Cut(line, ":")
		name, _, _ := strings.Cut(path.Base(file), ".ko")
		has[strings.ReplaceAll(name, "-", "_")] = true
	}
	return has, nil
}

// lockModules is the unit of NixOS that ends the loading of modules
// (security.lockKernelModules).
const lockModules = "disable-kernel-module-loading.service"

// checkLocked finds a kernel that still loads modules although the configuration's unit
// has been started.
func (l *look) checkLocked(enabled bool, loaded func() (*Units, error)) {
	const name = settingsRoot + "kernel/modules_disabled"
	if !enabled {
		return
	}
	text, _, err := l.m.Store.ReadOutside(name, maxKernelSetting)
	if isAbsent(err) {
		return // a kernel without modules
	}
	if err != nil {
		l.unseen(name, err)
		return
	}
	l.checked++
	got := strings.TrimSpace(string(text))
	if got == "1" {
		return
	}
	units, err := loaded()
	if err != nil {
		l.unseen(name, fmt.Errorf("whether %s has run: %w", lockModules, err))
		return
	}
	// It is the last of a boot.
	if slices.ContainsFunc(units.Units, func(u Unit) bool { return u.Name == lockModules && u.Pending }) {
		l.notSeen = append(l.notSeen, name+" ("+lockModules+" has not run yet)")
		return
	}
	l.settingAltered(name, "1", got)
}
