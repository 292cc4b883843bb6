//go:build qemu

package guest

import (
	"os"
	"path/filepath"
	"testing"
)

// dirEnv names the directory with tree, vmlinuz and initrd.
const dirEnv = "EC_VERIFY_BOOT_DIR"

// Made returns the directory that hack/test-boot made.
func Made(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(dirEnv)
	if dir == "" {
		t.Fatalf("%s is not set: run this by hack/test-boot or hack/test-netboot", dirEnv)
	}
	return dir
}

// Modules returns the release of the kernel that the tests boot, and the list of its
// modules.
func Modules(t *testing.T) (kernel, list string) {
	t.Helper()
	lists, err := filepath.Glob(filepath.Join(Made(t), "tree/usr/lib/modules/*/modules.dep"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("the modules of one kernel: %q, %v", lists, err)
	}
	data, err := os.ReadFile(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(filepath.Dir(lists[0])), string(data)
}

// Quick are parameters of the kernel, for speed, and to end where it fails: page tables
// of the kernel's own cost emulation dearly, and a Debian whose root forgets would set
// itself up at each boot.
const Quick = "panic=-1 mitigations=off systemd.condition_needs_update=no"

// agent is the machine's end of the second serial port: it runs each line that
// it reads, as base64 of a script, and answers with a line of the script's
// status and its output as base64.
const agent = `#!/bin/bash
exec <>/dev/ttyS1 >&0
stty raw -echo
echo ready
while read -r line; do
  out=$(bash -c "$(base64 -d <<<"$line")" 2>&1 </dev/null)
  status=$?
  printf '%s %s\n' "$status" "$(base64 -w 0 <<<"$out")"
done
`

// Root fills dir with a copy of the Debian, as a machine with host keys, and without a
// network and a terminal, which would be waited for.
func Root(t *testing.T, dir string) {
	t.Helper()
	Command(t, "cp", "-al", filepath.Join(Made(t), "tree")+"/.", dir)
	for _, name := range []string{"serial-getty@ttyS0.service", "ssh.socket"} {
		Link(t, "/dev/null", filepath.Join(dir, "etc/systemd/system", name))
	}
	Command(t, "chroot", dir, "ssh-keygen", "-A")
	InstallAgent(t, dir)
}

// InstallAgent puts the agent into the root in dir.
func InstallAgent(t *testing.T, dir string) {
	t.Helper()
	WriteProgram(t, filepath.Join(dir, "usr/local/sbin/agent"), agent)
	units := filepath.Join(dir, "etc/systemd/system")
	Write(t, filepath.Join(units, "agent.service"), "[Unit]\nAfter=multi-user.target\n\n[Service]\nType=exec\nExecStart=/usr/local/sbin/agent\n")
	Link(t, "../agent.service", filepath.Join(units, "default.target.wants/agent.service"))
}

// Initrd writes an initrd to file: busybox, which runs a script once the modules of a
// disk's driver and those that are named are loaded, with the kernel's file systems
// mounted.
func Initrd(t *testing.T, file, script string, modules ...string) {
	t.Helper()
	dir := t.TempDir()
	WriteProgram(t, filepath.Join(dir, "init"), `#!/bin/busybox sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
for module in /modules/*; do insmod $module; done
for word in $(cat /proc/cmdline); do case $word in init=*) init=${word#init=} ;; esac; done
`+script)
	Shell(t, `
		tree=$1/tree file=$2
		cd "$3"
		shift 3
		mkdir -p bin dev proc sys run root modules
		cp "$tree/usr/bin/busybox" bin/
		bin/busybox --list | while read -r name; do [ -e "bin/$name" ] || ln -s busybox "bin/$name"; done
		n=100
		chroot "$tree" modprobe -S "$(basename "$tree"/usr/lib/modules/*)" --show-depends -a virtio_blk virtio-rng ext4 "$@" |
			sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
			while read -r module; do
				n=$((n + 1))
				xz -dc "$tree$module" >"modules/$n-$(basename "${module%.xz}")"
			done
		find . -print0 | LC_ALL=C sort -z | cpio --quiet --null -o -H newc -R +0:+0 --reproducible | gzip -n1 >"$file"`,
		append([]string{Made(t), file, dir}, modules...)...)
}
