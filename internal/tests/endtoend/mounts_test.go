package endtoend

import (
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// cover alters a file on the disk and lays, over the directory at, what shows it
// as it was.
func (m *machine) cover(at string) (uncover func()) {
	m.t.Helper()
	program := m.path("program-01-1.1") + "/bin/program-01"
	m.Run("sh", "-euc", `below=${2#"$1"/}; mkdir -p /root/good; cd "$1"; cp -a --parents "$below" /root/good/; chown --reference="$1" /root/good; chmod --reference="$1" /root/good`, "sh", at, program)
	m.FlipByte(program, 3)
	m.Run("mount", "-t", "overlay", "overlay", "-o", "ro,lowerdir=/root/good:"+at, at)
	return func() {
		m.Run("umount", "-l", at)
		m.FlipByte(program, 3)
		m.Run("rm", "-rf", "/root/good")
	}
}

// TestMountedOverTheStore: a mount over the whole store shows bytes that the disk does not
// have. The test host's own systems have no fstab.
func TestMountedOverTheStore(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	for _, at := range []string{"/nix", "/nix/store"} {
		uncover := m.cover(at)
		a := m.verify("--unsafe-skip", "eval")
		a.expect(t, "inconclusive", 4, "mounted-over "+at)
		if a.Coverage.Hashed != a.Coverage.Paths {
			t.Errorf("coverage: %+v", a.Coverage)
		}
		m.originOf(a, "/nix/store", "overlay", at)
		uncover()
	}
	a := m.verify()
	a.expect(t, "verified", 0)
	m.originOf(a, "/nix/store", "overlay", "/")
	out := m.Run(program, "--against", tag, "--release", releases, "--unsafe-unsigned")
	if !strings.Contains(out, "/nix/var/nix/profiles, /nix/store, /nix/var/nix/db from overlay overlay (device ") {
		t.Errorf("the text does not say from where was read:\n%s", out)
	}
}

// originOf holds the report to the file system that dir was read from.
func (m *machine) originOf(a answer, dir, kind, point string) {
	m.t.Helper()
	for _, o := range a.Coverage.Origins {
		if o.Dir == dir {
			if o.Type != kind || o.MountPoint != point || o.Device == "" {
				m.t.Errorf("%s was read from %+v, want %s at %s", dir, o, kind, point)
			}
			return
		}
	}
	m.t.Errorf("the report does not say from where %s was read: %+v", dir, a.Coverage.Origins)
}

// TestMountsOfTheConfiguration: a release with an fstab, as each of NixOS has.
func TestMountsOfTheConfiguration(t *testing.T) {
	t.Parallel()
	m := startConfigured(t, testhost.Configured{Fstab: "overlay / overlay defaults 0 1\noverlay /nix/var/nix/profiles overlay ro,lowerdir=/root/profiles:/nix/var/nix/profiles 0 0\n"})

	m.verify().expect(t, "verified", 0)
	t.Run("bound over itself", func(t *testing.T) {
		m.Run("sh", "-euc", "mount --bind /nix/store /nix/store; mount -o remount,bind,ro /nix/store")
		defer m.Run("umount", "/nix/store")
		m.verify().expect(t, "verified", 0)
	})
	t.Run("as it says", func(t *testing.T) {
		m.Run("sh", "-euc", "mkdir /root/profiles; mount -t overlay overlay -o ro,lowerdir=/root/profiles:/nix/var/nix/profiles /nix/var/nix/profiles")
		defer m.Run("umount", "/nix/var/nix/profiles")
		m.verify().expect(t, "verified", 0)
	})
	for _, at := range []string{"/nix", "/nix/store"} {
		t.Run("over "+at, func(t *testing.T) {
			defer m.cover(at)()
			a := m.verify("--unsafe-skip", "eval")
			a.expect(t, "drifted", 1, "foreign-mount "+at)
			for _, f := range a.Findings {
				if f.Cause == "foreign-mount" && (f.Want != "nothing more mounted there" || !strings.HasPrefix(f.Got, "overlay overlay (device ")) {
					t.Errorf("it does not say what is there: %+v", f)
				}
			}
			// A name space of its own shows this run another store than the machine has.
			a = m.report("unshare", "--mount", "sh", "-euc", `umount -l "$0"; exec "$@"`, at,
				program, "--against", tag, "--release", releases, "--unsafe-unsigned", "--output", "json", "--unsafe-skip", "eval")
			if a.Verdict != "drifted" || !a.has("foreign-mount") || !a.has("disk-altered") {
				t.Errorf("seen from elsewhere: %s, %v", a.Verdict, a.causes())
			}
		})
	}
	t.Run("a name space with a good store", func(t *testing.T) {
		a := m.report("unshare", "--mount", "sh", "-euc", `mkdir -p /root/good; mount -t overlay overlay -o ro,lowerdir=/root/good:/nix /nix; exec "$@"`, "sh",
			program, "--against", tag, "--release", releases, "--unsafe-unsigned", "--output", "json", "--unsafe-skip", "eval")
		a.expect(t, "drifted", 1, "foreign-mount /nix")
	})
	t.Run("the database", func(t *testing.T) {
		m.Run("sh", "-euc", "cp -a /nix/var/nix/db /root/db; mount --bind /root/db /nix/var/nix/db")
		defer m.Run("umount", "-l", "/nix/var/nix/db")
		m.verify("--unsafe-skip", "eval").expect(t, "drifted", 1, "foreign-mount /nix/var/nix/db")
	})
	t.Run("the profiles, by other layers", func(t *testing.T) {
		m.Run("sh", "-euc", "mkdir /root/others; mount -t overlay overlay -o ro,lowerdir=/root/others:/nix/var/nix/profiles /nix/var/nix/profiles")
		defer m.Run("umount", "/nix/var/nix/profiles")
		m.verify().expect(t, "drifted", 1, "foreign-mount /nix/var/nix/profiles")
	})
	t.Run("what runs", func(t *testing.T) {
		m.Run("sh", "-euc", "mkdir /root/run; cp -a /run/current-system /run/booted-system /root/run; mount --bind /root/run /run")
		defer m.Run("umount", "-l", "/run")
		m.verify("--unsafe-skip", "eval").expect(t, "drifted", 1, "foreign-mount /run")
	})
	m.verify().expect(t, "verified", 0)
}
