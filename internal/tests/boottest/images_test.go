//go:build qemu

package boottest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/bootlayouts"
	"every.channel/ec-verify/internal/tests/guest"
	"every.channel/ec-verify/internal/tests/testhost"
)

// TestISO: a machine that boots an ISO with what NixOS' iso-image.nix puts there, from its
// boot loader on, is its release.
func TestISO(t *testing.T) {
	t.Parallel()
	const label = "nixos-test"
	h := testhost.Start(t, testhost.Options{Runner: true})
	system := guest.MakeSystem(t, h, "/dev/disk/by-label/"+label+" /iso auto x-initrd.mount 0 0\n"+
		guest.MemoryMounts("/iso/nix-store.squashfs", "/iso/usr.squashfs"), `
mkdir /mnt-root
mount -t tmpfs -o mode=0755 tmpfs /mnt-root
mkdir /mnt-root/iso
for i in $(seq 100); do mount -t iso9660 -o ro /dev/sr0 /mnt-root/iso && break; sleep 0.1; done
`+guest.MemoryRoot("/mnt-root/iso"), "virtio_scsi", "sr_mod", "isofs", "squashfs", "loop", "overlay")
	guest.MakeRelease(t, h)
	dir := filepath.Join(t.TempDir(), "iso")
	system.Live(t, dir, guest.OfRelease()...)
	for name, from := range map[string]string{"boot/bzImage": "kernel", "boot/initrd": "initrd"} {
		run(t, "install", "-D", "-m", "644", system.File(from), filepath.Join(dir, name))
	}
	write(t, filepath.Join(dir, "isolinux/isolinux.cfg"), fmt.Sprintf("DEFAULT boot\n\nLABEL boot\nLINUX /boot/bzImage\nAPPEND init=%s/init %s\nINITRD /boot/initrd\n", system.Toplevel, guest.Params))
	image := filepath.Join(t.TempDir(), "image.iso")
	shell(t, `cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$1/isolinux"
		xorriso -as mkisofs -quiet -r -V "$3" -o "$2" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$1" 2>&1`, dir, image, label)

	m := start(t, guest.Emulated("on"), []string{
		"-drive", "if=none,id=cd,media=cdrom,format=raw,readonly=on,file=" + image,
		"-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd,bootindex=1",
	}, nil).Up()
	m.Expect("systemctl is-system-running --wait", "running")
	m.Expect("for at in / /iso /nix/.ro-store; do findmnt -no FSTYPE $at; done | xargs", "tmpfs iso9660 squashfs")
	m.Register("/nix/store/nix-path-registration")
	m.Clean(1, "")
	m.Run("echo evil >/root/.evilrc; mount --bind /etc/passwd /usr/bin/tac")
	m.Finds("", "foreign-mount /usr/bin/tac", "written-unknown /root/.evilrc")
	m.Cut()
}

// TestSD: a machine that boots a disk with what NixOS' sd-image.nix puts there, with the
// files and the command line of its extlinux.conf, is its release. The loader itself is
// left out: Debian's U-Boot for such a machine has the kernel overwrite its initrd.
func TestSD(t *testing.T) {
	t.Parallel()
	h := testhost.Start(t, testhost.Options{Runner: true})
	system := guest.MakeSystem(t, h, "/dev/disk/by-label/FIRMWARE /boot/firmware vfat nofail,noauto 0 2\n/dev/disk/by-label/NIXOS_SD / ext4 x-initrd.mount 0 1\n", `
for i in $(seq 100); do mount -t ext4 /dev/vda2 /root && break; sleep 0.1; done
for mount in proc sys dev run; do mount --move /$mount /root/$mount; done
exec switch_root /root $init
`)
	guest.MakeRelease(t, h)
	root := filepath.Join(t.TempDir(), "root")
	guest.Root(t, root)
	guest.SecondStage(t, h, system.Toplevel, root, guest.OfRelease()...)
	system.Store(t, filepath.Join(root, "nix/store"), filepath.Join(root, "nix-path-registration"))
	lay(t, filepath.Join(root, "boot"), root, bootlayouts.Extlinux(bootlayouts.System{
		Generation: 1, Toplevel: system.Toplevel, Params: guest.Params,
		Kernel: h.Run("readlink", "-f", system.Toplevel+"/kernel"), Initrd: h.Run("readlink", "-f", system.Toplevel+"/initrd"),
	}))
	write(t, filepath.Join(root, "etc/systemd/system/ec-verify.service"), "[Service]\nType=oneshot\nExecStart="+guest.Program+" --offline --wait 10m\n")
	run(t, "cp", "../../../systemd/ec-verify.timer", filepath.Join(root, "etc/systemd/system/"))
	disk := filepath.Join(t.TempDir(), "sd.img")
	shell(t, `
		truncate -s 700M "$1"
		printf 'label: dos\nstart=8MiB, size=30MiB, type=b\nstart=38MiB, type=83, bootable\n' | sfdisk --quiet "$1"
		mkfs.vfat -F 16 -n FIRMWARE --offset $((8 * 2048)) "$1" $((30 * 1024)) >&2
		mkfs.ext4 -q -F -L NIXOS_SD -E offset=$((38 * 1048576)) -d "$2" "$1" 660M`, disk, root)

	m := start(t, guest.Emulated("on"), []string{
		"-kernel", system.File("kernel"), "-initrd", system.File("initrd"), "-append", "init=" + system.Toplevel + "/init " + guest.Params,
	}, []string{disk}).Up()
	m.Expect("systemctl is-system-running --wait", "running")
	m.Register("/nix-path-registration")
	m.Clean(1, "")
	stepped(t, m)
	m.Run("echo evil >/etc/evil")
	m.Finds("", "file-unknown /etc/evil")
	m.Cut()
}

// stepped sets the clock of a machine that is verified by days: its standing is too old
// then, or is of a time to come, until it is verified again; and its timer goes on.
func stepped(t *testing.T, m *guest.Machine) {
	t.Helper()
	const check, days = guest.Program + " status --check", 3
	m.Run("systemctl start ec-verify.timer")
	for _, c := range []struct{ by, says string }{{"+", "days ago"}, {"-", "in the future"}} {
		m.Run(fmt.Sprintf("date --set @$(($(date +%%s) %s %d * 86400))", c.by, days))
		if out, code := m.Try(check); code != 4 || !strings.Contains(out, c.says) {
			t.Errorf("%s%d days: exit %d, want 4 and %q: %s", c.by, days, code, c.says, out)
		}
		m.Clean(1, "")
		if out, code := m.Try(check); code != 0 {
			t.Errorf("%s%d days, and a run: exit %d: %s", c.by, days, code, out)
		}
		// It is daily, within an hour.
		m.Run(guest.Program + ` status --output json | jq -e '[.now, .timers[0].next] | map(.[:19] + "Z" | fromdate) | .[1] - .[0] | . > -60 and . < 25 * 3600'`)
	}
}
