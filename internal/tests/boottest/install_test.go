//go:build qemu

package boottest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/guest"
	"every.channel/ec-verify/internal/tests/testhost"
)

const (
	tag            = guest.Tag
	installTimeout = 4 * time.Minute // some 5 s on a machine at rest
	diskGiB        = 20              // sparse
	kills          = 20
)

// installer is a test host that has a runner's system, its release and hack/install-runner,
// like an installer image. Debian's tools replace those of nixpkgs, and a program that only
// records its calls replaces nixos-install.
type installer struct {
	*testhost.Host
	t *testing.T
}

func newInstaller(t *testing.T, l layout) installer {
	t.Helper()
	h := testhost.Start(t, testhost.Options{Runner: true})
	// The same runner, with the module's mounts, and the kernel that is booted.
	kernel, modules := guest.Modules(t)
	h.MakeRunner(testhost.Flake(t, testhost.Configured{Fstab: l.Fstab, Kernel: kernel, Modules: modules}), "testhost")
	h.Push("../../../hack/install-runner", "/opt/hack/install-runner")
	h.Push("../../../modules/overlay-root/disk-layout.json", "/opt/modules/overlay-root/disk-layout.json")
	h.Run("ln", "-s", "/opt/hack/install-runner", "/usr/local/bin/install-runner")
	// Of the same Debian as the host, so that its libraries go with them.
	shell(t, `cd "$1"; tar -cf - usr/sbin/{sfdisk,mkfs.fat,mkfs.vfat,mke2fs,mkfs.ext4,e2fsck,debugfs} usr/bin/jq etc/mke2fs.conf \
		usr/lib/x86_64-linux-gnu/lib{fdisk,jq,onig,ext2fs,e2p,ss,com_err,readline,tinfo}.so.* | tar -C "$2" -xf -`,
		filepath.Join(guest.Made(t), "tree"), h.Path("/"))

	h.Run("sh", "-euc", `printf '#!/bin/sh\necho "$*" >>/tmp/called; mountpoint -q "$2/boot"\n' >/usr/local/bin/nixos-install
		chmod 755 /usr/local/bin/nixos-install`)

	guest.MakeRelease(t, h)
	return installer{h, t}
}

// system is the toplevel that is installed.
func (in installer) system() string { return in.Runner().Systems["testhost"].Toplevel }

// loop makes a loop device of an image. Whoever uses it makes its partitions
// known and this forgets them.
func loop(t *testing.T, image string, args ...string) string {
	t.Helper()
	out, err := exec.Command("losetup", append(args, "--find", "--show", image)...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v\n%s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { detach(t, device, image) })
	return device
}

// detach takes the device from image; others may have it by now for theirs.
func detach(t *testing.T, device, image string) {
	t.Helper()
	if out, _ := exec.Command("losetup", "--noheadings", "--output", "BACK-FILE", device).Output(); strings.TrimSpace(string(out)) != image {
		return // detached already
	}
	_ = exec.Command("partx", "--delete", device).Run() // it may have none
	run(t, "losetup", "--detach", device)
}

func blank(t *testing.T, gib int) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	run(t, "truncate", "-s", fmt.Sprintf("%dG", gib), image)
	return image
}

// inDevices runs a command in the host, where all devices of this machine are
// in /dev.
func (in installer) inDevices(stdin string, argv ...string) (stdout, stderr string, code int) {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	return in.ExecInput(ctx, strings.NewReader(stdin),
		append([]string{"unshare", "--mount", "sh", "-euc", `mount -t devtmpfs devtmpfs /dev; exec "$@"`, "-"}, argv...)...)
}

// install runs install-runner, without asking.
func (in installer) install(args ...string) (output string, code int) {
	in.t.Helper()
	stdout, stderr, code := in.inDevices("", append([]string{"install-runner", "--yes", "--against", tag}, args...)...)
	return stdout + stderr, code
}

func (in installer) mustInstall(args ...string) string {
	in.t.Helper()
	out, code := in.install(args...)
	if code != 0 {
		in.t.Fatalf("install-runner %s: status %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// withDisk mounts the disk's root, nix and var, runs a script there, and
// returns what it prints.
func (in installer) withDisk(device, script string) string {
	in.t.Helper()
	stdout, stderr, code := in.inDevices("", "sh", "-euc", `partx --update "$1" 2>/dev/null || partx --add "$1" 2>/dev/null || true
		mount "$1p2" /mnt; mount "$1p3" /mnt/nix; mount "$1p4" /mnt/var; cd /mnt; `+script, "-", device)
	if code != 0 {
		in.t.Fatalf("%s: status %d\n%s%s", script, code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// verified checks with a separate run of ec-verify that the disk equals the release.
func (in installer) verified(device string) {
	in.t.Helper()
	system := in.system()
	out := in.withDisk(device, `ec-verify --against `+tag+` --store-root /mnt --state-dir /tmp/state --output json --progress never`)
	var report struct {
		Verdict  string
		Coverage struct{ Paths, Hashed int }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Verdict != "verified" || report.Coverage.Hashed < 50 {
		in.t.Errorf("what ec-verify says of the disk (%v): %s", err, out)
	}
	if got := in.withDisk(device, `readlink -f /mnt/nix/var/nix/profiles/system | sed s,^/mnt,,; readlink /mnt/nix/var/nix/profiles/system`); got != system+"\nsystem-1-link" {
		in.t.Errorf("the system profile leads to %q, want %q", got, system)
	}
}

// unused sees that nothing of the disk is mounted anywhere on this machine.
func unused(t *testing.T, device string) {
	t.Helper()
	shell(t, `! grep -l "/${1#/dev/}p[0-9]" /proc/[0-9]*/mounts 2>/dev/null`, device)
}

func TestInstall(t *testing.T) {
	t.Parallel()
	l := render(t, arguments{})
	in := newInstaller(t, l)
	image := blank(t, diskGiB)
	device := loop(t, image)

	t.Run("nothing is done", func(t *testing.T) {
		out, stderr, code := in.inDevices("", "install-runner", "--against", tag, "--dry-run", device)
		for _, want := range []string{"ALL THAT IS ON " + device + " IS LOST", "ec-boot", "ec-var", "/nix", in.system()} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("--dry-run: want %q, got (status %d)\n%s%s", want, code, out, stderr)
			}
		}
		for _, answer := range []string{"", "no\n", "y\n"} {
			if out, stderr, code := in.inDevices(answer, "install-runner", "--against", tag, device); code != 3 {
				t.Errorf("answer %q: status %d, want 3\n%s%s", answer, code, out, stderr)
			}
		}
		shell(t, `cmp -n 1048576 "$1" /dev/zero; [[ $(du -k "$1" | cut -f 1) = 0 ]]`, image)
	})

	begin := time.Now()
	out := in.mustInstall("--no-boot-loader", device)
	took := time.Since(begin)
	t.Logf("installed in %.1f s", took.Seconds())
	if !strings.Contains(out, "does not boot") || !strings.Contains(out, "verified: the disk at ") {
		t.Errorf("install-runner says\n%s", out)
	}
	in.laidOut(t, l, device)
	in.verified(device)
	unused(t, device)

	t.Run("refused", func(t *testing.T) { in.refuses(t, device) })

	t.Run("/var is kept, and nothing else", func(t *testing.T) {
		in.withDisk(device, `echo kept >var/lib/kept; echo gone >nix/gone; echo gone >gone; sync`)
		id := `blkid -c /dev/null -o value -s UUID `
		before := in.withDisk(device, id+`"$1p4"`)
		in.mustInstall("--no-boot-loader", "--keep-var", device)
		if got := in.withDisk(device, `cat var/lib/kept; ls gone nix/gone 2>/dev/null || true; `+id+`"$1p4"`); got != "kept\n"+before {
			t.Errorf("after --keep-var: got %q", got)
		}
		in.laidOut(t, l, device)
		in.verified(device)
	})

	t.Run("sectors of 4 KiB", func(t *testing.T) {
		shell(t, `partx --delete "$1"`, device) // two disks with the same partitions would be refused
		large := loop(t, blank(t, diskGiB), "--sector-size", "4096")
		in.mustInstall("--no-boot-loader", large)
		in.mustInstall("--no-boot-loader", "--keep-var", large)
		in.laidOut(t, l, large)
	})

	t.Run("the boot loader comes last", func(t *testing.T) { in.bootLoader(t, device) })

	t.Run("pulled out", func(t *testing.T) { in.pulledOut(t, image, device, took) })
	in.laidOut(t, l, device)
	in.verified(device)
	unused(t, device)

	t.Run("boots", func(t *testing.T) {
		// A Debian for a root, in the place of what NixOS makes of its closure;
		// the mounts are the module's, and the disk is install-runner's.
		tree := filepath.Join(t.TempDir(), "tree")
		makeRoot(t, l, tree)
		system := in.system()
		guest.SecondStage(t, in.Host, system, tree, guest.OfRelease()...)
		shell(t, `partx --update "$1" 2>/dev/null || partx --add "$1" 2>/dev/null || true
			exec unshare --mount bash -euc 'mount "$1p2" /mnt; cp -a "$2/." /mnt/; umount /mnt' - "$1" "$2"`, device, tree)
		detach(t, device, image)
		initrd := filepath.Join(t.TempDir(), "initrd")
		makeInitrd(t, l, initrd)
		m := boot(t, initrd, image).Up()
		mounts(t, m)
		healthy(t, m)
		m.Expect(`readlink -f /nix/var/nix/profiles/system`, system)
		m.Expect(`cat /nix/var/nix/profiles/system/nixos-version`, "26.05.2")
		m.Run(fmt.Sprintf("for link in current-system booted-system; do ln -sfn %s /run/$link; done", system))
		const look = "--unsafe-skip source,eval,live,contents"
		m.Clean(1, look)
		m.Run("echo evil >/root/.evilrc")
		m.Finds(look, "written-unknown /root/.evilrc")
		m.Run("rm /root/.evilrc")
		m.Busy()
		m.Clean(1, look)
		m.Idle()
		m.Cut()
	})
}

// laidOut checks that the disk has the partitions and file systems of the layout.
func (in installer) laidOut(t *testing.T, l layout, device string) {
	t.Helper()
	stdout, stderr, code := in.inDevices("", "sh", "-euc", `partx --update "$1" 2>/dev/null || partx --add "$1" 2>/dev/null || true
		sfdisk --json "$1" | jq -r '.partitiontable | .label, (.partitions[] | "\(.type) \(.name)")'
		for p in "$1"p?; do blkid -c /dev/null -o value -s TYPE -s LABEL "$p" | sort | xargs; done
		for p in "$1"p[234]; do e2fsck -fn "$p" >/tmp/fsck 2>&1 || { echo "$p is damaged"; cat /tmp/fsck; }; done`, "-", device)
	want := "gpt\n"
	for _, p := range l.Disk.Partitions {
		want += p.Type + " " + p.Partlabel + "\n"
	}
	for _, p := range l.Disk.Partitions {
		words := []string{p.FsType, p.Label}
		slices.Sort(words)
		want += strings.Join(words, " ") + "\n"
	}
	if code != 0 || stdout != want {
		t.Errorf("the disk: status %d, got\n%s%s\nwant\n%s", code, stdout, stderr, want)
	}
}

// refuses sees what install-runner will not touch. The disk is installed.
func (in installer) refuses(t *testing.T, device string) {
	small := loop(t, blank(t, 4))
	empty := loop(t, blank(t, diskGiB))
	locked := loop(t, blank(t, diskGiB), "--read-only")
	// What the disk remembers of the release that it was installed from.
	remembers := func(edit string) string {
		return `mount ${1}p4 /mnt; cd /mnt/lib/ec-verify; [ -e /tmp/accepted ] || cp accepted.json /tmp/accepted
			jq '.accepted[0] |= (` + edit + `)' /tmp/accepted >accepted.json; cd /; umount /mnt;`
	}
	for _, c := range []struct {
		name, before, device string
		args                 []string
		code                 int
		says                 string
	}{
		{"no device", "", "/etc/hostname", nil, 2, "/etc/hostname: is not a block device"},
		{"nothing", "", "/dev/nothing", nil, 2, "/dev/nothing: is not a block device"},
		{"a partition", "", device + "p3", nil, 2, "is a partition; give the whole disk"},
		{"mounted", "mount ${1}p3 /mnt;", device, nil, 2, "is in use: " + device + "p3 is mounted on /mnt"},
		{"runs from it", "mount ${1}p3 /boot;", device, nil, 2, "holds the running system (/boot)"},
		{"read-only", "", locked, nil, 2, "is read-only"},
		{"too small", "", small, nil, 2, "is too small: 4096 MiB, and 12290 MiB are needed"},
		{"a twin", "", empty, nil, 2, "another disk has partitions of the same names"},
		{"nothing to keep", "partx --delete " + device + ";", empty, []string{"--keep-var"}, 2, "there is no /var to keep"},
		{"/var is no file system", "head -c 65536 ${1}p4 >/tmp/start; wipefs -qa ${1}p4;", device, []string{"--keep-var"}, 2, "holds no ext4 file system, so there is no /var to keep"},
		{"unknown release", "head -c 65536 /tmp/start >${1}p4;", device, []string{"--against", "boot-v2020.01.01"}, 1, "the release boot-v2020.01.01 is not valid"},
		{"unknown configuration", "", device, []string{"--configuration", "other"}, 1, "has no configuration other"},
		{"older than what was accepted", remembers(`.tag = "boot-v2027.01.01" | .createdAt = "` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `" | del(.seen)`),
			device, []string{"--keep-var"}, 1, "already accepted the newer boot-v2027.01.01"},
		{"other than what was accepted", remembers(`.sums = "` + strings.Repeat("0", 64) + `"`), device, []string{"--keep-var"}, 1, "other contents under this tag"},
		{"revoked", remembers(".") + `mount ${1}p4 /mnt; printf '{"schemaVersion": 1, "createdAt": "2026-03-01T00:00:00Z", "sums": "` + strings.Repeat("0", 64) + `",
			"revoked": [{"tag": "` + tag + `", "revokedAt": "2026-03-01T00:00:00Z", "reason": "its sshd lets everybody in"}], "asked": "2026-03-01T00:00:00Z", "refused": ""}' >/mnt/lib/ec-verify/revoked.json; umount /mnt;`,
			device, []string{"--keep-var"}, 1, "not trusted (revoked)"},
		{"an unreadable memory", `mount ${1}p4 /mnt; echo >/mnt/lib/ec-verify/revoked.json; umount /mnt;`, device, []string{"--keep-var"}, 1, "the memory of revoked releases"},
		{"no longer revoked", `mount ${1}p4 /mnt; rm /mnt/lib/ec-verify/revoked.json; umount /mnt;`, device, []string{"--keep-var", "--dry-run"}, 0, ""},
		// Its journal can't be replayed: it can be looked at, and not written to.
		{"/var is damaged", remembers(".") + `at=$(/usr/sbin/debugfs -R 'bmap <8> 0' ${1}p4 2>/dev/null); echo $at >/tmp/at; dd if=${1}p4 of=/tmp/journal bs=4096 skip=$at count=1 status=none
			dd if=/dev/zero of=${1}p4 bs=4096 seek=$at count=1 conv=notrunc status=none;`, device, []string{"--keep-var"}, 2, "cannot be kept; mend it (fsck " + device + "p4)"},
		{"mounted elsewhere", `dd if=/tmp/journal of=${1}p4 bs=4096 seek=$(cat /tmp/at) count=1 conv=notrunc status=none
			unshare --mount --propagation private sh -euc 'mount "$1" /mnt; echo $$ >/tmp/holder; exec sleep 300 >/dev/null 2>&1' - ${1}p3 &
			until [ -e /tmp/holder ]; do sleep 0.1; done;`, device, nil, 2, "is in use by something that cannot be seen from here"},
		{"no release", "kill $(cat /tmp/holder);", device, []string{"--against", ""}, 64, "--against lacks its value"},
		{"no option", "", device, []string{"--force"}, 64, "unknown option --force"},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := "partx --add " + device + " 2>/dev/null || true; " + c.before + ` shift; exec "$@"`
			argv := append([]string{"sh", "-euc", script, "-", c.device, "install-runner", "--yes", "--against", tag}, append(c.args, c.device)...)
			stdout, stderr, code := in.inDevices("", argv...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("status %d, want %d; want %q, got\n%s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
	in.verified(device) // after all this
}

// bootLoader sees that nixos-install is called last, and only for a disk that
// is the release.
func (in installer) bootLoader(t *testing.T, device string) {
	// This kernel may have no FAT: then a tmpfs is where /boot would be.
	in.Run("sh", "-euc", `mkdir -p /opt/shim
		grep -qw vfat /proc/filesystems || printf '#!/bin/sh\n[ "$2" = vfat ] || exec /usr/bin/mount "$@"\nexec /usr/bin/mount -t tmpfs stand-in "$4"\n' >/opt/shim/mount
		chmod -R 755 /opt/shim`)
	shimmed := func(args ...string) (string, int) {
		stdout, stderr, code := in.inDevices("", append([]string{"env", "PATH=/opt/shim:/usr/local/bin:/usr/bin:/usr/sbin", "install-runner", "--yes", "--against", tag, "--keep-var"}, args...)...)
		return stdout + stderr, code
	}
	in.documented(t, device)
	in.Run("rm", "-f", "/tmp/called")
	system := in.system()
	out, code := shimmed(device)
	if code != 0 || !strings.Contains(out, "done: "+device+" is release "+tag) {
		t.Errorf("status %d\n%s", code, out)
	}
	want := "--root /run/install-runner/root --system " + system + " --no-root-passwd --no-channel-copy\n"
	if got := in.Run("cat", "/tmp/called"); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("nixos-install was called with %q, want %q", got, want)
	}
	in.Run("rm", "/tmp/called")

	// The medium that it is installed from is damaged: Nix notices. Where its
	// database was made to agree, Nix copies it faithfully, and ec-verify notices.
	file := strings.TrimSpace(in.Run("readlink", "-f", system+"/sw/bin/program-01"))
	object := strings.Join(strings.Split(file, "/")[:4], "/")
	in.FlipByte(file, 3)
	out, code = shimmed(device)
	if code != 1 || !strings.Contains(out, "could not be copied: no boot loader was installed") {
		t.Errorf("from a damaged medium: status %d\n%s", code, out)
	}
	hash := strings.TrimSpace(in.SQL("select hash from ValidPaths where path='" + object + "'"))
	wrong := strings.TrimSpace(in.Run("sh", "-c", "nix-store --dump "+object+" | sha256sum | cut -d ' ' -f 1"))
	in.SQL("update ValidPaths set hash='sha256:" + wrong + "' where path='" + object + "'")
	out, code = shimmed(device)
	if code != 1 || !strings.Contains(out, "the disk is not release "+tag+" (ec-verify ended with 1): no boot loader was installed") || !strings.Contains(out, object) {
		t.Errorf("from an altered medium: status %d\n%s", code, out)
	}
	in.FlipByte(file, 3)
	in.SQL("update ValidPaths set hash='" + hash + "' where path='" + object + "'")
	in.Run("sh", "-c", "! test -e /tmp/called")
	in.mustInstall("--no-boot-loader", "--keep-var", device)
}

// documented runs what docs/install.md says, on this disk and with this host's
// release in place of a stick's.
func (in installer) documented(t *testing.T, device string) {
	t.Helper()
	here := strings.NewReplacer(
		"mount -o ro /dev/disk/by-label/RELEASE", "mount --bind /srv/releases",
		"/dev/nvme0n1", device,
		"/dev/disk/by-partlabel/ec-nix", device+"p3",
		"ec-runner-x86_64", "testhost",
	)
	script := "PATH=/opt/shim:/usr/local/bin:/usr/bin:/usr/sbin\n"
	for _, command := range documented(t, "install.md", "## Install", "## Install again: repair and update", "## Verifying an installation") {
		switch {
		case command == "reboot", command == "ec-verify --against "+tag: // that is the installed machine
		case strings.Contains(command, "https://"): // a network
		default:
			script += here.Replace(command) + "\n"
		}
	}
	// Each command has a line of its own to read, the answer of those that ask.
	stdout, stderr, code := in.inDevices(strings.Repeat(device+"\n", 10), "sh", "-euxc", script)
	if code != 0 || strings.Count(stderr, "done: "+device+" is release "+tag) != 2 || !strings.Contains(stdout, "verified: the disk at /mnt is release") {
		t.Errorf("status %d\n%s\n%s", code, stdout, stderr)
	}
}

// pulled runs an install and pulls the disk out: it waits until install-runner
// is at a step, and for so many seconds more. Then the run is ended, or, where
// its disk is to be copied, stopped until it was. It prints the last step, and
// ends with 3 where the run was through before.
const pulled = `
	step=$1 delay=$2 copied=$3; shift 3
	trap 'touch /tmp/pulled.end' EXIT
	setsid "$@" >/tmp/pulled.out 2>&1 & # a process group of its own
	run=$!
	until grep -q "$step" /tmp/pulled.out; do
		kill -0 $run 2>/dev/null || exit 3
		sleep 0.02
	done
	sleep "$delay"
	kill -s STOP -- -$run || exit 3
	if [ "$copied" = true ]; then
		touch /tmp/pulled.now
		until [ -e /tmp/pulled.done ]; do sleep 0.02; done
	fi
	kill -s KILL -- -$run || true
	code=0; wait $run || code=$?
	[ $code = 137 ] || exit 3
	sed -n 's/^install-runner: \([a-z ]*[a-z]\).* …$/\1/p' /tmp/pulled.out | tail -n 1`

// pulledOut ends an install at random moments of each of its steps, and has a
// second one complete it. Half of them keep /var. Of every second one the disk is
// copied as it is at that moment, without what the kernel has yet to write, and
// the second run gets the copy. A run that was through before its moment came is
// no pulled disk, and does not count.
func (in installer) pulledOut(t *testing.T, image, device string, took time.Duration) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	in.withDisk(device, `echo kept >var/lib/kept`)
	during := map[string]int{}
	for n, draws := 0, 0; n < kills; draws++ {
		if draws == 3*kills {
			t.Fatalf("of %d runs only %d could be pulled out", draws, n)
		}
		args, steps := []string{"--no-boot-loader", device}, []string{"", "making file systems", "copying /", "verifying"}
		keep, copied := n < kills/2, n%2 == 1
		if keep {
			args = append([]string{"--keep-var"}, args...)
		} else {
			steps = append(steps, "partitioning")
		}
		step := steps[random.IntN(len(steps))]
		delay := random.Float64() * took.Seconds() / 3
		name := fmt.Sprintf("%.2f s after %q, keep %v, copied %v", delay, step, keep, copied)

		in.Run("sh", "-c", "rm -f /tmp/pulled.*")
		type end struct {
			stdout, stderr string
			code           int
		}
		first := make(chan end, 1)
		go func() {
			stdout, stderr, code := in.inDevices("", append([]string{"sh", "-euc", pulled, "-", step, fmt.Sprintf("%.3f", delay), fmt.Sprint(copied),
				"install-runner", "--yes", "--against", tag}, args...)...)
			first <- end{stdout, stderr, code}
		}()
		target, second := device, filepath.Join(t.TempDir(), "copy.img")
		if copied {
			ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
			_, _, code := in.Exec(ctx, "sh", "-c", `until [ -e /tmp/pulled.end ]; do [ -e /tmp/pulled.now ] && exit; sleep 0.02; done; exit 1`)
			cancel()
			if code == 0 {
				run(t, "cp", "--sparse=always", image, second)
				in.Run("touch", "/tmp/pulled.done")
			}
		}
		e := <-first
		if e.code == 3 {
			took = took * 3 / 4 // it is quicker now
			continue
		}
		if e.code != 0 {
			t.Fatalf("%s: status %d\n%s%s", name, e.code, e.stdout, e.stderr)
		}
		during[strings.TrimSpace(e.stdout)]++
		n++
		if copied {
			// The kernel forgets the first disk's partitions: two disks with the
			// same would be refused.
			shell(t, `for i in {1..100}; do partx --delete "$1" 2>/dev/null && exit; sleep 0.1; done; ! ls "$1"p* 2>/dev/null`, device)
			target = loop(t, second)
			args[len(args)-1] = target
		}
		if out, code := in.install(args...); code != 0 {
			t.Fatalf("%s: the second run: status %d\n%s", name, code, out)
		}
		if keep {
			if got := in.withDisk(target, `cat var/lib/kept`); got != "kept" {
				t.Errorf("%s: /var has %q", name, got)
			}
		}
		unused(t, target)
		if copied {
			in.verified(target)
			detach(t, target, second)
		}
	}
	t.Logf("pulled out %d times, last seen at: %v", kills, during)
	in.mustInstall("--no-boot-loader", device)
}
