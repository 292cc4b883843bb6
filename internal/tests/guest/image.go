//go:build qemu

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// System is a system that boots from an image, on the host that it was built on. Its
// kernel is Debian's, and its init starts Debian's systemd.
type System struct {
	Host     *testhost.Host
	Toplevel string
}

// Params are the parameters of a system's kernel. no_timer_check: Linux counts ticks while
// it boots, and panics if an emulator on a busy machine delivers too few.
const Params = "console=ttyS0,115200n8 no_timer_check loglevel=6 systemd.show_status=yes " + Quick

// MakeSystem makes the host a runner of a system with that fstab, whose initrd runs a
// script, with modules loaded.
func MakeSystem(t *testing.T, h *testhost.Host, fstab, script string, modules ...string) System {
	t.Helper()
	kernel, list := Modules(t)
	flake := filepath.Join(testhost.Flake(t, testhost.Configured{Fstab: fstab, Kernel: kernel, Modules: list}), "system")
	Command(t, "install", "-D", "-m", "644", filepath.Join(Made(t), "vmlinuz"), filepath.Join(flake, "boot/vmlinuz"))
	Initrd(t, filepath.Join(flake, "boot/initrd"), script, modules...)
	edit(t, filepath.Join(flake, "packages.nix"), "seq 1 50000 >$out/bzImage", "cp ${./boot}/vmlinuz $out/bzImage")
	edit(t, filepath.Join(flake, "packages.nix"), ") >$out/initrd", ") >/dev/null; cp ${./boot}/initrd $out/initrd")
	edit(t, filepath.Join(flake, "system.nix"), "printf %s 'console=ttyS0' >$out/kernel-params", "printf %s '"+Params+"' >$out/kernel-params")
	// The other configurations would be built as well.
	Shell(t, `sed -i '/# The system before it/,/^      };/{/^      };/!d}' "$1"`, filepath.Join(flake, "flake.nix"))
	// What stage 2 of NixOS does for the store and its links.
	edit(t, filepath.Join(flake, "system.nix"), "      exec $busybox/bin/sh\n", `
      export PATH=/usr/bin:/usr/sbin
      chown 0:30000 /nix/store; chmod 1775 /nix/store
      mount --bind /nix/store /nix/store; mount -o remount,ro,bind /nix/store
      for link in current-system booted-system; do ln -sfn $out /run/\$link; done
      exec /usr/lib/systemd/systemd
`)
	h.MakeRunner(filepath.Dir(flake), "testhost")
	return System{h, h.Runner().Systems["testhost"].Toplevel}
}

// File is where a file of the system is, from outside of its host.
func (s System) File(name string) string {
	return s.Host.Path(s.Host.Run("readlink", "-f", s.Toplevel+"/"+name))
}

// edit replaces text in file, where it is once.
func edit(t *testing.T, file, from, to string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), from); n != 1 {
		t.Fatalf("%s has %q %d times", file, from, n)
	}
	Write(t, file, strings.Replace(string(data), from, to, 1))
}

// Store makes dir the system's store, and a file that registers what it has.
func (s System) Store(t *testing.T, dir, registration string) {
	t.Helper()
	paths := strings.Fields(s.Host.Run("nix-store", "--query", "--requisites", s.Toplevel))
	from, argv := s.Host.Path("/nix"), []string{"-a", "-t", dir}
	for _, p := range paths {
		argv = append(argv, from+strings.TrimPrefix(p, "/nix"))
	}
	Command(t, "mkdir", "-p", dir)
	Command(t, "cp", argv...)
	Write(t, registration, s.Host.Run(append([]string{"nix-store", "--dump-db"}, paths...)...)+"\n")
}

// Register does what NixOS' images do once they have booted: Nix is told what is in the
// store, by a file, and there is a system profile.
func (m *Machine) Register(file string) {
	m.t.Helper()
	m.Run("nix-store --store local --load-db <" + file)
	m.Run(`nix-env --store local --profile /nix/var/nix/profiles/system --set "$(readlink -f /run/current-system)"`)
}

// Live makes of a system what an image boots into memory, in dir: nix-store.squashfs,
// and of the Debian usr.squashfs, and root.tar with all else.
func (s System) Live(t *testing.T, dir string, files ...string) {
	t.Helper()
	root, store := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "store")
	Root(t, root)
	// It would mount a /usr anew, which no NixOS has.
	Link(t, "/dev/null", filepath.Join(root, "etc/systemd/system/systemd-remount-fs.service"))
	SecondStage(t, s.Host, s.Toplevel, root, files...)
	s.Store(t, store, filepath.Join(store, "nix-path-registration"))
	Shell(t, `
		fast='-comp zstd -Xcompression-level 1 -quiet -no-progress'
		mkdir -p "$3"
		mksquashfs "$2" "$3/nix-store.squashfs" $fast -all-root >&2
		mksquashfs "$1/usr" "$3/usr.squashfs" $fast >&2
		tar -C "$1" --exclude=./usr/* -cf "$3/root.tar" .`, root, store, dir)
}

// MemoryRoot is the part of stage 1 that makes of what [System.Live] made, in a directory,
// the root in /mnt-root, and starts it.
func MemoryRoot(dir string) string {
	return fmt.Sprintf(`
dir=%s new=/mnt-root
tar -x -f $dir/root.tar -C $new
mkdir -p $new/nix/.ro-store $new/nix/.rw-store $new/nix/store
mount -t squashfs -o loop,ro $dir/usr.squashfs $new/usr
mount -t squashfs -o loop,ro $dir/nix-store.squashfs $new/nix/.ro-store
mount -t tmpfs -o mode=0755 tmpfs $new/nix/.rw-store
mkdir -p $new/nix/.rw-store/store $new/nix/.rw-store/work
mount -t overlay -o lowerdir=$new/nix/.ro-store,upperdir=$new/nix/.rw-store/store,workdir=$new/nix/.rw-store/work overlay $new/nix/store
for mount in proc sys dev run; do mount --move /$mount $new/$mount; done
exec switch_root $new $init
`, dir)
}

// MemoryMounts is the fstab of such a machine, as NixOS' modules write it, but for the
// line about /usr: the Debian's.
func MemoryMounts(store, usr string) string {
	const overlay = "lowerdir=/mnt-root/nix/.ro-store,upperdir=/mnt-root/nix/.rw-store/store,workdir=/mnt-root/nix/.rw-store/work"
	return "tmpfs / tmpfs x-initrd.mount,mode=0755 0 0\n" +
		store + " /nix/.ro-store squashfs x-initrd.mount,loop 0 0\n" +
		"tmpfs /nix/.rw-store tmpfs x-initrd.mount,mode=0755 0 0\n" +
		"overlay /nix/store overlay x-initrd.mount," + overlay + " 0 0\n" +
		usr + " /usr squashfs x-initrd.mount,loop 0 0\n"
}
