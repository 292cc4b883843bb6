package hostfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveTree: what links lead to stays, and so does what is mounted, whichever
// directory it is mounted at.
func TestRemoveTree(t *testing.T) {
	dir := t.TempDir()
	other, tree := filepath.Join(dir, "other"), filepath.Join(dir, "tree")
	precious := filepath.Join(other, "file")
	err := errors.Join(
		os.Mkdir(other, 0o755), os.WriteFile(precious, nil, 0o600),
		os.MkdirAll(tree+"/place", 0o755), os.Symlink(other, tree+"/link"), os.WriteFile(tree+"/unwritable", nil, 0o400),
		os.Symlink(tree, dir+"/link"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{tree, tree + "/place"} {
		if err := unix.Mount(other, name, "", unix.MS_BIND, ""); err != nil {
			t.Logf("bind mount: %v", err) // it takes root
			continue
		}
		err := RemoveTree(tree)
		if unmount := unix.Unmount(name, unix.MNT_DETACH); unmount != nil {
			t.Fatal(unmount)
		}
		if err == nil {
			t.Errorf("with a mount at %s: no error", name)
		}
	}
	for _, name := range []string{dir + "/link", tree, tree, dir + "/none/none"} {
		if err := RemoveTree(name); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was mounted and linked to: %v", err)
	}
}

// TestRemoveDeepTree: a tree may be deeper than files may be open.
func TestRemoveDeepTree(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(top, 0o755); err != nil {
		t.Fatal(err)
	}
	at, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		for _, name := range []string{"below", "beside", ".removed-1"} {
			if err := unix.Mkdirat(int(at.Fd()), name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		fd, err := unix.Openat(int(at.Fd()), "below", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		at.Close()
		at = os.NewFile(uintptr(fd), "below")
	}
	at.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 2 * maxOpen, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	err = RemoveTree(top)
	if restore := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); restore != nil {
		t.Fatal(restore)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
}
