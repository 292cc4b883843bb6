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
