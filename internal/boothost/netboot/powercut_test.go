package netboot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/repeat"
)

const (
	stageVar = "EC_VERIFY_TEST_STAGE" // "DIR RELEASES TAG": stage it, and end
	mountVar = "EC_VERIFY_TEST_MOUNTS"
)

// TestMain lets the test binary be the program that is killed.
func TestMain(m *testing.M) {
	if spec := os.Getenv(stageVar); spec != "" {
		part := strings.Fields(spec)
		fmt.Println("begin")
		if _, err := stage(context.Background(), stager(part[0]), part[1], release.Tag(part[2])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// startStage starts a process of its own that stages tag, and returns it when
// it begins to.
func startStage(t *testing.T, dir, releases string, tag release.Tag) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), stageVar+"="+strings.Join([]string{dir, releases, string(tag)}, " "))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("begin\n"))); err != nil {
		t.Fatalf("%v: %v", err, cmd.Wait())
	}
	return cmd
}

// TestPowerCut cuts the power at random moments of staging, and at more until some
// were before, in the middle of and after what counts: the file system is looked at
// as its disk was at that moment, without what was in memory only. At each, what is
// served is the whole of one release; and the next run goes on from there.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts many file systems")
	}
	if os.Geteuid() != 0 {
		t.Skip("takes root to mount")
	}
	if os.Getenv(mountVar) == "" {
		inOwnMounts(t)
		return
	}
	cuts := repeat.Times(t, 16)
	work := t.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "ec-verify-powercut-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(shm) })
		work = shm
	}
	releases := filepath.Join(work, "releases")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))

	// Two disks to begin with: nothing staged, and the first release.
	empty, full := filepath.Join(work, "empty.img"), filepath.Join(work, "full.img")
	run(t, "truncate", "-s", "32M", empty)
	run(t, "mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0", empty)
	run(t, "cp", empty, full)
	mnt := filepath.Join(work, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(mnt, "www")
	mount(t, full, mnt)
	start := time.Now()
	if err := startStage(t, dir, releases, first).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(start)
	run(t, "umount", mnt)

	random := rand.New(rand.NewPCG(3, 4))
	seen := make(map[release.Tag]int)
	halfway := 0
	spread := func() bool { return seen[""] > 0 && seen[first] > 0 && seen[second] > 0 && halfway > 0 }
	for i := 0; i < cuts || !spread() && i < 1000; i++ {
		// A loop device may be that of its file for a moment longer than it is mounted.
		disk, cut := filepath.Join(work, fmt.Sprintf("disk-%d.img", i)), filepath.Join(work, fmt.Sprintf("cut-%d.img", i))
		from, before := full, first
		if i%4 == 0 {
			from, before = empty, ""
		}
		run(t, "cp", from, disk)
		mount(t, disk, mnt)
		cmd := startStage(t, dir, releases, second)
		time.Sleep(time.Duration(random.Int64N(int64(whole))))
		// It stands still while its disk is copied. Nothing else writes there: the
		// journal commits when it is asked to, and memory is not written back
		// within the seconds that this takes.
		if freeze(t, cmd.Process.Pid) {
			run(t, "cp", disk, cut)
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err := cmd.Wait(); err == nil {
			run(t, "cp", disk, cut) // it was done; so is the copy, without what was not synced
			whole = whole * 9 / 10
		} else {
			whole = whole * 11 / 10 // a busy machine takes longer each time
		}
		// A kill alone loses nothing that was written.
		if tag, err := served(dir); err != nil || tag != before && tag != second {
			t.Fatalf("kill %d: served %q, %v", i, tag, err)
		}
		run(t, "umount", mnt)

		mount(t, cut, mnt)
		tag, err := served(dir)
		if err != nil || tag != before && tag != second {
			t.Fatalf("cut %d: served %q, %v; want %q or %q", i, tag, err, before, second)
		}
		seen[tag]++
		if left, _ := filepath.Glob(filepath.Join(dir, "stages", ".tmp-*")); len(left) > 0 {
			halfway++
		}
		staged, err := stage(t.Context(), stager(dir), releases, second)
		if err != nil {
			t.Fatalf("cut %d: the next run: %v", i, err)
		}
		if tag, err := served(dir); err != nil || tag != second {
			t.Fatalf("cut %d: the next run serves %q, %v", i, tag, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "stages", "*")); len(left) > 2 {
			t.Fatalf("cut %d: the next run of %s leaves %q", i, staged.Name, left)
		}
		run(t, "umount", mnt)
		run(t, "rm", disk, cut)
	}
	t.Logf("nothing served %d, the first %d, the second %d times; %d times a stage in the making", seen[""], seen[first], seen[second], halfway)
	// The test shows something only if the cuts fell on all sides.
	if !spread() {
		t.Error("the cuts are not spread over the staging")
	}
}

// freeze stops a process and waits until it is stopped; false if it has ended.
func freeze(t *testing.T, pid int) bool {
	t.Helper()
	_ = syscall.Kill(-pid, syscall.SIGSTOP)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		still, ended := 0, false
		for _, name := range tasks {
			data, _ := os.ReadFile(name)
			state := string(data[bytes.LastIndexByte(data, ')')+1:])
			ended = ended || strings.HasPrefix(state, " Z")
			if strings.HasPrefix(state, " T") {
				still++
			}
		}
		if ended {
			return false
		}
		if still == len(tasks) {
			return true
		}
	}
	t.Fatal("it does not stop")
	return false
}

// TestFullDisk: on a disk without room for another release, the one before goes
// on being served, and nothing is left of the attempt.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root to mount")
	}
	if os.Getenv(mountVar) == "" {
		inOwnMounts(t)
		return
	}
	work := t.TempDir()
	releases, mnt := filepath.Join(work, "releases"), filepath.Join(work, "mnt")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", mnt)
	dir := filepath.Join(mnt, "www")
	if _, err := stage(t.Context(), stager(dir), releases, first); err != nil {
		t.Fatal(err)
	}
	before := names(t, filepath.Join(dir, "stages"))
	if _, err := stage(t.Context(), stager(dir), releases, second); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
	if tag, err := served(dir); err != nil || tag != first {
		t.Errorf("served %q, %v", tag, err)
	}
	if got := names(t, filepath.Join(dir, "stages")); got != before {
		t.Errorf("stages: %s", got)
	}
	run(t, "mount", "-o", "remount,size=20m", mnt)
	if _, err := stage(t.Context(), stager(dir), releases, second); err != nil {
		t.Fatal(err)
	}
	run(t, "umount", mnt)
}

// inOwnMounts runs the test again in a mount namespace of its own, so that no
// mount and no loop device is left however it ends.
func inOwnMounts(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		t.Skip("the kernel gives no mount namespaces")
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), mountVar+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// mount mounts an image without what would write to it by itself.
func mount(t *testing.T, image, dir string) {
	t.Helper()
	run(t, "mount", "-t", "ext4", "-o", "loop,noatime,commit=600", image, dir)
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
}
