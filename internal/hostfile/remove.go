package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RemoveTree removes the file or directory name with everything below it. A missing
// name is not an error.
//
// It is meant for this program's own directories, which may be removed by name alone.
// Links are not followed, even if one replaced a directory a moment ago. A mount
// below name is not entered, because it belongs to somebody else, and is an error.
// Links and mounts in the directories above name are followed.
func RemoveTree(name string) error {
	parent, err := os.Open(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return new(remover).entry(parent, filepath.Base(name), 0)
}

// RemoveTreeIn is [RemoveTree] for name relative to an open directory. No directory
// between the two may be a link or a mount point.
func RemoveTreeIn(parent *os.File, name string) error {
	dir, base := filepath.Split(name)
	at := parent
	if dir != "" {
		fd, err := openDir(int(parent.Fd()), dir)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), dir), Err: err}
		}
		at = os.NewFile(uintptr(fd), filepath.Join(parent.Name(), dir))
		defer at.Close()
	}
	return new(remover).entry(at, base, 0)
}

// openDir opens a directory beneath an open one, by a path without links and mounts.
// It avoids openat2(2), which RestrictSUIDSGID= denies to a unit.
func openDir(at int, name string) (int, error) {
	mount, err := MountOf(at)
	if err != nil {
		return -1, err
	}
	parent := at
	for component := range strings.SplitSeq(filepath.Clean(name), "/") {
		fd, err := openChild(parent, component, mount)
		if parent != at {
			unix.Close(parent)
		}
		if err != nil {
			return -1, err
		}
		parent = fd
	}
	return parent, nil
}

// openChild opens the directory name in an open one, unless it is a mount point,
// which has another mount ID.
func openChild(at int, name string, mount uint64) (int, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	switch now, err := MountOf(fd); {
	case err != nil:
		unix.Close(fd)
		return -1, err
	case now != mount:
		unix.Close(fd)
		return -1, unix.EXDEV
	}
	return fd, nil
}

// MountOf returns the ID of the mount that an open file is on.
func MountOf(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != 0 { // an emulator may pass the mask alone
		return st.Mnt_id, nil
	}
	// Kernels before 5.8 provide it only in proc(5).
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.ParseUint(strings.TrimSpace(id), 10, 64)
		}
	}
	return 0, fmt.Errorf("the kernel does not say on which mount a directory is: %w", errors.ErrUnsupported)
}

// maxOpen is how many nested directories a [remover] opens at once.
const maxOpen = 64

// remover removes one tree. It moves directories deeper than maxOpen to the top, so
// that a deep tree can't exhaust its file descriptors.
type remover struct {
	top   *os.File // the tree itself, if it is a directory
	moved int
}

// moveUp moves the directory name in at to the top of the tree.
func (r *remover) moveUp(at *os.File, name string) error {
	if os.Geteuid() != 0 {
		// Moving a directory to another parent requires write permission on it.
		if err := unix.Fchmodat(int(at.Fd()), name, 0o700, 0); err != nil {
			return err
		}
	}
	for {
		r.moved++
		err := unix.Renameat2(int(at.Fd()), name, int(r.top.Fd()), fmt.Sprintf(".removed-%d", r.moved), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}

// entry removes the entry name of the open directory at, which is depth directories
// below the top.
func (r *remover) entry(at *os.File, name string, depth int) error {
	err := unix.Unlinkat(int(at.Fd()), name, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return removeError("remove", at, name, err)
	}
	if depth == maxOpen {
		if err := r.moveUp(at, name); err != nil {
			return removeError("move", at, name, err)
		}
		return nil
	}
	dir, err := enter(at, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if depth == 0 {
		r.top = dir
	}
	if err := r.empty(dir, depth+1); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(at.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return removeError("remove", at, name, err)
	}
	return nil
}

// enter opens the directory name in at, so that its entries can be removed.
func enter(at *os.File, name string) (*os.File, error) {
	fd, err := openDir(int(at.Fd()), name)
	if errors.Is(err, unix.EACCES) {
		// Directories of a store are readable by all; those of a builder may not be.
		if err := unix.Fchmodat(int(at.Fd()), name, 0o700, 0); err != nil {
			return nil, removeError("chmod", at, name, err)
		}
		fd, err = openDir(int(at.Fd()), name)
	}
	if err != nil {
		return nil, removeError("open", at, name, err)
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(at.Name(), name))
	// Directories of a store lack write permission, so only root can remove something
	// from them.
	if os.Geteuid() != 0 {
		if err := dir.Chmod(0o700); err != nil {
			dir.Close()
			return nil, err
		}
	}
	return dir, nil
}

// empty removes the entries of dir, which are depth directories below the top. It lists in
// pieces and restarts each time: removing entries during a listing may skip some.
func (r *remover) empty(dir *os.File, depth int) error {
	for {
		names, err := dir.Readdirnames(1024)
		if len(names) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "list", Path: dir.Name(), Err: err}
		}
		for _, name := range names {
			if err := r.entry(dir, name, depth); err != nil {
				return err
			}
		}
		if _, err := dir.Seek(0, 0); err != nil {
			return &os.PathError{Op: "list", Path: dir.Name(), Err: err}
		}
	}
}

func removeError(op string, at *os.File, name string, err error) error {
	return &os.PathError{Op: op, Path: filepath.Join(at.Name(), name), Err: err}
}
