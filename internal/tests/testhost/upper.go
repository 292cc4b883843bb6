package testhost

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ShowUpper lets the host see the upper layer of its root, as a machine with a
// read-only root does.
func (h *Host) ShowUpper() {
	h.t.Helper()
	if err := ShowUpper(h.root); err != nil {
		h.t.Fatalf("test host: %v", err)
	}
}

// ShowUpper is [Host.ShowUpper] of the host whose root directory is at root, from
// outside. Its first process has a /proc there.
func ShowUpper(root string) error {
	mounts, err := os.ReadFile(filepath.Join(root, "proc/1/mountinfo"))
	if err != nil {
		return err
	}
	upper := ""
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if _, options, ok := strings.Cut(fields[len(fields)-1], "upperdir="); ok && fields[4] == "/" {
			upper, _, _ = strings.Cut(options, ",")
		}
	}
	if upper == "" {
		return fmt.Errorf("the root at %s has no upper layer", root)
	}
	if err := os.MkdirAll(filepath.Join(root, upper), 0o755); err != nil {
		return err
	}
	// The thread ends with the namespace that it is in.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- moveInto(upper, filepath.Join(root, "proc/1/ns/mnt"))
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("show %s: %w", upper, err)
	}
	return nil
}

// moveInto mounts a directory of this namespace at its own name in another one, in
// which this thread is afterwards.
func moveInto(dir, namespace string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	ns, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
