package running

import (
	"context"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// kernelPrograms are the files with the names of programs that the kernel starts itself, as
// root: when a process crashes, a module is missing, a device appears, or the machine is
// turned off.
var kernelPrograms = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/sys/kernel/uevent_helper", "/proc/sys/kernel/poweroff_cmd",
}

// kernelDefaults are the kernel's initial values. The part "etc" checks these files.
var kernelDefaults = []string{"/sbin/modprobe", "/sbin/hotplug", "/sbin/poweroff"}

// Limits of the kernel's settings.
const (
	maxKernelSetting = 16 << 10 // bytes of one
	maxKernelShown   = 200      // bytes of one setting in a report
	maxFormats       = 10_000   // formats of programs
)

// checkKernel finds programs that the kernel would start and that do not belong to the
// accepted system.
func (m *Machine) checkKernel(ctx context.Context, l *look) error {
	if m.inContainer() {
		l.notSeen = append(l.notSeen, "settings and security modules of the kernel, and programs that it starts (this is a container)")
		return nil
	}
	want, err := m.expected(ctx)
	if err != nil {
		return err
	}
	settings := sysctlSettings(want.Sysctl)
	for _, name := range kernelPrograms {
		l.kernelRuns(name, settings, func(text string) (string, string) { return kernelProgram(name, text) })
	}
	l.checkSysctl(settings, hasPrivate)
	l.checkLocked(want.Enables(lockModules), func() (*Units, error) { return m.LoadedUnits(ctx) })
	mounts, err := m.FirstMounts()
	if err != nil {
		return err
	}
	for i := range mounts {
		switch at := mounts[i].Point; mounts[i].Type {
		case "cgroup":
			l.kernelRuns(path.Join(at, "release_agent"), nil, func(text string) (string, string) { return strings.TrimSpace(text), "" })
		case "binfmt_misc":
			names, err := m.Store.List(at, maxFormats)
			if err != nil && !isAbsent(err) {
				l.unseen(at, err)
			}
			for _, name := range names {
				if name != "register" && name != "status" {
					l.kernelRuns(path.Join(at, name), nil, interpreterOf)
				}
			}
		}
	}
	return ctx.Err()
}

// kernelProgram returns the program in a setting of the kernel, "" for none, and its
// arguments.
func kernelProgram(name, text string) (program, arguments string) {
	if path.Base(name) == "core_pattern" {
		switch {
		case strings.HasPrefix(text, "@"):
			return text, "" // a socket that receives the memory of the crashed process
		case !strings.HasPrefix(text, "|"):
			return "", "" // a file
		}
		text = text[1:]
	}
	program, arguments, _ = strings.Cut(strings.TrimSpace(text), " ")
	return program, arguments
}

// interpreterOf returns the program that runs a format's programs, by binfmt_misc.
func interpreterOf(text string) (program, arguments string) {
	for line := range strings.Lines(text) {
		if program, ok := strings.CutPrefix(line, "interpreter "); ok {
			return strings.TrimSuffix(program, "\n"), ""
		}
	}
	return "", ""
}

// kernelRuns finds a program in a kernel setting that is neither the one in the accepted
// system's settings, nor a program of an accepted system without arguments. It also finds
// another file in the place of a program that these settings name.
func (l *look) kernelRuns(name string, wants map[string]setting, programOf func(text string) (program, arguments string)) {
	data, _, err := l.m.Store.ReadOutside(name, maxKernelSetting)
	if isAbsent(err) {
		return // a kernel without it
	}
	if err != nil {
		l.unseen(name, err)
		return
	}
	l.checked++
	text := strings.TrimSuffix(string(data), "\n")
	want, isSet := wants[name]
	program, arguments := programOf(text)
	switch {
	case isSet && sameSetting(want.value, text):
		return
	case program == "" || slices.Contains(kernelDefaults, program):
		if isSet && !want.mayFail {
			l.settingAltered(name, want.value, text)
		}
		return
	}
	if p, rest, err := l.m.Store.ResolveLink(program); err == nil && path.IsAbs(program) && l.m.hashed(p) {
		// The kernel shortens the text, and until the next boot it may be another release's.
		usual, _ := programOf(want.value)
		_, wanted, err := l.m.Store.Dir().Within(usual)
		named, asNamed, _ := l.m.Store.Dir().Within(program) // modprobe is a link to kmod
		if err == nil && (rest == wanted || l.m.hashed(named) && asNamed == wanted) || !isSet && arguments == "" {
			return
		}
	}
	l.find(report.Finding{
		Cause: report.CodeUnknown, Path: name, Want: "no program but one of the release",
		Got: "the kernel starts " + excerpt.Of(strings.TrimSpace(program+" "+arguments), maxKernelShown),
	})
}
