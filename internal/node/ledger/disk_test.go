package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/tests/repeat"
)

// The tests in this file need mounts, users and so root. Each runs in a process
// of its own with its own mounts, so that none is left behind.

const mountVar = "EC_VERIFY_TEST_MOUNTS"

// aside runs the calling test in a process of its own, as set by attr, and
// reports whether this is that process.
func aside(t *testing.T, attr *syscall.SysProcAttr, env ...string) bool {
	t.Helper()
	if os.Getenv(mountVar) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	// By this name it can be run by a user who can't see where it lies.
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprint("-test.short=", testing.Short()))
	cmd.Env = append(append(os.Environ(), mountVar+"="+t.Name()), env...)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	// Not the exit code: with -cover another user can't write what was covered.
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) || bytes.Contains(out, []byte("--- FAIL")) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mounted mounts a file system of this size in kilobytes, and returns its
// directory.
func mounted(t *testing.T, kilobytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kilobytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fillUp leaves kilobytes of the file system of dir free.
func fillUp(t *testing.T, dir string, kilobytes int64) (empty func()) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "filler")
	if err := os.WriteFile(name, make([]byte, int64(st.Bfree)*st.Bsize-kilobytes<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

var ownMounts = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}

// TestFullDisk fills the disk so that each time something else does not fit. The contents
// of the ledger stay, failed writes are reported, and they are repeated once there is
// space.
func TestFullDisk(t *testing.T) {
	if !aside(t, ownMounts) {
		return
	}
	step := max(1, 12/int64(repeat.Times(t, 1)))
	if testing.Short() {
		step = 20
	}
	failed, written := int64(0), int64(0)
	for free := int64(0); free <= 200; free += step {
		dir := mounted(t, 4096)
		before := fillAll(t, dir)
		l := open(t, dir)
		empty := fillUp(t, dir, free)

		r, err := l.Begin(t.Context(), tool)
		if err != nil {
			failed++
			if sameAfter(t, dir, before) != "" {
				t.Fatalf("%d kB free: set aside after %v", free, err)
			}
			empty()
			continue
		}
		items := makeItems(300)
		inv := Inventory{Tier: Contents, Manifest: release2, Items: items}
		expectErr := r.Expect(t.Context(), inv)
		if expectErr != nil {
			failed++
			empty()
			if err := r.Expect(t.Context(), inv); err != nil {
				t.Fatalf("%d kB free: with space again: %v", free, err)
			}
			empty = fillUp(t, dir, 0)
		}
		for _, item := range items {
			r.Record(Contents, item, Outcome{Result: Drifted})
		}
		flushErr := r.Flush(t.Context())
		var bad *DamagedError
		if errors.As(flushErr, &bad) {
			t.Fatalf("a full disk is taken for damage: %v", flushErr)
		}
		if flushErr != nil {
			failed++
			for _, record := range records(t, l) {
				if record.Last.Run == r.Run() {
					t.Fatalf("%d kB free: a part of the batch is there", free)
				}
			}
		} else {
			written++
		}
		empty()
		end(t, r)
		if got := records(t, l)[items[299].Key()]; got.Last.Run != r.Run() {
			t.Errorf("%d kB free: what was recorded is lost: %+v", free, got)
		}
		l.Close()
		if again := open(t, dir); len(records(t, again)) != 300 {
			t.Errorf("%d kB free: %d records", free, len(records(t, again)))
		}
	}
	t.Logf("%d times something did not fit, %d times all did", failed, written)
	if failed < 40/step || written < 12/step {
		t.Error("the disk was not full at different moments")
	}
}

// TestFullDiskAtFirst: on a disk without any space there is no ledger, and an error says
// so; with space again there is one.
func TestFullDiskAtFirst(t *testing.T) {
	if !aside(t, ownMounts) {
		return
	}
	for free := int64(0); free < 60; free += 4 {
		dir := mounted(t, 256)
		empty := fillUp(t, dir, free)
		l, err := Open(t.Context(), dir, Options{})
		var bad *DamagedError
		if errors.As(err, &bad) {
			t.Errorf("%d kB free: %v", free, err)
		}
		if err == nil {
			l.Close()
		}
		if free == 0 && err == nil {
			t.Error("a ledger was made of nothing")
		}
		empty()
		fill(t, dir, 10)
		if kept, err := SetAside(dir); err != nil || len(kept) > 0 {
			t.Errorf("%d kB free: set aside: %q, %v", free, kept, err)
		}
	}
}

// TestReadOnlyFileSystem: where nothing can be written Open says so, and what
// is there can be read.
func TestReadOnlyFileSystem(t *testing.T) {
	if !aside(t, ownMounts) {
		return
	}
	dir := mounted(t, 1024)
	want := fillAll(t, filepath.Join(dir, "state"))
	killed := filepath.Join(dir, "killed")
	leaveJournal(t, killed)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"state", "none"} {
		if l, err := Open(t.Context(), filepath.Join(dir, state), Options{}); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %+v, %v", state, l, err)
		}
	}
	l, err := OpenReadOnly(t.Context(), filepath.Join(dir, "state"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, err := contentOf(t.Context(), l); err != nil || len(got.Runs) != len(want.Runs) || len(got.States[Contents].Records) != 30 {
		t.Errorf("%+v, %v", got, err)
	}
	// A write that was cut off can't be undone here, and without that nothing
	// that is there is to be believed.
	var bad *DamagedError
	if _, err := OpenReadOnly(t.Context(), killed, Options{}); err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), "in the middle") {
		t.Errorf("a write was cut off: %v", err)
	}
}

// leaveJournal makes a ledger in dir as a program leaves it that is killed
// while it writes to the file.
func leaveJournal(t *testing.T, dir string) {
	t.Helper()
	source := t.TempDir()
	fillAll(t, source)
	l := open(t, source)
	tx, err := l.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	// With little memory SQLite writes before the transaction ends.
	for _, s := range []string{
		"pragma cache_size = 10",
		"update checks set tool = 'half', sum = 0",
		"with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into items (tier, path, want) select 'half', i, zeroblob(32) from n",
	} {
		if _, err := tx.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{FileName, FileName + journalSuffix, ".ledger.lock"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalLeft: a write that was cut off is undone by whoever opens the
// ledger next, be it to read.
func TestJournalLeft(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		dir := t.TempDir()
		leaveJournal(t, dir)
		if readOnly {
			l, err := OpenReadOnly(t.Context(), dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
		}
		l := open(t, dir)
		for _, r := range records(t, l) {
			if r.Last.Tool != tool {
				t.Fatalf("half of a write is there: %+v", r)
			}
		}
		if exists(l.File() + journalSuffix) {
			t.Error("the journal is still there")
		}
	}
	t.Run("without it", func(t *testing.T) {
		// The same ledger without its journal is damaged: the test above shows
		// something.
		dir := t.TempDir()
		leaveJournal(t, dir)
		if err := os.Remove(filepath.Join(dir, FileName+journalSuffix)); err != nil {
			t.Fatal(err)
		}
		var bad *DamagedError
		if _, err := OpenReadOnly(t.Context(), dir, Options{}); !errors.As(err, &bad) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOtherUser: who may read the state directory but not write to it can read a
// copy of the ledger, and neither change nor lock anything of it.
func TestOtherUser(t *testing.T) {
	const stateVar = "EC_VERIFY_TEST_STATE"
	dir := os.Getenv(stateVar)
	if dir == "" {
		dir = t.TempDir()
		fillAll(t, dir)
		if err := Publish(dir); err != nil {
			t.Fatal(err)
		}
		// The directories that the testing package makes are private.
		for parent := dir; parent != "/" && parent != filepath.Clean(os.TempDir()); parent = filepath.Dir(parent) {
			if err := os.Chmod(parent, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if !aside(t, nobody, stateVar+"="+dir, "TMPDIR=/tmp") {
		return
	}
	for _, state := range []string{dir, filepath.Join(dir, "none")} {
		if l, err := Open(t.Context(), state, Options{}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%+v, %v", l, err)
		}
	}
	l, err := OpenReadOnly(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := len(records(t, l)); got != 30 {
		t.Errorf("%d records", got)
	}
	if l.File() != filepath.Join(dir, CopyName) {
		t.Errorf("it reads %s", l.File())
	}
	for _, name := range []string{FileName, ".ledger.lock"} {
		if f, err := os.Open(filepath.Join(dir, name)); !errors.Is(err, fs.ErrPermission) {
			f.Close()
			t.Errorf("it can open, and so lock, %s: %v", name, err)
		}
	}
	if _, err := l.Begin(t.Context(), tool); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Begin: %v", err)
	}
}

// TestPublishFails: a copy that can't be made is not one of before.
func TestPublishFails(t *testing.T) {
	dir := t.TempDir()
	fillAll(t, dir)
	if err := Publish(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	if err := Publish(dir); err == nil || exists(filepath.Join(dir, CopyName)) {
		t.Errorf("got %v, and the old copy stays", err)
	}
}

// TestPermissions: a ledger that others could open, of an older program or for a
// moment, is closed to them by the next who writes to it.
func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	fillAll(t, dir)
	names := []string{FileName, ".ledger.lock"}
	for _, name := range names {
		if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir)
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
