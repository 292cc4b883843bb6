//go:build qemu

package boottest

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/bootlayouts"
	"every.channel/ec-verify/internal/tests/guest"
	"every.channel/ec-verify/internal/tests/testhost"
)

// tries is how often a new system may be booted before it is given up.
const tries = 2

// TestCountedBoot: systemd-boot counts the boots of a new system, and that system's
// ec-verify-boot.service decides whether it is good. The firmware, the loader, the unit, the
// program that marks the entry, and the releases are the real ones. Stage 1 is a script, and
// stage 2 is Debian's.
func TestCountedBoot(t *testing.T) {
	t.Parallel()
	m := newCounted(t)
	uncounted := m.entryName(m.second, "")
	expect := func(boot *guest.Machine, system, entry, complete string) {
		t.Helper()
		boot.Hear("init="+system+"/init ", 0) // the kernel says what it was started with
		boot.Try("systemctl is-system-running --wait")
		boot.Expect(`tr ' ' '\n' </proc/cmdline | sed -n 's/^init=//p'`, system+"/init")
		entries := []string{m.entryName(m.first, ""), entry}
		slices.Sort(entries)
		boot.Expect("ls /boot/loader/entries", strings.Join(entries, "\n"))
		boot.Expect("systemctl is-active boot-complete.target", complete)
		if heard := boot.Shows("Reached target boot-complete.target"); heard != (complete == "active") {
			t.Errorf("the console shows that boot-complete.target was reached: %v", heard)
		}
	}
	verdict := func(boot *guest.Machine, want string, says ...string) {
		t.Helper()
		boot.Expect("systemctl show -P ExecMainStatus ec-verify-boot.service", want)
		log := boot.Run("journalctl -b -u ec-verify-boot.service -u systemd-bless-boot.service -o cat --no-pager")
		for _, says := range append(says, "Mark the Current Boot Loader Entry as Good") {
			if !strings.Contains(log, says) {
				t.Errorf("the journal does not say %q", says)
			}
		}
		// The loaders on the disk are those of the release.
		if strings.Contains(log, "loader-unknown") || t.Failed() {
			t.Errorf("the units say:\n%s", log)
		}
	}

	good := bootFirmware(t, m.variables, m.disk, m.extlinux, m.grub).Up()
	expect(good, m.second, uncounted, "active")
	verdict(good, "0")
	m.layouts(t, good)
	// The system is altered, and its entry is new once more.
	altered := m.program + "/bin/program"
	good.Run(fmt.Sprintf("printf X | dd of=%s bs=1 seek=3 conv=notrunc; mv /boot/loader/entries/%s /boot/loader/entries/%s", altered, uncounted, m.entryName(m.second, fmt.Sprintf("+%d", tries))))
	good.Reboot()

	for try := range tries {
		bad := bootFirmware(t, m.variables, m.disk).Up()
		expect(bad, m.second, m.entryName(m.second, fmt.Sprintf("+%d-%d", tries-1-try, try+1)), "inactive")
		verdict(bad, "1", "disk-altered", m.program, "Dependency failed for systemd-bless-boot.service")
		bad.Expect("systemctl is-active systemd-bless-boot.service", "inactive")
		bad.Reboot()
	}

	fallback := bootFirmware(t, m.variables, m.disk).Up()
	// It is not counted, so that nothing asks whether it is complete.
	expect(fallback, m.first, m.entryName(m.second, fmt.Sprintf("+0-%d", tries)), "inactive")
	// The altered system is still what the profile leads to.
	out, code := fallback.Try("/usr/local/bin/ec-verify --output json --offline --rebuild none --unsafe-skip source,eval,machine")
	if code != 1 || !strings.Contains(out, m.program) {
		t.Errorf("exit %d, and not a word about %s:\n%s", code, m.program, out)
	}
}

// layouts looks at what other loaders have on a FAT file system, in place of /boot.
func (c counted) layouts(t *testing.T, m *guest.Machine) {
	t.Helper()
	base := strings.ReplaceAll(strings.TrimPrefix(c.generations[0].Kernel, "/nix/store/"), "/", "-")
	for _, l := range []struct{ device, dir, config string }{
		{"/dev/vdb", "nixos", "extlinux/extlinux.conf"},
		{"/dev/vdc", "kernels", "grub/grub.cfg"},
	} {
		look := func(what string, want int, says ...string) {
			t.Helper()
			out, code := m.Try("/usr/local/bin/ec-verify --output json --offline --rebuild none --unsafe-skip source,eval,machine,contents")
			for _, s := range says {
				if !strings.Contains(out, s) {
					code = -1
				}
			}
			if code != want {
				t.Errorf("%s, %s: got %d, want exit %d and %q:\n%s", l.config, what, code, want, says, out)
			}
		}
		kernel := "/boot/" + l.dir + "/" + base
		m.Run("umount /boot && mount -o umask=0077 " + l.device + " /boot")
		look("as it is", 0)
		// What a file is called on FAT has no case, to no loader.
		m.Run(fmt.Sprintf("cd /boot && mv %[1]s x && mv x %[2]s", l.dir, strings.ToUpper(l.dir)))
		look("in other letters", 0)
		m.Run("printf XYZ | dd of=" + kernel + " bs=1 seek=700000 conv=notrunc")
		look("bytes in the kernel", 1, "boot-altered", kernel)
		if l.dir == "kernels" {
			m.Run(fmt.Sprintf("cp %s %s && sed -i s/AAAA-BBBB/EEEE-EEEE/ /boot/%s", c.generations[0].Kernel, kernel, l.config))
			look("the search for another file system", 1, "boot-altered", `"uuid AAAA-BBBB"`, `"uuid EEEE-EEEE"`)
			m.Run("sed -i s/EEEE-EEEE/AAAA-BBBB/ /boot/" + l.config)
		}
		m.Run(fmt.Sprintf("cp %s %s && sed -i 's,init=%s/init,init=/bin/sh,' /boot/%s", c.generations[0].Kernel, kernel, c.second, l.config))
		look("init=", 1, "other-entry", "/boot/"+l.config)
	}
	m.Run("umount /boot && mount /boot")
}

// counted is a machine with two systems of accepted releases.
type counted struct {
	disk, variables string
	extlinux, grub  string               // disks that are a /boot each
	generations     []bootlayouts.System // the second system is the newest
	first, second   string               // store paths of the systems
	program         string               // what only the second has
}

func newCounted(t *testing.T) counted {
	t.Helper()
	dir := t.TempDir()
	flake := filepath.Join(dir, "flake")
	tools := filepath.Join(flake, "system/tools")
	run(t, "mkdir", "-p", tools)
	run(t, "cp", "-r", "../../../testdata/flake/library", flake)
	run(t, "cp", "testdata/flake/flake.nix", "../../../testdata/flake/system/flake.lock", filepath.Join(flake, "system"))
	run(t, "cp", filepath.Join(guest.Made(t), "vmlinuz"), filepath.Join(guest.Made(t), "tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi"), tools)
	const params = "TERM=dumb console=ttyS0 loglevel=6 systemd.show_status=yes " + guest.Quick
	write(t, filepath.Join(tools, "kernel-params"), params)
	guest.Initrd(t, filepath.Join(tools, "initrd"), `
for i in $(seq 100); do [ ! -e /dev/vda2 ] || break; sleep 0.1; done
mount -t ext4 /dev/vda2 /root
for mount in proc sys dev run; do mount --move /$mount /root/$mount; done
exec switch_root /root $init
`, "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "autofs4", "efivarfs")

	host := testhost.Start(t, testhost.Options{})
	host.MakeRunner(flake, "first")
	systems := host.Runner().Systems
	c := counted{
		disk: filepath.Join(dir, "disk.img"), variables: filepath.Join(dir, "variables.fd"),
		first: systems["first"].Toplevel, second: systems["second"].Toplevel,
	}
	host.Activate(c.second, c.second)
	c.program = host.Run("readlink", "-f", c.second+"/sw")
	release(t, host)

	root := filepath.Join(dir, "root")
	run(t, "mkdir", root)
	run(t, "cp", "-al", filepath.Join(guest.Made(t), "tree")+"/.", root)
	host.Run("systemctl", "stop", "nix-daemon.socket", "nix-daemon.service")
	run(t, "rm", "-rf", filepath.Join(root, "nix"), filepath.Join(root, "usr/local"))
	shell(t, `tar -C "$1" -c nix usr/local etc/ec-verify var/lib/ec-verify | tar -C "$2" -x`, host.Path("/"), root)
	write(t, filepath.Join(root, "etc/fstab"), "/dev/vda2 / ext4 defaults 0 0\n/dev/vda1 /boot vfat umask=0077 0 0\n")
	link(t, c.second+"/etc/every-channel", filepath.Join(root, "etc/every-channel"))
	system := filepath.Join(root, "etc/systemd/system")
	// No network, no terminal, and no builds.
	for _, name := range []string{
		"serial-getty@ttyS0.service", "ssh.socket", "ssh.service", "nix-daemon.socket", "nix-daemon.service",
		"systemd-logind.service", "systemd-user-sessions.service", "dbus.socket", "dbus.service", "systemd-hostnamed.socket",
		"proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service", "systemd-random-seed.service",
	} {
		link(t, "/dev/null", filepath.Join(system, name))
	}
	link(t, "/usr/local/lib/systemd/system/ec-verify-boot.service", filepath.Join(system, "boot-complete.target.requires/ec-verify-boot.service"))
	guest.InstallAgent(t, root)

	esp := filepath.Join(dir, "esp")
	run(t, "mkdir", "-p", filepath.Join(esp, "EFI/BOOT"), filepath.Join(esp, "EFI/systemd"))
	loader := filepath.Join(guest.Made(t), "tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	for _, place := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"} {
		run(t, "cp", loader, filepath.Join(esp, place))
	}
	for n, system := range []string{c.first, c.second} {
		c.generations = append([]bootlayouts.System{{
			Generation: n + 1, Toplevel: system, Params: params,
			Kernel: host.Run("readlink", "-f", system+"/kernel"), Initrd: host.Run("readlink", "-f", system+"/initrd"),
		}}, c.generations...)
	}
	// The older system is known to be good. There is no time for a menu.
	lay(t, esp, root, bootlayouts.CountedSystemdBoot(0, c.generations[1]))
	lay(t, esp, root, bootlayouts.CountedSystemdBoot(tries, c.generations[0]))
	run(t, "sed", "-i", "s/^timeout .*/timeout 0/", filepath.Join(esp, "loader/loader.conf"))
	for name, files := range map[string]map[string]bootlayouts.File{
		"extlinux": bootlayouts.Extlinux(c.generations...), "grub": bootlayouts.Grub(c.generations...),
	} {
		tree := filepath.Join(dir, name)
		lay(t, tree, root, files)
		shell(t, `mkfs.vfat -F 32 -s 1 -i AAAABBBB -C "$1.img" $((64 * 1024)) >&2; mcopy -Qs -i "$1.img" "$1"/* ::`, tree)
	}
	c.extlinux, c.grub = filepath.Join(dir, "extlinux.img"), filepath.Join(dir, "grub.img")

	c.makeDisk(t, esp, root)
	run(t, "cp", firmware+"_VARS_4M.fd", c.variables)
	return c
}

// lay writes the files of a layout to dir, those of the store as root has them.
func lay(t *testing.T, dir, root string, files map[string]bootlayouts.File) {
	t.Helper()
	for name, file := range files {
		if file.From == "" {
			write(t, filepath.Join(dir, name), file.Text)
			continue
		}
		run(t, "install", "-D", "-m", "644", root+file.From, filepath.Join(dir, name))
	}
}

// entryName is what a system's entry is called, with the counter of its tries, or "".
func (c counted) entryName(system string, counter string) string {
	for _, g := range c.generations {
		for name := range bootlayouts.CountedSystemdBoot(0, g) {
			if dir, base := path.Split(name); dir == "loader/entries/" && g.Toplevel == system {
				return strings.TrimSuffix(base, ".conf") + counter + ".conf"
			}
		}
	}
	return ""
}

// makeDisk writes a disk with an EFI system partition and a root.
func (c counted) makeDisk(t *testing.T, esp, root string) {
	t.Helper()
	const espMiB, rootMiB = 64, 800
	shell(t, `
		truncate -s $((1 + $2 + $3 + 1))M "$1"
		printf 'label: gpt\nstart=1MiB, size=%sMiB, type=uefi\nstart=%sMiB, size=%sMiB, type=linux\n' "$2" $((1 + $2)) "$3" | sfdisk --quiet "$1"
		mkfs.vfat -F 32 -s 1 --offset 2048 "$1" $(($2 * 1024)) >&2
		mkfs.ext4 -q -F -E offset=$(((1 + $2) * 1048576)) -d "$4" "$1" "$3M"
		mcopy -Qs -i "$1@@1M" "$5"/* ::`, c.disk, fmt.Sprint(espMiB), fmt.Sprint(rootMiB), root, esp)
}

// release puts ec-verify on the host with the releases of both systems, the second
// one the newer, as accepted ones in its cache.
func release(t *testing.T, host *testhost.Host) {
	t.Helper()
	dest := filepath.Join(t.TempDir(), "installed")
	run(t, "make", "-C", "../../..", "install", "DESTDIR="+dest, "PREFIX=/usr/local")
	host.Push(filepath.Join(dest, "usr/local"), "/usr/local")
	private, public := testhost.SigningKey(t)
	push := func(name, text string) {
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, text)
		host.Run("mkdir", "-p", filepath.Dir(name))
		host.Push(file, name)
	}
	push("/root/ci.key", private)
	push("/etc/ec-verify/ci.pub", public)
	push("/etc/ec-verify/config.json", `{
		"release": {"source": ["/srv/releases"], "accept": ["boot-v2", "boot-v1"]},
		"trust": {"keys": [{"name": "ci", "file": "/etc/ec-verify/ci.pub"}]}
	}`)
	const program = "/usr/local/bin/ec-verify"
	for n, configuration := range []string{"first", "second"} {
		tag := fmt.Sprintf("boot-v%d", n+1)
		host.Run("env", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", 1790000000+n), program, "manifest", "create", "/etc/every-channel/flake#"+configuration,
			"--out", "/srv/releases/"+tag, "--tag", tag, "--best-before", "87600h")
		host.Run(program, "release", "sign", "/srv/releases/"+tag, "--key", "/root/ci.key")
	}
	host.Run(program, "release", "refresh")
}
