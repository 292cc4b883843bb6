package endtoend

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/tests/testhost"
)

// damage is one way in which a machine comes to differ from its release.
type damage struct {
	name    string
	do      func(m *machine)
	args    []string
	verdict string
	code    int
	// causes are what finding.String gives for the findings; NAME in them
	// stands for the base name of the store path called NAME.
	causes func(m *machine) []string
}

func base(m *machine, name string) string { return filepath.Base(m.path(name)) }

// edit changes the file at p in place with a shell command run in its
// directory, as root can, and leaves its times as they were.
func (m *machine) edit(p, script string) {
	m.t.Helper()
	m.Run("sh", "-euc", `cd "$(dirname "$1")"; >/tmp/stamp; touch -hr "$1" /tmp/stamp; `+script+`; if [ -e "$1" ] && [ ! -L "$1" ]; then touch -r /tmp/stamp "$1"; fi`, "sh", p)
}

// rehash has the database claim, of a store path, what the disk now holds.
func (m *machine) rehash(p string) {
	m.t.Helper()
	hash := strings.TrimPrefix(m.Run("nix-hash", "--type", "sha256", "--base16", p), "sha256:")
	size := m.Run("sh", "-c", `nix-store --dump "$1" | wc -c`, "sh", p)
	m.SQL(fmt.Sprintf("update ValidPaths set hash='sha256:%s', narSize=%s where path='%s'", hash, strings.TrimSpace(size), p))
}

func one(format string, names ...string) func(*machine) []string {
	return func(m *machine) []string {
		values := make([]any, len(names))
		for i, n := range names {
			values[i] = base(m, n)
		}
		return []string{fmt.Sprintf(format, values...)}
	}
}

func TestDrift(t *testing.T) {
	t.Parallel()
	binary := func(m *machine) string { return m.path("program-01-1.1") + "/bin/program-01" }
	cases := []damage{
		{
			name:    "one byte changed",
			do:      func(m *machine) { m.FlipByte(binary(m), 3) },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s bin/program-01:content", "program-01-1.1"),
		},
		{
			name: "one byte of a large file changed",
			do: func(m *machine) {
				m.edit(m.path("firmware-1"), `f=$(find "$1" -type f -size +30M); printf X | dd of="$f" bs=1 seek=39999999 conv=notrunc status=none`)
			},
			verdict: "drifted", code: 1,
			causes: func(m *machine) []string {
				f := strings.TrimPrefix(m.Run("find", m.path("firmware-1"), "-type", "f", "-size", "+30M"), m.path("firmware-1")+"/")
				return []string{"disk-altered " + base(m, "firmware-1") + " " + f + ":content"}
			},
		},
		{
			name:    "executable bit changed",
			do:      func(m *machine) { m.Chmod(binary(m), 0o444) },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s bin/program-01:executable", "program-01-1.1"),
		},
		{
			name:    "symlink retargeted",
			do:      func(m *machine) { m.edit(m.path("oddities-1")+"/links/relative", `ln -sfn ../sizes/9 "$1"`) },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s links/relative:target", "oddities-1"),
		},
		{
			name:    "file added",
			do:      func(m *machine) { m.AddFile(m.path("oddities-1")+"/empty/new", "x", 0o444) },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s empty/new:added", "oddities-1"),
		},
		{
			name:    "file removed",
			do:      func(m *machine) { m.Remove(m.path("oddities-1") + "/names/..foo") },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s names/..foo:removed", "oddities-1"),
		},
		{
			name:    "empty directory added",
			do:      func(m *machine) { m.Run("mkdir", "-m", "555", m.path("oddities-1")+"/empty/more") },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s empty/more:added", "oddities-1"),
		},
		{
			name: "file with a name that is not UTF-8 changed",
			do: func(m *machine) {
				m.edit(m.path("oddities-1")+"/names/caf\xe9", `printf X | dd of="$1" bs=1 conv=notrunc status=none`)
			},
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s bmFtZXMvY2Fm6Q==:content", "oddities-1"),
		},
		{
			name:    "file replaced by a symlink to its like",
			do:      func(m *machine) { m.edit(m.path("oddities-1")+"/sizes/8", `cp "$1" /root/8; ln -sfn /root/8 "$1"`) },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s sizes/8:type", "oddities-1"),
		},
		{
			name:    "store path replaced by a symlink to its copy",
			do:      func(m *machine) { m.edit(m.path("program-01-1.1"), `mv "$1" /root/copy; ln -s /root/copy "$1"`) },
			verdict: "drifted", code: 1,
			causes: func(m *machine) []string {
				return []string{"disk-altered " + base(m, "program-01-1.1") + " :type .program:removed bin:removed bin/program-01:removed"}
			},
		},
		{
			name:    "FIFO in a store path",
			do:      func(m *machine) { m.Run("mkfifo", m.path("oddities-1")+"/empty/fifo") },
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s", "oddities-1"),
		},
		{
			name: "sparse file of a terabyte in a store path",
			do: func(m *machine) {
				file := m.path("oddities-1") + "/empty/sparse"
				m.Run("truncate", "-s", "1T", file)
				m.Run("chmod", "444", file)
			},
			verdict: "drifted", code: 1,
			causes: one("disk-altered %s", "oddities-1"),
		},
		{
			name:    "set-user-ID bit",
			do:      func(m *machine) { m.Run("chmod", "4555", binary(m)) },
			verdict: "drifted", code: 1,
			causes: one("permissions-altered %s/bin/program-01", "program-01-1.1"),
		},
		{
			name:    "path removed",
			do:      func(m *machine) { m.Remove(m.path("unpacked-1")) },
			verdict: "drifted", code: 1,
			causes: one("missing %s", "unpacked-1"),
		},
		{
			name: "database rewritten to match a changed disk",
			do: func(m *machine) {
				m.FlipByte(binary(m), 3)
				m.rehash(m.path("program-01-1.1"))
			},
			verdict: "drifted", code: 1,
			causes: one("replaced-unexplained %s bin/program-01:content", "program-01-1.1"),
		},
		{
			name: "disk and database changed, each to something else",
			do: func(m *machine) {
				m.FlipByte(binary(m), 3)
				m.rehash(m.path("program-01-1.1"))
				m.FlipByte(binary(m), 4)
			},
			verdict: "drifted", code: 1,
			causes: one("disk-and-database-altered %s bin/program-01:content", "program-01-1.1"),
		},
		{
			name: "database rewritten",
			do: func(m *machine) {
				m.SQL(fmt.Sprintf("update ValidPaths set hash='sha256:%064x' where path='%s'", 1, m.path("unpacked-1")))
			},
			verdict: "drifted", code: 1,
			causes: one("database-altered %s narHash", "unpacked-1"),
		},
		{
			name: "size rewritten in the database",
			do: func(m *machine) {
				m.SQL("update ValidPaths set narSize=narSize+8 where path='" + m.path("unpacked-1") + "'")
			},
			verdict: "drifted", code: 1,
			causes: one("database-altered %s narSize", "unpacked-1"),
		},
		{
			name: "malformed hash in the database",
			do: func(m *machine) {
				m.SQL("update ValidPaths set hash='sha256:x' where path='" + m.path("unpacked-1") + "'")
			},
			verdict: "drifted", code: 1,
			causes: one("database-altered %s hash", "unpacked-1"),
		},
		{
			name: "content address forged in the database",
			do: func(m *machine) {
				m.SQL("update ValidPaths set ca='fixed:r:sha256:1111111111111111111111111111111111111111111111111111' where path='" + m.path("unpacked-1") + "'")
			},
			verdict: "drifted", code: 1,
			causes: one("database-altered %s ca", "unpacked-1"),
		},
		{
			name: "reference removed from the database",
			do: func(m *machine) {
				m.SQL("delete from Refs where referrer=(select id from ValidPaths where path='" + m.path("system-units") + "') and reference=(select id from ValidPaths where path='" + m.path("unit-service-0.service") + "')")
			},
			verdict: "drifted", code: 1,
			causes: one("database-altered %s references", "system-units"),
		},
		{
			name: "reference added to the database, and with it a path to the closure",
			do: func(m *machine) {
				m.Run("sh", "-c", "echo x > /tmp/more && nix-store --add /tmp/more")
				m.SQL("insert into Refs select a.id, b.id from ValidPaths a, ValidPaths b where a.path='" + m.path("system-units") + "' and b.path like '%-more'")
			},
			verdict: "drifted", code: 1,
			causes: func(m *machine) []string {
				more := filepath.Base(m.Run("sh", "-c", "echo /nix/store/*-more"))
				return []string{"database-altered " + base(m, "system-units") + " references", "extra " + more}
			},
		},
		{
			name: "path unregistered",
			do: func(m *machine) {
				m.SQL("pragma foreign_keys=off; delete from ValidPaths where path='" + m.path("unpacked-1") + "'")
			},
			verdict: "drifted", code: 1,
			causes: func(m *machine) []string {
				// What referred to it now refers to a row that is not there.
				return []string{"unregistered " + base(m, "unpacked-1"), "database-altered " + filepath.Base(string(m.manifest.Toplevel.OutPath)) + " references"}
			},
		},
		{
			name: "another deriver in the database is no alarm",
			do: func(m *machine) {
				m.SQL("update ValidPaths set deriver='/nix/store/" + strings.Repeat("1", 32) + "-x.drv' where path='" + m.path("unpacked-1") + "'")
			},
			verdict: "verified", code: 0,
			causes: func(*machine) []string { return nil },
		},
	}
	// Four hosts share the cases.
	for part := range slices.Chunk(cases, (len(cases)+3)/4) {
		t.Run("host", func(t *testing.T) {
			t.Parallel()
			m := startReleased(t)
			putBack := m.keepNix()
			for _, c := range part {
				t.Run(c.name, func(t *testing.T) {
					defer putBack()
					c.do(m)
					before := m.NixState()
					a := m.verify(c.args...)
					a.expect(t, c.verdict, c.code, c.causes(m)...)
					if m.NixState() != before {
						t.Error("verifying wrote to /nix")
					}
				})
			}
		})
	}
}

// keepNix copies what Nix keeps, and returns what puts it back as it was, and forgets what
// ec-verify remembers, so that cases which damage it can share a host.
func (m *machine) keepNix() (putBack func()) {
	m.t.Helper()
	// A directory that the host has changed, if only its times, is of another size.
	m.Run("sh", "-euc", "touch -r /nix/store /nix/store; touch /root/stamp; cp -a /nix/store /root/store")
	m.SQL(".backup /root/db.sqlite")
	before := m.NixState()
	return func() {
		m.t.Helper()
		// What was changed, added or removed has another change time, or its directory
		// has.
		m.Run("bash", "-euc", `
			cd /nix/store
			find . -mindepth 1 -newercm /root/stamp -printf '%P\0' | LC_ALL=C cut -z -d/ -f1 | sort -zu | xargs -0r rm -rf --
			for p in *; do [ -e "/root/store/$p" ] || [ -L "/root/store/$p" ] || rm -rf "$p"; done
			cd /root/store
			for p in *; do [ -e "/nix/store/$p" ] || [ -L "/nix/store/$p" ] || cp -a "$p" /nix/store/; done
			touch -r /root/store /nix/store
			rm -rf `+stateDir)
		m.SQL(".restore /root/db.sqlite")
		if after := m.NixState(); after != before {
			m.t.Fatalf("what Nix keeps is not back:\n%s", testhost.ChangedLines(before, after))
		}
	}
}

func TestVerified(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	before := m.NixState()
	a := m.verify()
	a.expect(t, "verified", 0)
	if m.NixState() != before {
		t.Error("verifying wrote to /nix")
	}
	if a.SchemaVersion != 1 || a.Kind != "ec-verify-report" || a.Configuration != "testhost" || a.Release == nil || a.Release.Tag != tag || !a.Release.Unsigned {
		t.Errorf("the report does not say what it is of: %+v", a)
	}
	for tier, want := range map[string]int{"release": 1, "source": 2, "eval": 1, "live": 4, "contents": len(m.manifest.Paths)} {
		if status, checked := a.tier(tier); status != "done" || checked != want {
			t.Errorf("tier %s: got %s with %d checked, want done with %d", tier, status, checked, want)
		}
	}
	if status, _ := a.tier("rebuild"); status != "skipped" {
		t.Errorf("tier rebuild: got %s, want skipped", status)
	}
	if a.Coverage.Paths != len(m.manifest.Paths) || a.Coverage.Hashed != a.Coverage.Paths || a.Coverage.Bytes < 40<<20 || a.Coverage.Read != "cached" {
		t.Errorf("coverage: %+v", a.Coverage)
	}
	for _, home := range []string{"/root/.cache/nix", "/root/.local"} {
		if _, err := os.Lstat(m.Path(home)); err == nil {
			t.Errorf("verifying left %s", home)
		}
	}
	t.Run("text", func(t *testing.T) {
		out := m.Run(program, "--against", tag, "--release", releases, "--unsafe-unsigned")
		if !strings.HasPrefix(out, "verified: this machine is release "+tag+" (testhost)") || !strings.Contains(out, "NOT CHECKED") || strings.ContainsRune(out, 0x1b) {
			t.Errorf("text report:\n%s", out)
		}
	})
	t.Run("read from the disk", func(t *testing.T) {
		a := m.verify("--read", "disk")
		a.expect(t, "verified", 0)
		if a.Coverage.Read != "disk" || a.Coverage.FromCache != 0 ||
			!slices.Equal(a.Coverage.PastCache, []string{"contents"}) || !slices.Equal(a.Coverage.ThroughCache, []string{"names", "targets", "metadata", "database"}) {
			t.Errorf("coverage: %+v", a.Coverage)
		}
	})
}

// TestStoreAccess: a store in whose place others can put something is drift, though
// Nix's daemon sets its mode right as soon as it is asked for anything.
func TestStoreAccess(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	// What setfacl -m u:nobody:rwx sets; the host has no setfacl.
	list := []byte{
		2, 0, 0, 0,
		0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		0x02, 0, 7, 0, 0xfe, 0xff, 0, 0,
		0x04, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
	}
	run := func(argv ...string) func() { return func() { m.Run(argv...) } }
	for _, c := range []struct {
		do   func()
		path string
		got  string
	}{
		{run("chmod", "777", "/nix/store"), "/nix/store", "mode 0777"},
		{run("chown", "1000", "/nix/store"), "/nix/store", "owner 1000"},
		{run("chgrp", "users", "/nix/store"), "/nix/store", "group 100, which may add to it and is not nixbld"},
		{run("usermod", "-aG", "nixbld", "nobody"), "/nix/store", "group nixbld, which may add to it and has a member who is no build user: nobody"},
		{func() {
			if err := unix.Setxattr(m.Path("/nix/store"), "system.posix_acl_access", list, 0); err != nil {
				t.Fatal(err)
			}
			m.Run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", "mkdir /nix/store/mine && rmdir /nix/store/mine")
		}, "/nix/store", "an access control list that lets write: user 65534"},
		{run("chmod", "757", "/nix"), "/nix", "mode 0757"},
	} {
		m.Run("systemctl", "stop", "nix-daemon")
		m.Run("systemctl", "reset-failed", "nix-daemon") // or it is not started that often
		c.do()
		a := m.verify()
		a.expect(t, "drifted", 1, "permissions-altered "+c.path)
		for _, f := range a.Findings {
			if f.Cause == "permissions-altered" && f.Got != c.got {
				t.Errorf("got %q, want %q", f.Got, c.got)
			}
		}
		m.Run("sh", "-euc", "gpasswd -d nobody nixbld || true; chown root:nixbld /nix/store; chmod 1775 /nix/store; chmod 755 /nix")
		if err := unix.Removexattr(m.Path("/nix/store"), "system.posix_acl_access"); err != nil && !errors.Is(err, unix.ENODATA) {
			t.Fatal(err)
		}
	}
	m.verify().expect(t, "verified", 0)
}
