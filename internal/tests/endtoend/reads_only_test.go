package endtoend

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// watched is a machine of which everything is watched but the state directory.
type watched struct {
	*machine
	before string
	apart  []string // patterns of names that are left out
}

const (
	secretFile = "/srv/secrets/key"
	secretText = "the key of the machine that examines"
	victimFile = "/etc/victim"
	// diskDir is a copy of what a disk has of the machine's own system.
	diskDir  = "/srv/disk"
	diskRoot = "/mnt/disk"
)

// watch starts to watch m, without a nix daemon.
func watch(m *machine) *watched {
	m.t.Helper()
	m.Run("systemctl", "stop", "nix-daemon.socket", "nix-daemon.service")
	m.Run("mkdir", "-p", stateDir)
	w := &watched{machine: m}
	w.before = w.look()
	return w
}

// look lists all files with what a write would change of them. Nothing but the
// state directory, and what the machine's own services write, is left out.
func (w *watched) look() string {
	w.t.Helper()
	apart := ""
	for _, pattern := range w.apart {
		apart += " -o -path '" + pattern + "'"
	}
	return w.Run("sh", "-euc", `
		find / \( -path /proc -o -path /sys -o -path /dev -o -path /run/log -o -path /run/systemd -o -path /run/udev -o -path /var/log \
			-o -path `+stateDir+` -o -path /var/lib/systemd \) -prune \
			-o \( -false`+apart+` \) -o -printf '%p\t%y %m %U:%G %s %n %T@ %C@ %l\n' | LC_ALL=C sort`)
}

// unchanged fails if anything was written since watch, or the nix daemon runs.
func (w *watched) unchanged(t *testing.T, what string) {
	t.Helper()
	after := w.look()
	if after != w.before {
		t.Errorf("%s: the machine was written to:\n%s", what, testhost.ChangedLines(w.before, after))
		w.before = after
	}
	if state := strings.TrimSpace(w.Run("sh", "-c", "systemctl is-active nix-daemon.service nix-daemon.socket; true")); state != "inactive\ninactive" {
		t.Errorf("%s: the nix daemon and its socket are %q", what, state)
	}
}

// TestReadsOnlyDisk: a disk that is examined, whatever somebody prepared it with,
// stays as it was, and so does the machine that examines it.
func TestReadsOnlyDisk(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.Run("sh", "-euc", `
		umask 022
		mkdir -p /srv/secrets /srv/outside "`+diskRoot+`" "/mnt/my disk" `+diskDir+`/nix/var/nix
		(umask 077; printf '%s' '`+secretText+`' >`+secretFile+`)
		printf 'of the examining machine' >`+victimFile+`
		cp -a /nix/store `+diskDir+`/nix/
		cp -a /nix/var/nix/db /nix/var/nix/profiles /nix/var/nix/gcroots `+diskDir+`/nix/var/nix/
		rm -f `+diskDir+`/nix/var/nix/db/*-wal `+diskDir+`/nix/var/nix/db/*-shm`)
	source := m.Run("readlink", "-fn", "/etc/every-channel/flake")
	library := m.Run("sh", "-c", "ls -d /nix/store/*-source | grep -v "+source)
	evil := func(expression string) string {
		return `printf '%s' '{ outputs = { self, library }: { nixosConfigurations.testhost.config.system.build.toplevel = derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; secret = ` + expression + `; }; }; }' >.` + source + `/flake.nix`
	}
	w := watch(m)
	for _, form := range []struct {
		name, prepare string // run in the root directory of the disk
		mount         string // "" for read-write
		verdict       string
		code          int
	}{
		{"honest", "", "", "verified", 0},
		{"honest, mounted read-only", "", "ro", "verified", 0},
		{"without what nix would make", "rm -rf nix/store/.links nix/var/nix/db/reserved nix/var/nix/gcroots nix/var/nix/temproots nix/var/nix/db/big-lock", "", "verified", 0},
		{"without it, read-only", "rm -rf nix/store/.links nix/var/nix/db/reserved nix/var/nix/gcroots", "ro", "verified", 0},
		{"reserved leads to a file", "ln -sf " + victimFile + " nix/var/nix/db/reserved", "", "verified", 0},
		{"reserved leads to a file, read-only", "ln -sf " + victimFile + " nix/var/nix/db/reserved", "ro", "verified", 0},
		{"reserved leads to a file that is not there", "ln -sf /etc/made-by-nix nix/var/nix/db/reserved", "ro", "verified", 0},
		{"big-lock leads to a file", "ln -sf " + victimFile + " nix/var/nix/db/big-lock", "", "verified", 0},
		{"gc.lock is a pipe", "rm -f nix/var/nix/gc.lock; mkfifo nix/var/nix/gc.lock", "", "verified", 0},
		{"gcroots lead out", "rm -rf nix/var/nix/gcroots; ln -s /srv/outside nix/var/nix/gcroots", "", "verified", 0},
		{"temproots lead out", "rm -rf nix/var/nix/temproots; ln -s /srv/outside nix/var/nix/temproots", "", "verified", 0},
		{"links lead out", "rm -rf nix/store/.links; ln -s /srv/outside nix/store/.links", "", "verified", 0},
		{"locks lead out", `for p in nix/store/*-source; do ln -s ` + victimFile + ` "$p.lock"; done`, "", "verified", 0},
		{"locks that are held by nobody", `for p in nix/store/*-source; do echo x >"$p.lock"; done`, "", "verified", 0},
		{"the state leads out", "rm -rf nix/var/nix; ln -s /srv/outside nix/var/nix", "", "drifted", 1},
		{"profiles lead out", "rm -rf nix/var/nix/profiles; ln -s /nix/var/nix/profiles nix/var/nix/profiles", "", "inconclusive", 4},
		{"the database leads out", "rm -rf nix/var/nix/db; ln -s /nix/var/nix/db nix/var/nix/db", "", "inconclusive", 4},
		{"the database is a pipe", "rm nix/var/nix/db/db.sqlite; mkfifo nix/var/nix/db/db.sqlite", "", "inconclusive", 4},
		{"a journal of another database", "head -c 4096 /dev/urandom >nix/var/nix/db/db.sqlite-journal", "", "verified", 0},
		{"the schema is endless", "ln -sf /dev/zero nix/var/nix/db/schema", "", "inconclusive", 4},
		{"one byte of the flake", "printf ' ' >>." + source + "/flake.nix", "", "drifted", 1},
		{"one byte of the flake, read-only", "printf ' ' >>." + source + "/flake.nix", "ro", "drifted", 1},
		{"one byte of an input", "f=$(find ." + library + " -type f | head -n 1); chmod u+w $f; printf ' ' >>$f", "", "drifted", 1},
		{"a flake that fetches a file", evil(`builtins.readFile (builtins.fetchurl "file://` + secretFile + `")`), "", "drifted", 1},
		{"a flake that copies a path", evil(`"${(builtins.fetchTree { type = "path"; path = "/srv/secrets"; }).outPath}"`), "", "drifted", 1},
		{"a lock file that is a link", "rm ." + source + "/flake.lock; ln -s /etc/shadow ." + source + "/flake.lock", "", "drifted", 1},
	} {
		for _, root := range []string{diskRoot, "/mnt/my disk"} {
			if root != diskRoot && form.name != "honest" {
				continue
			}
			name := form.name
			if root != diskRoot {
				name += ", with a blank in its name"
			}
			t.Run(name, func(t *testing.T) {
				// The disk is an overlay, so that each form begins with the same one.
				m.Run("sh", "-euc", `
					mount -t tmpfs none /mnt
					mkdir "$1" /mnt/layer /mnt/work
					mount -t overlay overlay -o lowerdir=`+diskDir+`,upperdir=/mnt/layer,workdir=/mnt/work "$1"
					cd "$1"
					chmod u+w .`+source+` .`+source+`/*
					cp -p .`+source+`/flake.nix .
					`+form.prepare+`
					rm -f flake.nix
					chmod -R a-w .`+source+`
					cd /
					[ -z "$2" ] || mount -o remount,bind,"$2" "$1"`, "sh", root, form.mount)
				defer m.Run("sh", "-c", `umount -l "$1" /mnt`, "sh", root)
				w.before = w.look()
				a := m.verify("--store-root", root)
				if a.Verdict != form.verdict || a.code != form.code {
					t.Errorf("%s, exit %d, want %s, exit %d: %q\n%s", a.Verdict, a.code, form.verdict, form.code, a.causes(), a.stderr)
				}
				w.unchanged(t, name)
				if out, _, code := m.Exec(context.Background(), "grep", "-rlF", secretText, root+"/nix", stateDir); code == 0 {
					t.Errorf("the secret is in %s", out)
				}
			})
		}
	}
}

// TestReadsOnlyLive: a command writes only to the state directory of its own machine.
func TestReadsOnlyLive(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	source := m.Run("readlink", "-fn", "/etc/every-channel/flake")
	library := m.Run("sh", "-c", "ls -d /nix/store/*-source | grep -v "+source)
	input := m.Run("sh", "-c", "find "+library+" -type f | head -n 1")
	flags := []string{"--against", tag, "--release", releases, "--unsafe-unsigned"}
	database := func() string { return m.SQL(".dump") }
	m.Run("sh", "-euc", "mkdir -p "+stateDir+"; cp -r "+filepath.Join(releases, tag)+" /srv/copy")
	check := func(t *testing.T, w *watched, code int, argv ...string) {
		t.Helper()
		rows := database()
		w.before = w.look()
		_, stderr, got := m.Exec(context.Background(), append([]string{program}, argv...)...)
		if got != code {
			t.Errorf("%q: exit %d, want %d: %s", argv, got, code, stderr)
		}
		w.unchanged(t, strings.Join(argv, " "))
		if database() != rows {
			t.Errorf("%q: the Nix database was written to", argv)
		}
	}
	// A rebuild locks its build user where the Nix daemon does, so that they never
	// take the same one.
	m.Run("mkdir", "-p", "/nix/var/nix/userpool")
	w := watch(m)
	w.apart = []string{"/nix/var/nix", "/nix/var/nix/userpool*"}
	for _, c := range []struct {
		code int
		argv []string
	}{
		{0, flags},
		{0, append([]string{"--state-dir", "/var/lib/ec-verify/a b"}, flags...)},
		{4, append([]string{"--rebuild", "all", "--budget", "1ms"}, flags...)},
		{0, append([]string{"--read", "disk"}, flags...)},
		{0, []string{"status"}},
		{0, []string{"hash", source}},
		{0, []string{"release", "list", "--release", releases, "--unsafe-unsigned"}},
		{0, []string{"release", "verify", tag, "--release", releases, "--unsafe-unsigned"}},
		{0, []string{"manifest", "check", filepath.Join(releases, tag, "closure-testhost.json")}},
		{0, []string{"compare", filepath.Join(releases, tag), "/srv/copy"}},
		{0, []string{"config", "show"}},
		{78, []string{"config", "check"}}, // there is no policy
		{4, []string{"doctor"}},
		{4, []string{"status", "--check"}},
		{0, []string{"report", "show"}},
		{0, []string{"explain", source, "--against", tag, "--release", releases, "--unsafe-unsigned"}},
		{0, []string{"--version"}},
	} {
		t.Run(strings.Join(c.argv, " "), func(t *testing.T) { check(t, w, c.code, c.argv...) })
	}
	t.Run("an input is altered", func(t *testing.T) {
		m.Run("sh", "-c", "printf ' ' >>"+input)
		check(t, w, 1, flags...)
	})
	t.Run("the flake is altered, and its row", func(t *testing.T) {
		m.Run("sh", "-c", "printf ' ' >>"+source+"/flake.nix")
		hash := m.Run("sh", "-c", "nix-store --dump "+source+" | sha256sum | cut -d' ' -f1")
		m.SQL("update ValidPaths set hash='sha256:" + hash + "' where path='" + source + "'")
		check(t, w, 1, flags...)
	})
}
