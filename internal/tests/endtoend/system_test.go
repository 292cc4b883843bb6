package endtoend

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/bootlayouts"
)

func TestSource(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	source := m.Runner().Source
	putBack := m.keepNix()
	const link = "/etc/every-channel/flake"
	to := m.Run("readlink", link)
	t.Run("a file of it changed", func(t *testing.T) {
		defer putBack()
		m.edit(source+"/flake.nix", `echo "# changed" >> "$1"`)
		src := filepath.Base(source)
		before := m.NixState()
		m.verify().expect(t, "drifted", 1, "source-altered "+src, "disk-altered "+src+" flake.nix:content")
		if m.NixState() != before {
			t.Error("evaluating the altered source wrote to /nix")
		}
	})
	t.Run("it evaluates to something else", func(t *testing.T) {
		defer putBack()
		m.edit(source+"/flake.nix", `sed -i 's/1\.1/1.7/; s/26\.05\.2/26.05.9/' "$1"`)
		before := m.NixState()
		a := m.verify()
		if a.Verdict != "drifted" || a.code != 1 {
			t.Errorf("got %s, exit %d", a.Verdict, a.code)
		}
		if m.NixState() != before {
			t.Error("evaluating the altered source wrote to /nix")
		}
		follows := 0
		for _, f := range a.Findings {
			if f.Cause == "evaluation-drift" {
				follows++
				if f.ConsequenceOf != "source-altered" || f.Want == f.Got {
					t.Errorf("evaluation drift: %+v", f)
				}
			}
		}
		if follows == 0 {
			t.Errorf("no evaluation drift: %+v", a.Findings)
		}
	})
	t.Run("the lock changed", func(t *testing.T) {
		defer putBack()
		m.edit(source+"/flake.lock", `echo >> "$1"`)
		src := filepath.Base(source)
		m.verify().expect(t, "drifted", 1, "lock-altered "+src+"/flake.lock", "source-altered "+src, "disk-altered "+src+" flake.lock:content")
	})
	t.Run("a directory in place of the link", func(t *testing.T) {
		defer putBack()
		m.Run("sh", "-euc", `cp -rL "$1" /root/f; rm "$1"; mv /root/f "$1"`, "sh", link)
		defer m.Run("sh", "-euc", `rm -r "$1"; ln -s "$2" "$1"`, "sh", link, to)
		a := m.verify()
		if got := a.causes(); a.code != 1 || len(got) == 0 || !strings.HasPrefix(got[0], "source-altered") {
			t.Errorf("exit %d, findings %q", a.code, got)
		}
	})
	t.Run("missing", func(t *testing.T) {
		defer putBack()
		m.Run("rm", link)
		defer m.Run("ln", "-s", to, link)
		a := m.verify()
		if got := a.causes(); a.code != 1 || len(got) == 0 || !strings.HasPrefix(got[0], "source-missing") {
			t.Errorf("exit %d, findings %q", a.code, got)
		}
	})
	t.Run("it cannot be evaluated", func(t *testing.T) {
		defer putBack()
		library := m.Run("sh", "-c", `for p in $(nix-store -qR /run/current-system); do case $p in *-source) [ "$p" = "$1" ] || echo "$p";; esac; done`, "sh", source)
		m.Run("mv", library, "/root/library")
		a := m.verify()
		a.expect(t, "drifted", 1, "missing "+library, "evaluation-failed "+source)
	})
	t.Run("there is no nix", func(t *testing.T) {
		m.Run("sh", "-euc", `mkdir /root/bin; mv /usr/bin/nix /usr/bin/nix-* /root/bin/`)
		m.verify().expect(t, "inconclusive", 4, "evaluation-failed")
		m.verify("--unsafe-skip", "eval").expect(t, "verified", 0)
	})
}

func TestLive(t *testing.T) {
	t.Parallel()
	t.Run("another generation runs", func(t *testing.T) {
		t.Parallel()
		m := startReleased(t)
		other := m.Runner().Systems["testhost-other"].Toplevel
		m.Activate(other, other)
		a := m.verify()
		// It is at hand, so that the machine is that one as a whole, in one finding.
		a.expect(t, "drifted", 1, "other-release /run/current-system")
		if a.Release == nil || a.Release.Tag != otherTag || a.Counts["drift"] != 1 {
			t.Errorf("%+v, %v", a.Release, a.Counts)
		}
		// What was altered of it ranks above that.
		altered := m.path("program-01-1.1")
		m.FlipByte(altered+"/bin/program-01", 3)
		a = m.verify()
		a.expect(t, "drifted", 1, "other-release /run/current-system", "disk-altered "+altered+" bin/program-01:content")
		if a.Findings[0].Cause != "disk-altered" {
			t.Errorf("the first finding is %+v", a.Findings[0])
		}
		m.FlipByte(altered+"/bin/program-01", 3)
		// Where nobody has it, the machine is told apart from what it was to be.
		m.Run("mv", releases+"/"+otherTag, "/root/away")
		a = m.verify()
		a.expect(t, "drifted", 1, "other-system /run/current-system", "other-boot /run/booted-system",
			"other-boot /proc/cmdline init=", "other-profile /nix/var/nix/profiles/system")
		for _, f := range a.Findings {
			if f.Cause == "extra" && f.ConsequenceOf != "other-system" {
				t.Errorf("an extra path is not explained by the other system: %+v", f)
			}
		}
		if a.Counts["drift"] < 6 {
			t.Errorf("the other system's own paths are not reported: %v", a.Counts)
		}
	})
	t.Run("something else is booted, or is to be", func(t *testing.T) {
		t.Parallel()
		m := startReleased(t)
		own, other := m.Runner().Systems["testhost"].Toplevel, m.Runner().Systems["testhost-other"].Toplevel
		t.Run("booted from an older one that is not accepted", func(t *testing.T) {
			m.Activate(own, other)
			defer m.Activate(own, own)
			m.verify().expect(t, "drifted", 1, "other-boot /run/booted-system", "other-boot /proc/cmdline init=")
		})
		t.Run("the profile leads elsewhere", func(t *testing.T) {
			m.Run("nix-env", "-p", "/nix/var/nix/profiles/system", "--set", other)
			defer m.Activate(own, own)
			m.verify().expect(t, "drifted", 1, "other-profile /nix/var/nix/profiles/system")
		})
		m.verify().expect(t, "verified", 0)
		t.Run("current-system is a directory", func(t *testing.T) {
			m.Run("sh", "-euc", `cp -r "$(readlink -f /run/current-system)" /root/s; rm /run/current-system; mv /root/s /run/current-system`)
			m.verify().expect(t, "drifted", 1, "other-system /run/current-system")
		})
	})
	t.Run("the command line, without a boot menu", func(t *testing.T) {
		t.Parallel()
		m := startReleased(t)
		a := m.verify()
		a.expect(t, "verified", 0)
		if why := a.why("live"); !strings.Contains(why, "no boot menu here") {
			t.Errorf("it does not say what was not compared: %q", why)
		}
		// The same where it was booted from an ISO image.
		s := bootlayouts.System{Toplevel: m.Run("readlink", "-f", "/run/current-system"), Params: m.Run("cat", "/run/current-system/kernel-params")}
		s.Kernel, s.Initrd = m.Run("readlink", "-f", s.Toplevel+"/kernel"), m.Run("readlink", "-f", s.Toplevel+"/initrd")
		for name, file := range bootlayouts.ISO(s) {
			m.Run("mkdir", "-p", path.Dir("/iso/"+name))
			if file.From != "" {
				m.Run("cp", file.From, "/iso/"+name)
			} else {
				m.write("/iso/"+name, file.Text)
			}
		}
		a = m.verify()
		a.expect(t, "verified", 0)
		if why := a.why("live"); why != "" {
			t.Errorf("of a medium that is there it says %q", why)
		}
		m.Run("sed", "-i", "0,/console=ttyS0/s//& rd.break/", "/iso/EFI/BOOT/grub.cfg", "/iso/isolinux/isolinux.cfg")
		m.verify().expect(t, "drifted", 1, "boot-altered /iso/isolinux/isolinux.cfg: boot options", "boot-altered /iso/EFI/BOOT/grub.cfg: NixOS 26.05 (Linux 6.12) Installer options")
		m.Run("rm", "-r", "/iso")
		m.Run("sh", "-euc", `sed 's,$, rd.break,' /proc/cmdline >/tmp/cmdline; umount /proc/cmdline; mount --bind /tmp/cmdline /proc/cmdline`)
		m.verify().expect(t, "drifted", 1, "command-line-altered /proc/cmdline options")
		m.Run("sh", "-euc", `echo quiet > /tmp/cmdline`)
		m.verify().expect(t, "inconclusive", 4, "live-unknown /proc/cmdline init=")
		m.verify("--unsafe-skip", "live").expect(t, "verified", 0)
	})
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	file := m.path("program-02-1.2") + "/bin/program-02"
	undo := m.BreakFile(file) // by a mount of a device that fails
	a := m.verify()
	a.expect(t, "inconclusive", 4, "unreadable "+m.path("program-02-1.2"), "mounted-over "+file)
	if a.Coverage.Hashed != a.Coverage.Paths-1 {
		t.Errorf("the run did not go on: %+v", a.Coverage)
	}
	for _, f := range a.Findings {
		if f.Cause == "unreadable" && (!strings.Contains(f.Detail, "bin/program-02") || !strings.Contains(f.Detail, "input/output error")) {
			t.Errorf("the finding does not say what could not be read and why: %q", f.Detail)
		}
	}
	// What is known to be wrong outweighs what is not known.
	m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
	m.verify().expect(t, "drifted", 1, "unreadable "+m.path("program-02-1.2"), "mounted-over "+file, "disk-altered "+m.path("program-01-1.1")+" bin/program-01:content")
	undo()
	m.verify().expect(t, "drifted", 1, "disk-altered "+m.path("program-01-1.1")+" bin/program-01:content")
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	stop := func() { m.Run("systemctl", "stop", "nix-daemon.socket", "nix-daemon.service") }
	t.Run("on a read-only file system", func(t *testing.T) {
		stop()
		m.Run("sh", "-euc", `mount --bind /nix /nix; mount -o remount,bind,ro /nix`)
		defer m.Run("sh", "-euc", `umount /nix; systemctl start nix-daemon.socket`)
		a := m.verify()
		a.expect(t, "verified", 0)
		if !a.Coverage.DatabaseReadOnly {
			t.Error("the report does not say that the database lay on a read-only file system")
		}
	})
	t.Run("its log is seen", func(t *testing.T) {
		// A writer that stays leaves its rows in the write-ahead log.
		m.Run("systemd-run", "--quiet", "--unit=writer", "sh", "-c",
			`(echo "pragma wal_autocheckpoint=0; update ValidPaths set narSize=narSize+8 where path='`+m.path("unpacked-1")+`';"; echo ".shell touch /root/written"; sleep 600) | sqlite3 -cmd ".timeout 60000" /nix/var/nix/db/db.sqlite`)
		defer m.Run("systemctl", "stop", "writer")
		m.until("it is written", "test -e /root/written")
		m.verify().expect(t, "drifted", 1, "database-altered "+m.path("unpacked-1")+" narSize")
	})
	t.Run("is no database", func(t *testing.T) {
		stop()
		m.Run("sh", "-euc", `rm -f /nix/var/nix/db/db.sqlite-*; head -c 65536 /dev/urandom > /nix/var/nix/db/db.sqlite`)
		a := m.verify("--unsafe-skip", "eval")
		a.expect(t, "inconclusive", 4, "database-unreadable")
		if a.Coverage.Hashed != a.Coverage.Paths {
			t.Errorf("the disk was not compared with the manifest: %+v", a.Coverage)
		}
	})
}

func TestStoreRoot(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.Run("sh", "-euc", `mkdir /mnt/disk; mount --bind / /mnt/disk`)
	before := m.NixState()
	a := m.verify("--store-root", "/mnt/disk")
	a.expect(t, "verified", 0)
	if m.NixState() != before {
		t.Error("verifying wrote to the disk")
	}
	for _, tier := range a.Tiers {
		if tier.Name == "live" && !strings.Contains(tier.Why, "not the running machine") {
			t.Errorf("the live tier does not say that it looked at a disk: %+v", tier)
		}
	}
	out := m.Run(program, "--against", tag, "--release", releases, "--unsafe-unsigned", "--store-root", "/mnt/disk")
	if !strings.HasPrefix(out, "verified: the disk at /mnt/disk is release") || !strings.Contains(strings.SplitN(out, "\n", 2)[0], "within these limits: ") {
		t.Errorf("the headline says more than was checked: %s", strings.SplitN(out, "\n", 2)[0])
	}
	m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
	m.verify("--store-root", "/mnt/disk").expect(t, "drifted", 1, "disk-altered "+m.path("program-01-1.1")+" bin/program-01:content")
	m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
	m.Run("umount", "/mnt/disk")
	t.Run("of a machine whose root is written to no more", func(t *testing.T) {
		// Its /etc is in memory while it runs; on the disk there is that of the day
		// it was installed, or none.
		m.Run("sh", "-euc", `mkdir -p /mnt/disk/nix; mount --bind /nix /mnt/disk/nix`)
		m.verify("--store-root", "/mnt/disk").expect(t, "verified", 0)
		m.Run("sh", "-euc", `mkdir -p /mnt/disk/etc/every-channel; ln -s /nix/store/00000000000000000000000000000000-older /mnt/disk/etc/every-channel/flake`)
		m.verify("--store-root", "/mnt/disk").expect(t, "verified", 0)
		m.verify("--store-root", "/mnt/disk", "--flake", "/etc/every-channel/flake").expect(t, "drifted", 1, "source-missing /etc/every-channel/flake")
		source := m.Run("readlink", "-fn", "/etc/every-channel/flake") + "/flake.nix"
		m.FlipByte(source, 3)
		defer m.FlipByte(source, 3)
		if a := m.verify("--store-root", "/mnt/disk"); a.Verdict != "drifted" || !a.has("source-altered") {
			t.Errorf("an altered flake: %s %v", a.Verdict, a.causes())
		}
	})
	m.Run("sh", "-euc", "umount /mnt/disk/nix; rm -r /mnt/disk; mkdir /mnt/disk")
	t.Run("links lead out of it", func(t *testing.T) {
		// The disk's store is a link to this machine's own, which is fine.
		m.Run("sh", "-euc", `mkdir -p /mnt/disk/nix; ln -s /nix/store /mnt/disk/nix/store; ln -s /nix/var /mnt/disk/nix/var; mkdir -p /mnt/disk/etc; ln -s /etc/every-channel /mnt/disk/etc/every-channel`)
		if a := m.verify("--store-root", "/mnt/disk"); a.Verdict == "verified" {
			t.Errorf("a link out of the disk was followed: %+v", a)
		}
	})
}
