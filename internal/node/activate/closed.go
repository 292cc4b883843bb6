package activate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/nixstore"
)

// beneath are the directories of users' profiles, which stay writable.
var beneath = []string{"per-user"}

// maxMounts limits how many stacked mounts are undone.
const maxMounts = 16

// Close makes the directory of the system profile read-only for every program but this
// one: nix-env fails before it has changed anything, and so do programs that call it,
// such as nixos-rebuild. The directories named by except, such as "system-profiles", are
// created if needed and stay writable, as do those of users. Root can undo it, as
// [Machine.Open] does; it ends with the boot.
//
// The directory is mounted on itself, read-only, as NixOS does with the store. nix-env
// locks the profile even to list generations, which NixOS does to write the boot menu of
// systemd-boot: so /dev/null is mounted over the lock file. It can be locked, is always
// empty, and can't be removed.
func (m *Machine) Close(ctx context.Context, except ...string) error {
	dir := filepath.Dir(m.Profile())
	closed, err := m.Closed()
	if closed || err != nil {
		return err
	}
	// So that the lock file exists, and nobody removes it, while it is mounted over.
	held, err := lockProfile(ctx, m.Profile())
	if err != nil {
		return err
	}
	defer held.lock.Close()
	for _, name := range except {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as Nix makes it
			return err
		}
	}
	top, err := cloneMount(dir, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		return err
	}
	defer unix.Close(top)
	mounts := []struct {
		tree int
		at   string
	}{{top, dir}}
	from := map[string]string{held.lock.Name(): os.DevNull}
	for _, name := range append(except, beneath...) {
		from[filepath.Join(dir, name)] = filepath.Join(dir, name)
	}
	for at, what := range from {
		tree, err := unix.OpenTree(unix.AT_FDCWD, what, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			continue // nobody has one
		}
		if err != nil {
			return &fs.PathError{Op: "open_tree", Path: what, Err: err}
		}
		defer unix.Close(tree)
		mounts = append(mounts, struct {
			tree int
			at   string
		}{tree, at})
	}
	for _, mount := range mounts {
		if err := unix.MoveMount(mount.tree, "", unix.AT_FDCWD, mount.at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			err = &fs.PathError{Op: "move_mount", Path: mount.at, Err: err}
			return errors.Join(err, m.Open())
		}
	}
	return nil
}

// Open undoes [Machine.Close]. It is no error if nothing is closed.
func (m *Machine) Open() error {
	dir := filepath.Dir(m.Profile())
	for range maxMounts {
		closed, err := m.Closed()
		if err != nil {
			return err
		}
		if !closed {
			return clearLock(m.Profile() + ".lock")
		}
		// The mounts below are detached with it.
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "umount", Path: dir, Err: err}
		}
	}
	return fmt.Errorf("%s has more than %d mounts one above the other", dir, maxMounts)
}

// seenByAll fails if this process has mounts of its own, as in a service with
// PrivateTmp=: what it mounts on dir, or finds there, is not what others see. It succeeds
// if the mounts of the first process, or this one's, can't be read.
func seenByAll(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	f, err := os.Open(real)
	if err != nil {
		return err
	}
	defer f.Close()
	here, err := hostfile.MountOf(int(f.Fd()))
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "find the mount of", Path: dir, Err: err}
	}
	first, err := nixstore.FirstMounts()
	if err != nil {
		return nil //nolint:nilerr // nobody can tell
	}
	if way := nixstore.Way(first, real); len(way) > 0 && uint64(way[len(way)-1].ID) != here { //nolint:gosec // the kernel's numbers are positive
		return fmt.Errorf("%s: this process has its own mount namespace, so the gate that others see can't be seen, closed or opened here: run it outside containers and units with PrivateTmp= or similar", dir)
	}
	return nil
}

// clearLock empties a leftover lock file, because Nix takes a lock file with contents as
// one that was removed, and waits for another.
func clearLock(name string) error {
	if err := os.Truncate(name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EROFS) {
		return err
	}
	return nil
}

// Closed reports whether the directory of the system profile is a read-only mount of
// its own. It fails if this process sees other mounts there than the first process.
func (m *Machine) Closed() (bool, error) {
	dir := filepath.Dir(m.Profile())
	if err := seenByAll(dir); err != nil {
		return false, err
	}
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &stat); err != nil {
		return false, &fs.PathError{Op: "statx", Path: dir, Err: err}
	}
	readOnly, err := isReadOnly(dir)
	return readOnly && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}

func isReadOnly(dir string) (bool, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return stat.Flags&unix.ST_RDONLY != 0, nil
}

// through returns a name under which the directory dir is writable even while it is
// closed, until done is called. The name leads to another mount of the directory, which
// nobody else sees and which ends with this process, so that dir stays closed for others.
func through(dir string) (name string, done func(), err error) {
	readOnly, err := isReadOnly(dir)
	if err != nil || !readOnly {
		return dir, func() {}, err
	}
	tree, err := cloneMount(dir, unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", tree), func() { unix.Close(tree) }, nil
}

// cloneMount returns a descriptor of a further mount of the directory dir, with attr
// changed, which is not attached anywhere.
func cloneMount(dir string, attr unix.MountAttr) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, &fs.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(tree)
		return -1, &fs.PathError{Op: "mount_setattr", Path: dir, Err: err}
	}
	return tree, nil
}
