//go:build qemu

package boottest

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine whose /var is on a disk of its own, so that it can be missing.
type fixture struct {
	layout layout
	main   string // disk with boot, root and nix
	second string // disk with var
	root   *io.SectionReader
}

const rootMiB = 640

func newFixture(t *testing.T, l layout) fixture {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	makeRoot(t, l, tree)
	f := fixture{layout: l, main: filepath.Join(dir, "main.img"), second: filepath.Join(dir, "second.img")}
	offsets := makeDisk(t, l, f.main, content{name: "boot", mib: 40}, content{name: "root", mib: rootMiB, from: tree}, content{name: "nix", mib: 32})
	makeDisk(t, l, f.second, content{name: "var", mib: 64})
	disk, err := os.Open(f.main)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	f.root = io.NewSectionReader(disk, offsets["root"], rootMiB*mebibyte)
	return f
}

func (f fixture) rootSum(t *testing.T) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f.root, 0, f.root.Size())); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (f fixture) initrd(t *testing.T, l layout) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "initrd")
	makeInitrd(t, l, file)
	return file
}

// identity is what a machine keeps from boot to boot.
const identity = `cat /etc/machine-id; for k in /var/lib/ssh/*_key; do ssh-keygen -lf $k; done; ls /var/log/journal`

// mark writes a file of that name everywhere, and sees that it is there.
const mark = `for d in / /etc /root /usr /nix /var /boot; do echo "$m" >$d/$m; done; ls /$m /etc/$m /root/$m /usr/$m /nix/$m /var/$m /boot/$m >/dev/null`

func TestOverlayRoot(t *testing.T) {
	f := newFixture(t, render(t, arguments{}))
	before := f.rootSum(t)
	initrd := f.initrd(t, f.layout)

	m := boot(t, initrd, f.main, f.second).up()
	m.mounts()
	m.healthy()
	m.expect(`touch /run/overlay-root/lower/x`, "touch: cannot touch '/run/overlay-root/lower/x': Read-only file system")
	first := m.run(identity)
	if n := len(strings.Split(first, "\n")); n != 2+len(f.layout.HostKeys) {
		t.Errorf("the machine's id, its keys and one journal: got %q", first)
	}
	m.run("m=first; " + mark)
	m.expect(`cat /run/overlay-root/upper/etc/first; ls /run/overlay-root/lower/etc/first`,
		"first\nls: cannot access '/run/overlay-root/lower/etc/first': No such file or directory")
	m.reboot()
	for _, bad := range []string{"Failed unmounting", "Failed to unmount /run/overlay-root"} {
		if m.console.has(bad) {
			t.Errorf("the machine's last words have %q", bad)
		}
	}

	m = boot(t, initrd, f.main, f.second).up()
	m.mounts()
	m.healthy()
	m.expect(identity, first)
	m.expect(`ls -d /first /etc/first /root/first /usr/first 2>/dev/null; cat /nix/first /var/first /boot/first`, "first\nfirst\nfirst")
	m.run("m=second; " + mark + "; sync")
	m.cut()

	m = boot(t, initrd, f.main, f.second).up()
	m.mounts()
	m.healthy()
	m.expect(identity, first)
	m.expect(`ls -d /second /etc/second /root/second /usr/second 2>/dev/null; cat /nix/second /var/second /boot/second`, "second\nsecond\nsecond")

	// What the layout spares the machine: a remount of the root, which fails.
	m.try(`rm /etc/systemd/system/systemd-remount-fs.service; systemctl daemon-reload; systemctl start systemd-remount-fs`)
	m.expect(`systemctl --failed --plain --no-legend | cut -d ' ' -f 1`, "systemd-remount-fs.service")
	m.cut()

	if f.rootSum(t) != before {
		t.Error("something was written to the real root")
	}
}

// mounts looks at all mounts of the layout.
func (m *machine) mounts() {
	m.t.Helper()
	m.expect(`findmnt -no FSTYPE,OPTIONS / | grep -o '^overlay\|lowerdir=[^,]*\|upperdir=[^,]*\|workdir=[^,]*'`,
		"overlay\nlowerdir=/run/overlay-root/lower\nupperdir=/run/overlay-root/upper\nworkdir=/run/overlay-root/work")
	m.expect(`findmnt -no FSTYPE /run/overlay-root; findmnt -no SOURCE,FSTYPE,OPTIONS /run/overlay-root/lower | sed -E 's/ +/ /g; s/^(\S+ \S+ ro),.*/\1/'`,
		"tmpfs\n/dev/vda2 ext4 ro")
	m.expect(`for d in /boot /nix /var; do findmnt -no TARGET,FSTYPE,OPTIONS $d | sed -E 's/ +/ /g; s/^(\S+ \S+ rw),.*/\1/'; done`,
		"/boot vfat rw\n/nix ext4 rw\n/var ext4 rw")
	m.expect(`stat -c '%a %U' / /run/overlay-root`, "755 root\n700 root")
}

// healthy sees that nothing failed.
func (m *machine) healthy() {
	m.t.Helper()
	m.expect(`systemctl is-system-running --wait`, "running")
	m.expect(`systemctl --failed --plain --no-legend`, "")
	m.expect(`systemctl is-active ssh.service overlay-root-machine-id.service`, "active\ninactive")
	m.expect(`journalctl -b -p warning -q -o cat | grep -i 'ordering cycle'`, "")
}

func TestMissing(t *testing.T) {
	// Seconds to wait for a device; those that are there take ten to appear on a
	// machine at rest, and six times that on a busy one.
	const wait = 90
	f := newFixture(t, render(t, arguments{}))
	nothing := filepath.Join(t.TempDir(), "nothing.img")
	broken := filepath.Join(t.TempDir(), "broken.img")
	run(t, "truncate", "-s", "64M", nothing)
	makeDisk(t, f.layout, broken, content{name: "var", mib: 60, skipped: true})

	for _, c := range []struct {
		name, onMissing, says string
		disks                 []string
	}{
		{"var, then off", "poweroff", "/var is missing: /dev/disk/by-partlabel/ec-var did not appear within 90 s", []string{f.main}},
		{"var without a file system, then again", "reboot", "/var is missing: /dev/disk/by-partlabel/ec-var", []string{f.main, broken}},
		{"root, then emergency", "emergency", "the root file system is missing: /dev/disk/by-partlabel/ec-root did not appear within 90 s", []string{nothing, f.second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // mostly waiting
			l := render(t, arguments{OnMissing: c.onMissing, DeviceTimeout: wait, NoticeSeconds: 2})
			for i := range c.disks {
				c.disks[i] += ",snapshot=on"
			}
			m := boot(t, f.initrd(t, l), c.disks...)
			m.hear(c.says, bootTimeout)
			switch c.onMissing {
			case "poweroff":
				m.hear("Powering off in 2 s.", time.Minute)
				m.ends(stopTimeout)
				m.hear("reboot: Power down", 0)
			case "reboot":
				m.hear("Rebooting in 2 s.", time.Minute)
				m.ends(stopTimeout)
				m.hear("reboot: Restarting system", 0)
			default:
				m.hear("Waiting in emergency mode.", time.Minute)
				m.hear("emergency mode", time.Minute)
				if m.over() {
					t.Error("the machine ended")
				}
			}
			for _, other := range []string{"/boot", "/nix", "/var", "the root file system"} {
				// Where the root is missing, so is the disk with most of the rest.
				if says := other + " is missing"; m.console.has(says) && !strings.HasPrefix(c.says, says) && (c.onMissing != "emergency" || other == "/var") {
					t.Errorf("the console also shows %q", says)
				}
			}
			if m.console.has("Switching root") || m.console.has("Switch Root") && m.console.has("Starting initrd-switch-root") {
				t.Error("the machine went on without it")
			}
		})
	}
}
