package running

import (
	"context"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// kernelPrograms are where the kernel has the names of programs that it starts itself, as
// root: where a process crashes, a module is missing, a device appears, or the machine is
// turned off.
var kernelPrograms = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/sys/kernel/uevent_helper", "/proc/sys/kernel/poweroff_cmd",
}

// kernelDefaults are the kernel's initial values. The part "etc" checks these files.
var kernelDefaults = []string{"/sbin/modprobe", "/sbin/hotplug", "/sbin/poweroff"}

// Limits of the kernel's settings.
const (
	maxKernelSetting = 16 << 10 // bytes of one
	maxKernelShown   = 200      // bytes of one that a report shows
	maxFormats       = 10_000   // formats of programs
)

// checkKernel finds programs that the kernel would start and that do not belong to the
// accepted system.
func (m *Machine) checkKernel(ctx context.Context, l *look) error {
	if m.inContainer() {
		l.notSeen = append(l.notSeen, "settings of the kernel, and programs that it starts (this is a container)")
		return nil
	}
	want, err := m.expected(ctx)
	if err != nil {
		return err
	}
	for _, name := range kernelPrograms {
		l.kernelRuns(name, want.Sysctl, func(text string) string { return kernelProgram(name, text) })
	}
	l.checkSysctl(want.Sysctl, hasPrivate)
	mounts, err := m.FirstMounts()
	if err != nil {
		return err
	}
	for i := range mounts {
		switch at := mounts[i].Point; mounts[i].Type {
		case "cgroup":
			l.kernelRuns(path.Join(at, "release_agent"), nil, strings.TrimSpace)
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

// kernelProgram returns the program in a setting of the kernel, "" for none.
func kernelProgram(name, text string) string {
	if path.Base(name) == "core_pattern" {
		switch {
		case strings.HasPrefix(text, "@"):
			return text // a socket, to which it sends what a process had in memory
		case !strings.HasPrefix(text, "|"):
			return "" // a file
		}
		text = text[1:]
	}
	program, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	return program
}

// interpreterOf returns what runs the programs of a format, by binfmt_misc.
func interpreterOf(text string) string {
	for line := range strings.Lines(text) {
		if program, ok := strings.CutPrefix(line, "interpreter "); ok {
			return strings.TrimSuffix(program, "\n")
		}
	}
	return ""
}

// kernelRuns finds the program in a setting of the kernel that is not of an accepted
// system, nor set by the accepted system's lines of sysctl.d(5).
func (l *look) kernelRuns(name string, sysctl []string, programOf func(text string) string) {
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
	program := programOf(text)
	if program == "" || slices.Contains(kernelDefaults, program) {
		return
	}
	if p, _, err := l.m.Store.ResolveLink(program); err == nil && path.IsAbs(program) && l.m.hashed(p) {
		return
	}
	if slices.ContainsFunc(sysctl, func(line string) bool {
		key, value, _ := strings.Cut(strings.TrimPrefix(line, "-"), "=")
		return "/proc/sys/"+strings.ReplaceAll(strings.TrimSpace(key), ".", "/") == name && strings.TrimSpace(value) == text
	}) {
		return
	}
	l.find(report.Finding{
		Cause: report.CodeUnknown, Path: name, Want: "no program but one of the release", Got: "the kernel starts " + excerpt.Of(program, maxKernelShown),
	})
}
