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

// RemoveTree removes the file or directory name, and all that is below it. That
// it is not there is no error.
//
// It is for what this program keeps in directories of its own, and may remove by
// its name alone. Links are not followed, not even in the place of a directory
// that was there a moment ago, and what is mounted there is not entered: it
// belongs to somebody else, and is an error. Links and mounts in the directories
// above name are followed.
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

// RemoveTreeIn is [RemoveTree] of name relative to an open directory. Of the
// directories between the two none may be a link or mounted.
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

// openDir opens a directory beneath one that is open, by a path without links
// and without mounts. It does without openat2(2), which RestrictSUIDSGID= takes away
// from a unit.
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

// openChild opens the directory name in an open one, unless something is mounted
// there: a mount has another number.
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

// MountOf returns the number of the mount that an open file is on.
func MountOf(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != 0 { // an emulator may pass the mask alone
		return st.Mnt_id, nil
	}
	// A kernel before 5.8 tells it in proc(5) alone.
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

// maxOpen is how many directories within each other a [remover] has open.
const maxOpen = 64

// remover removes one tree. What lies deeper than it may have directories open is
// moved up to the top, so that whoever wrote the tree can't have it run out of them.
type remover struct {
	top   *os.File // the tree itself, where it is a directory
	moved int
}

// moveUp moves the directory name of at to the top of the tree.
func (r *remover) moveUp(at *os.File, name string) error {
	if os.Geteuid() != 0 {
		// A directory that gets another parent is written to.
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
// below the tree.
func (r *remover) entry(at *os.File, name string, depth int) error {
	fail := func(op string, err error) error {
		return &os.PathError{Op: op, Path: filepath.Join(at.Name(), name), Err: err}
	}
	err := unix.Unlinkat(int(at.Fd()), name, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return fail("remove", err)
	}
	if depth == maxOpen {
		if err := r.moveUp(at, name); err != nil {
			return fail("move", err)
		}
		return nil
	}
	fd, err := openDir(int(at.Fd()), name)
	if errors.Is(err, unix.EACCES) {
		// A store's directories can be read by all; a builder's need not be.
		if err := unix.Fchmodat(int(at.Fd()), name, 0o700, 0); err != nil {
			return fail("chmod", err)
		}
		fd, err = openDir(int(at.Fd()), name)
	}
	if err != nil {
		return fail("open", err)
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(at.Name(), name))
	defer dir.Close()
	if depth == 0 {
		r.top = dir
	}
	// Without the permission to write, which a store's directories lack, nothing
	// can be removed from them but by root.
	if os.Geteuid() != 0 {
		if err := dir.Chmod(0o700); err != nil {
			return err
		}
	}
	// By pieces, and anew from the begin: removing while listing may skip.
	for {
		names, err := dir.Readdirnames(1024)
		if len(names) == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail("list", err)
		}
		for _, n := range names {
			if err := r.entry(dir, n, depth+1); err != nil {
				return err
			}
		}
		if _, err := dir.Seek(0, 0); err != nil {
			return fail("list", err)
		}
	}
	if err := unix.Unlinkat(int(at.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail("remove", err)
	}
	return nil
}
