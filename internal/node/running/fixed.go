package running

import (
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/report"
)

// fixedLinks are the links that NixOS puts into directories that other systems use: each
// leads into the accepted system, and its target's last name is base unless that is "".
var fixedLinks = []struct{ at, base string }{
	{"/bin/sh", "sh"},
	{"/usr/bin/env", "env"},
	{"/lib64/ld-linux-x86-64.so.2", ""},
	{"/lib/ld-linux.so.2", ""},
	{"/lib/ld-linux-aarch64.so.1", ""},
	// The program's own, of modules/ec-verify.nix.
	{"/usr/local/lib/systemd/catalog/ec-verify.catalog", ""},
	// Graphics programs look here for libraries.
	{"/run/opengl-driver", ""},
	{"/run/opengl-driver-32", ""},
}

// fixedDirs are the directories with these links and nothing else. Some programs look in
// them for something to run, whatever the configuration says.
var fixedDirs = []string{
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", "/opt",
	// Jobs that run on a schedule, when a device appears, or at the next boot.
	"/var/spool/cron", "/var/cron/tabs",
	"/run/udev/rules.d", "/run/modprobe.d", "/run/modules-load.d", "/run/sysctl.d", "/run/binfmt.d", "/run/sysusers.d",
	// Polkit's rules, and what the service manager gives to everything it starts.
	"/run/polkit-1", "/run/environment.d", "/run/systemd/system.conf.d", "/run/systemd/user.conf.d", "/run/systemd/system.conf", "/run/systemd/user.conf",
	// Users and services that are listed nowhere else, programs that run at shutdown, and
	// the root of a soft reboot.
	"/run/userdb", "/run/host/userdb", "/run/dbus-1", "/run/initramfs/shutdown", "/run/nextroot",
	"/run/opengl-driver", "/run/opengl-driver-32",
	// Up to version 257, systemd reads these as words of the kernel's command line.
	"/sys/firmware/efi/efivars/SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67",
}

// fixedFiles are files that NixOS writes to such a directory, each with a check of its
// contents.
var fixedFiles = map[string]func(text string) bool{
	// By kmod-static-nodes.service.
	"/run/tmpfiles.d/static-nodes.conf": isDeviceNodes,
	// By the service atd, which counts jobs.
	"/var/spool/atjobs/.SEQ": func(text string) bool { return len(text) < 100 },
}

// filedDirs are the directories with such a file and nothing else.
var filedDirs = []string{"/run/tmpfiles.d", "/var/spool/atjobs"}

// isDeviceNodes reports whether lines of tmpfiles.d(5) only make devices in /dev.
func isDeviceNodes(text string) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 || !slices.Contains([]string{"c", "c!", "b", "b!", "d", "d!"}, f[0]) || path.Clean(f[1]) != strings.TrimSuffix(f[1], "/") || !strings.HasPrefix(f[1], "/dev/") {
			return false
		}
	}
	return true
}

// maxFiled limits such a file, in bytes.
const maxFiled = 1 << 20

// credentialDirs are where the service manager finds secrets for services.
var credentialDirs = []string{"/etc/credstore", "/etc/credstore.encrypted", "/run/credstore", "/run/credstore.encrypted"}

// telling are the prefixes of credentials that are not secrets of a service: systemd's
// own services take them as commands, users, keys and settings, see
// systemd.system-credentials(7).
var telling = []string{
	"agetty.", "firstboot.", "fstab.", "getty.", "home.", "import.", "login.", "network.", "passwd.", "shell.", "ssh.", "sysctl.",
	"systemd.", "sysusers.", "tmpfiles.", "tty.", "udev.", "userdb.", "vmm.",
}

// isTelling reports whether a credential is such a setting. Keys of WireGuard are
// secrets.
func isTelling(name string) bool {
	return !strings.HasPrefix(name, "network.wireguard.") &&
		slices.ContainsFunc(telling, func(begin string) bool { return strings.HasPrefix(name, begin) })
}

// checkFixed finds files that NixOS does not put into the directories that other systems
// use.
func (m *Machine) checkFixed(ctx context.Context, l *look) error {
	for _, dir := range fixedDirs {
		if err := l.fixed(ctx, dir); err != nil {
			return err
		}
	}
	for _, dir := range filedDirs {
		if err := l.entries(dir, func(name string, st *unix.Stat_t) error {
			if is := fixedFiles[name]; is != nil {
				if data, _, err := m.Store.ReadOutside(name, maxFiled); err == nil && is(string(data)) {
					return nil
				}
			}
			return l.foreign(ctx, name, st)
		}); err != nil {
			return err
		}
	}
	for _, dir := range credentialDirs {
		if err := l.entries(dir, func(name string, st *unix.Stat_t) error {
			if !isTelling(path.Base(name)) {
				return nil
			}
			return l.foreign(ctx, name, st)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (l *look) fixed(ctx context.Context, name string) error {
	st, err := l.m.Store.Stat(name)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		l.unseen(name, err)
		return nil
	}
	l.checked++
	onTheWay := false
	for _, link := range fixedLinks {
		if link.at == name && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return l.fixedLink(ctx, name, link.base, &st)
		}
		onTheWay = onTheWay || strings.HasPrefix(link.at, name+"/")
	}
	if !onTheWay || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return l.foreign(ctx, name, &st)
	}
	l.judgeOwner(name, &st)
	names, err := l.m.Store.List(name, maxEntries)
	if err != nil && !isAbsent(err) {
		l.unseen(name, err)
		return nil
	}
	for _, below := range names {
		if err := l.fixed(ctx, path.Join(name, below)); err != nil {
			return err
		}
	}
	return nil
}

func (l *look) fixedLink(ctx context.Context, name, base string, st *unix.Stat_t) error {
	// The last name of a link's target decides what runs: busybox goes by its name.
	target, _ := l.m.Store.Target(name)
	if _, ours := l.m.leadsIn(name); ours && (base == "" || path.Base(target) == base) {
		return nil
	}
	if base == "" {
		return l.foreign(ctx, name, st)
	}
	l.find(report.Finding{Cause: report.FileUnknown, Path: name, Want: "a link to " + base + " of the release", Got: "a link to " + target})
	return nil
}
