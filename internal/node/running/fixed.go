package running

import (
	"context"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/report"
)

// fixedLinks are what NixOS puts into the directories of other systems: a link
// into the accepted system, whose last name is base where that is not "".
var fixedLinks = []struct{ at, base string }{
	{"/bin/sh", "sh"},
	{"/usr/bin/env", "env"},
	{"/lib64/ld-linux-x86-64.so.2", ""},
	{"/lib/ld-linux.so.2", ""},
	{"/lib/ld-linux-aarch64.so.1", ""},
	// The program's own, of modules/ec-verify.nix.
	{"/usr/local/lib/systemd/catalog/ec-verify.catalog", ""},
}

// fixedDirs are the directories that hold these links and nothing else. Some
// programs look in them for what to run, whatever the configuration says.
var fixedDirs = []string{
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", "/opt",
	// What is run by the clock, when a device appears, or at the next boot.
	"/var/spool/cron", "/var/cron/tabs",
	"/run/udev/rules.d", "/run/modprobe.d", "/run/modules-load.d", "/run/sysctl.d", "/run/binfmt.d", "/run/sysusers.d",
	// Who may do what by polkit, and what the service manager gives to all it starts.
	"/run/polkit-1", "/run/environment.d", "/run/systemd/system.conf.d", "/run/systemd/user.conf.d",
}

// checkFixed finds what lies in the directories of other systems that NixOS does
// not put there.
func (m *Machine) checkFixed(ctx context.Context, l *look) error {
	for _, dir := range fixedDirs {
		if err := l.fixed(ctx, dir); err != nil {
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
	// What a link says last is what is run there: busybox goes by its name.
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
