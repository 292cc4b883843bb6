package running

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/mounted"
	"every.channel/ec-verify/internal/report"
)

// guardedDirs are the directories with programs, their settings, and the kernel's own
// data: mounts at or below them must be the release's. Other directories, such as /var,
// /home and /mnt, have data.
var guardedDirs = append([]string{
	"/nix", "/etc", "/boot", "/efi", "/proc", "/sys", "/run/current-system", "/run/booted-system", "/run/wrappers", "/run/opengl-driver", transientUnits,
}, slices.Concat(fixedDirs, runtimeUnits, generatedUnits)...)

// wayDirs are their parent directories: a mount there hides them.
var wayDirs = []string{"/", "/run", "/run/systemd", "/var/spool", "/var/cron"}

const (
	// maxGuarded limits the mounts of one namespace that are judged.
	maxGuarded = 1000
	// secretsDir is the directory in homes with the keys of users who may log in.
	secretsDir = "/.ssh"
)

// guarded reports whether a mount at point is judged.
func guarded(point string) bool {
	if slices.Contains(wayDirs, point) || strings.HasSuffix(point, secretsDir) || strings.Contains(point, secretsDir+"/") {
		return true
	}
	return slices.ContainsFunc(guardedDirs, func(dir string) bool { return beneath(point, dir) })
}

// onWay reports whether a mount at point may be on the way to one that is judged.
func onWay(point string) bool {
	return guarded(point) || beneath(point, "/home") || beneath(point, "/root") || point == "/var"
}

// beneath reports whether name is dir or is below it.
func beneath(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// kernelTypes are the file systems with the kernel's own data, each with the directory at
// or below which it belongs.
var kernelTypes = map[string]string{
	"proc": "/proc", "sysfs": "/sys", "binfmt_misc": "/proc/sys/fs/binfmt_misc", "nfsd": "/proc/fs/nfsd",
	"cgroup": "/sys/fs/cgroup", "cgroup2": "/sys/fs/cgroup", "bpf": "/sys/fs/bpf", "debugfs": "/sys/kernel/debug",
	"tracefs": "/sys/kernel", "securityfs": "/sys/kernel/security", "pstore": "/sys/fs/pstore", "configfs": "/sys/kernel/config",
	"efivarfs": "/sys/firmware/efi/efivars", "fusectl": "/sys/fs/fuse/connections", "selinuxfs": "/sys/fs/selinux", "resctrl": "/sys/fs/resctrl",
}

// ofKernel reports whether m has the kernel's own data in its proper place: the whole
// file system, or the part with that name.
func ofKernel(m *nixstore.Mount) bool {
	if m.Type == "autofs" {
		// Whatever it mounts is on top of it, and is judged by itself.
		return m.Root == "/"
	}
	dir, ok := kernelTypes[m.Type]
	if !ok || !beneath(m.Point, dir) {
		return false
	}
	if m.Type == "proc" || m.Type == "sysfs" {
		return m.Root == "/" && m.Point == dir || m.Root == strings.TrimPrefix(m.Point, dir)
	}
	return m.Root == "/"
}

// checkMounts compares the mounts with those of the release's configuration: as the first
// process sees them, and as each other process does.
func (m *Machine) checkMounts(ctx context.Context, l *look) error {
	want, err := m.expected(ctx)
	if err != nil {
		return err
	}
	first, err := m.FirstMounts()
	if err != nil {
		return err
	}
	first = slices.DeleteFunc(first, func(m nixstore.Mount) bool { return !onWay(m.Point) })
	if len(nixstore.Way(first, "/")) == 0 {
		return errors.New("the machine's first process has no root")
	}
	contained := m.inContainer()
	if contained {
		l.notSeen = append(l.notSeen, "mounts in /proc and /sys (this is a container)")
	}
	l.firstMounts(m, want, first, contained)
	return m.checkNamespaces(ctx, l, want, first)
}

// inContainer reports whether the machine shares its kernel with another one.
func (m *Machine) inContainer() bool {
	_, err := m.Store.Stat("/run/systemd/container")
	return err == nil
}

// firstMounts judges the mounts that the first process sees.
func (l *look) firstMounts(m *Machine, want *expected.Machine, first []nixstore.Mount, contained bool) {
	judge := mounted.Judge{
		Configured: func(point string) ([]mounted.Configured, error) { return m.configuredMounts(want, point) },
		Place: func(dir string) (nixstore.Place, error) {
			return nixstore.At(nixstore.Way(first, dir), dir), nil
		},
		Names: nixstore.DeviceNames,
	}
	judged := 0
	for _, point := range points(first) {
		if contained && ofKernelDirs(point) {
			continue
		}
		if judged++; judged > maxGuarded {
			l.unseen("/proc/1/mountinfo", fmt.Errorf("more than %d mounts in places that should have few or none", maxGuarded))
			return
		}
		l.checked++
		for _, odd := range judge.Odd(nixstore.Way(first, point)) {
			if !guarded(odd.Point) {
				continue // on the way to keys in homes
			}
			if configured, err := judge.Configured(odd.Point); (err != nil || len(configured) == 0) && isUsual(first, odd.Point) {
				continue
			}
			l.find(report.Finding{Cause: odd.Cause, Path: odd.Point, Want: odd.Want, Got: odd.Got, Detail: odd.Why})
		}
	}
}

// isUsual reports whether everything mounted at point is there on any machine, without
// being configured.
func isUsual(mounts []nixstore.Mount, point string) bool {
	for i := range mounts {
		m := &mounts[i]
		if m.Point != point {
			continue
		}
		// A disk for a boot loader that systemd found by itself, whose files the tier
		// "live" examines; and what an older NixOS mounts before there are units.
		boot := m.Type == "vfat" && m.Root == "/" && (point == "/boot" || point == "/efi")
		wrappers := m.Type == "tmpfs" && m.Root == "/" && point == wrappersDir
		// systemd mounts this if it can't write to /etc.
		machineID := m.Type == "tmpfs" && m.Root == "/machine-id" && point == "/etc/machine-id"
		if !boot && !wrappers && !machineID && !ofKernel(m) {
			return false
		}
	}
	return true
}

// points returns the points of mounts that are judged, each once, those above others
// first.
func points(mounts []nixstore.Mount) []string {
	var out []string
	for i := range mounts {
		if guarded(mounts[i].Point) {
			out = append(out, mounts[i].Point)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// configuredMounts returns the configuration's mounts at a point: from its fstab, and
// from the mount unit with that name.
func (m *Machine) configuredMounts(want *expected.Machine, point string) ([]mounted.Configured, error) {
	var out []mounted.Configured
	for _, c := range mounted.ParseFstab(strings.Join(want.Mounts, "\n")) {
		if c.Where == point {
			out = append(out, c)
		}
	}
	name := mounted.UnitName(point)
	i := slices.IndexFunc(want.Units, func(u expected.Unit) bool { return u.Path == name })
	if i >= 0 && want.Units[i].Target != "/dev/null" {
		text, err := m.readUnit(want.Units[i].Target)
		if err != nil {
			return nil, fmt.Errorf("the release's mount unit for it can't be read: %w", err)
		}
		if c, ok := mounted.ParseUnit(text); ok && c.Where == point {
			out = append(out, c)
		}
	}
	if len(out) == 0 && len(want.Mounts) == 0 {
		return nil, mounted.ErrNoFstab
	}
	return out, nil
}

// readUnit reads a file of an accepted system's unit from the store.
func (m *Machine) readUnit(target string) (string, error) {
	p, rest, err := m.Store.Dir().Within(target)
	if err != nil || !m.ofRelease(p) {
		return "", errors.Join(fmt.Errorf("%s does not belong to the release", path.Clean(target)), err)
	}
	text, err := m.Store.ReadFile(p, rest, maxUnitFile)
	return string(text), err
}
