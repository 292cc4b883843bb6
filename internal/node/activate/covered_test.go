package activate

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// bind mounts a directory over another one until the returned function is called.
func bind(t *testing.T, from, over string) (undo func()) {
	t.Helper()
	must(t, unix.Mount(from, over, "", unix.MS_BIND, ""))
	return func() { must(t, unix.Unmount(over, unix.MNT_DETACH)) }
}

// What is mounted over a path, or over the store, is noticed, whatever it shows.
func TestCovered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := closure.StoreDir(filepath.Join(t.TempDir(), "store"))
	path := func(letter string) string { return filepath.Join(string(dir), strings.Repeat(letter, 32)+"-x") }
	for _, letter := range []string{"a", "b", "c"} {
		must(t, os.MkdirAll(filepath.Join(path(letter), "sub"), 0o755)) //nolint:gosec // as Nix has it
	}
	store, err := nixstore.OpenStore("", dir)
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	m := &Marks{store: store}
	paths := []closure.PathInfo{{Path: closure.StorePath(path("a"))}, {Path: closure.StorePath(path("b"))}}
	expect := func(want ...string) {
		t.Helper()
		if got, err := m.Covered(paths); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	expect()
	undo := bind(t, path("a"), path("c")) // none of ours
	expect()
	undo()
	undo = bind(t, path("a"), path("b"))
	expect(path("b"))
	undo()
	undo = bind(t, path("b")+"/sub", path("a")+"/sub")
	expect(path("a") + "/sub")
	undo()
	undo = bind(t, t.TempDir(), string(dir))
	expect(string(dir))
	undo()
	expect()
}

// Who has mounts of its own closes and opens nothing for others, and does not see whether that
// was done.
func TestSeenByAll(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has mounts of its own")
	}
	m, _ := newMachine(t)
	must(t, seenByAll(filepath.Dir(m.Profile())))
	apart := make(chan error)
	go func() {
		// The thread ends with the goroutine, which does not let go of it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			apart <- err
			return
		}
		_, err := m.Closed()
		apart <- err
	}()
	if err := <-apart; err == nil || !strings.Contains(err.Error(), "its own mount namespace") {
		t.Error(err)
	}
}
