//go:build qemu

package boottest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/guest"
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

// identity prints what a machine keeps from boot to boot.
const identity = `cat /etc/machine-id; for k in /var/lib/ssh/*_key; do ssh-keygen -lf $k; done; ls /var/log/journal`

// mark writes a file of that name everywhere, and sees that it is there.
const mark = `for d in / /etc /root /usr /nix /var /boot; do echo "$m" >$d/$m; done; ls /$m /etc/$m /root/$m /usr/$m /nix/$m /var/$m /boot/$m >/dev/null`

func TestOverlayRoot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, render(t, arguments{}))
	before := f.rootSum(t)
	initrd := f.initrd(t, f.layout)

	m := boot(t, initrd, f.main, f.second).Up()
	mounts(t, m)
	healthy(t, m)
	m.Expect(`touch /run/overlay-root/lower/x`, "touch: cannot touch '/run/overlay-root/lower/x': Read-only file system")
	first := m.Run(identity)
	if n := len(strings.Split(first, "\n")); n != 2+len(f.layout.HostKeys) {
		t.Errorf("the machine's id, its keys and one journal: got %q", first)
	}
	m.Run("m=first; " + mark)
	for _, command := range documented(t, "install.md", "### Inspecting it") {
		m.Run(command)
	}
	m.Expect(`cat /run/overlay-root/upper/etc/first; ls /run/overlay-root/lower/etc/first`,
		"first\nls: cannot access '/run/overlay-root/lower/etc/first': No such file or directory")
	m.Reboot()
	for _, bad := range []string{"Failed unmounting", "Failed to unmount /run/overlay-root"} {
		if m.Shows(bad) {
			t.Errorf("the machine's last words have %q", bad)
		}
	}

	m = boot(t, initrd, f.main, f.second).Up()
	mounts(t, m)
	healthy(t, m)
	m.Expect(identity, first)
	m.Expect(`ls -d /first /etc/first /root/first /usr/first 2>/dev/null; cat /nix/first /var/first /boot/first`, "first\nfirst\nfirst")
	m.Run("m=second; " + mark + "; sync")
	m.Cut()

	m = boot(t, initrd, f.main, f.second).Up()
	mounts(t, m)
	healthy(t, m)
	m.Expect(identity, first)
	m.Expect(`ls -d /second /etc/second /root/second /usr/second 2>/dev/null; cat /nix/second /var/second /boot/second`, "second\nsecond\nsecond")

	// What the layout spares the machine: a remount of the root, which fails.
	m.Try(`rm /etc/systemd/system/systemd-remount-fs.service; systemctl daemon-reload; systemctl start systemd-remount-fs`)
	m.Expect(`systemctl --failed --plain --no-legend | cut -d ' ' -f 1`, "systemd-remount-fs.service")
	m.Cut()

	if f.rootSum(t) != before {
		t.Error("something was written to the real root")
	}
}

// mounts checks all mounts of the layout.
func mounts(t *testing.T, m *guest.Machine) {
	t.Helper()
	m.Expect(`findmnt -no FSTYPE,OPTIONS / | grep -o '^overlay\|lowerdir=[^,]*\|upperdir=[^,]*\|workdir=[^,]*'`,
		"overlay\nlowerdir=/run/overlay-root/lower\nupperdir=/run/overlay-root/upper\nworkdir=/run/overlay-root/work")
	m.Expect(`findmnt -no FSTYPE /run/overlay-root; findmnt -no SOURCE,FSTYPE,OPTIONS /run/overlay-root/lower | sed -E 's/ +/ /g; s/^(\S+ \S+ ro),.*/\1/'`,
		"tmpfs\n/dev/vda2 ext4 ro")
	m.Expect(`for d in /boot /nix /var; do findmnt -no TARGET,FSTYPE,OPTIONS $d | sed -E 's/ +/ /g; s/^(\S+ \S+ rw),.*/\1/'; done`,
		"/boot vfat rw\n/nix ext4 rw\n/var ext4 rw")
	m.Expect(`stat -c '%a %U' / /run/overlay-root`, "755 root\n700 root")
}

// healthy sees that nothing failed.
func healthy(t *testing.T, m *guest.Machine) {
	t.Helper()
	m.Expect(`systemctl is-system-running --wait`, "running")
	m.Expect(`systemctl --failed --plain --no-legend`, "")
	m.Expect(`systemctl is-active ssh.service overlay-root-machine-id.service`, "active\ninactive")
	m.Expect(`journalctl -b -p warning -q -o cat | grep -i 'ordering cycle'`, "")
}

func TestMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, render(t, arguments{}))
	dir := t.TempDir()
	nothing, noVar, noRoot := filepath.Join(dir, "nothing.img"), filepath.Join(dir, "no-var.img"), filepath.Join(dir, "no-root.img")
	run(t, "truncate", "-s", "64M", nothing)
	makeDisk(t, f.layout, noVar, content{name: "var", mib: 60, skipped: true})
	makeDisk(t, f.layout, noRoot, content{name: "boot", mib: 40}, content{name: "root", mib: 60, skipped: true}, content{name: "nix", mib: 32})
	const root, boots, nix, vars = "the root file system", "/boot", "/nix", "/var"

	for _, c := range []struct {
		name, onMissing string
		tells           []string // and nothing else
		disks           []string
	}{
		{"var, then off", "poweroff", []string{vars}, []string{f.main}},
		{"var without a file system, then again", "reboot", []string{vars}, []string{f.main, noVar}},
		{"root without a file system, then again", "reboot", []string{root}, []string{noRoot, f.second}},
		{"all but var, then emergency", "emergency", []string{root, boots, nix}, []string{nothing, f.second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := render(t, arguments{OnMissing: c.onMissing})
			l.InitrdUnits["settled.service"] = settled(l)
			for i := range c.disks {
				c.disks[i] += ",snapshot=on"
			}
			m := bootWarped(t, f.initrd(t, l), c.disks...)
			ending := map[string]string{"poweroff": "Powering off in 60 s.", "reboot": "Rebooting in 60 s.", "emergency": "Waiting in emergency mode."}[c.onMissing]
			m.Hear(ending, guest.BootTimeout)
			switch c.onMissing {
			case "poweroff":
				m.Ends(guest.StopTimeout)
				m.Hear("reboot: Power down", 0)
			case "reboot":
				m.Ends(guest.StopTimeout)
				m.Hear("reboot: Restarting system", 0)
			default:
				m.Hear("the test: all is told", guest.BootTimeout)
				m.Hear("emergency mode", guest.BootTimeout)
				if m.Over() {
					t.Error("the machine ended")
				}
			}
			for _, what := range []string{root, boots, nix, vars} {
				says := fmt.Sprintf("%s is missing: /dev/disk/by-partlabel/ec-%s did not appear within 60 s, or holds no file system that can be mounted.",
					what, strings.TrimPrefix(strings.Replace(what, root, "/root", 1), "/"))
				if want := slices.Contains(c.tells, what); m.Shows(says) != want {
					t.Errorf("the console shows %q: got %v, want %v", says, !want, want)
				}
			}
			for _, says := range []string{"the overlay for / could not be mounted", "Switching root", "Switch Root"} {
				if m.Shows(says) {
					t.Errorf("the console also shows %q", says)
				}
			}
		})
	}
}

// settled says so on the console once everything in stage 1 is mounted, or was
// told to be missing.
func settled(l layout) unit {
	var all []string
	for name := range l.InitrdUnits {
		all = append(all, name)
	}
	for _, p := range l.Disk.Partitions {
		all = append(all, `dev-disk-by\x2dpartlabel-`+strings.ReplaceAll(p.Partlabel, "-", `\x2d`)+".device")
	}
	slices.Sort(all)
	return unit{
		Text: "[Unit]\nDefaultDependencies=no\nAfter=" + strings.Join(all, " ") +
			"\n\n[Service]\nType=oneshot\nStandardOutput=kmsg\nSyslogLevel=crit\nExecStart=/bin/echo the test: all is told\n",
		WantedBy: []string{"initrd.target"},
	}
}
