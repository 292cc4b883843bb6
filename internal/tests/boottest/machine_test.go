//go:build qemu

package boottest

import (
	"os/exec"
	"path/filepath"
	"testing"

	"every.channel/ec-verify/internal/tests/guest"
)

// boot starts a machine and returns at once. A disk whose name ends in
// ",snapshot=on" stays as it is, and may be in use elsewhere.
func boot(t *testing.T, initrd string, disks ...string) *guest.Machine {
	t.Helper()
	return start(t, guest.Emulated("on"), kernel(t, initrd), disks)
}

// bootWarped boots a machine whose clock jumps to the next timer when it is idle, so that its
// time-outs take no real time. Its console can't be used: its time is over before an answer
// comes.
func bootWarped(t *testing.T, initrd string, disks ...string) *guest.Machine {
	t.Helper()
	return start(t, guest.Emulated("off"), kernel(t, initrd), disks)
}

// bootFirmware boots a machine by its firmware, which starts what the disk has.
// variables is where the firmware keeps its own.
func bootFirmware(t *testing.T, variables string, disks ...string) *guest.Machine {
	t.Helper()
	return start(t, guest.Emulated("on"), []string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + firmware + "_CODE_4M.fd",
		"-drive", "if=pflash,format=raw,unit=1,file=" + variables,
		"-boot", "menu=off", // no time to wait for a key
	}, disks)
}

// firmware is the common prefix of the files of Debian's ovmf.
const firmware = "/usr/share/OVMF/OVMF"

// kernel is what qemu starts without a firmware.
func kernel(t *testing.T, initrd string) []string {
	t.Helper()
	// As NixOS has it; the rest is for the test's ears, and for speed.
	return []string{
		"-kernel", filepath.Join(guest.Made(t), "vmlinuz"), "-initrd", initrd,
		"-append", "root=fstab console=ttyS0 " + guest.Quick + " systemd.journald.forward_to_console=0 systemd.show_status=yes",
	}
}

// start boots a machine with qemu's arguments for its processor, and for what is started.
func start(t *testing.T, processor, with, disks []string) *guest.Machine {
	t.Helper()
	args := append(append(processor, "-m", "768"), with...)
	for _, disk := range disks {
		args = append(args, "-drive", "if=virtio,format=raw,file="+disk)
	}
	return guest.Start(t, func(argv ...string) *exec.Cmd { return exec.Command(argv[0], argv[1:]...) }, args...)
}
