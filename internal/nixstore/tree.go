package nixstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/excerpt"
)

// tree is an open directory that stands for "/" of the machine under examination. The
// kernel resolves paths in it such that absolute links and ".." stay within it.
type tree struct{ dir *os.File }

func openTree(root string) (*tree, error) {
	if root == "" {
		root = "/"
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open store root", Path: root, Err: err}
	}
	return &tree{os.NewFile(uintptr(fd), root)}, nil
}

func (t *tree) close() error { return t.dir.Close() }

// open opens an absolute path of the tree, following links within it.
func (t *tree) open(path string, flags uint64) (*os.File, error) {
	return openAt(t.dir, path, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// openBelow opens path below dir; no component of it may be a link.
func openBelow(dir *os.File, path string, flags uint64) (*os.File, error) {
	return openAt(dir, path, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
}

// openAttempts limits how often a resolution that raced with a rename is repeated.
const openAttempts = 100

func openAt(dir *os.File, path string, flags, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for attempt := 0; ; attempt++ {
		fd, err := unix.Openat2(int(dir.Fd()), path, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN) && attempt < openAttempts:
			continue
		case errors.Is(err, unix.EPERM) && how.Flags&unix.O_NOATIME != 0:
			// Only the owner and root may use O_NOATIME.
			how.Flags &^= unix.O_NOATIME
			continue
		case errors.Is(err, unix.ENOSYS):
			err = fmt.Errorf("openat2: %w (Linux 5.6 or newer is needed)", err)
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
}

// openRegular opens a file below dir for reading if it is a regular file.
func openRegular(dir *os.File, path string) (*os.File, unix.Stat_t, error) {
	return regularBy(path, func(flags uint64) (*os.File, error) { return openBelow(dir, path, flags|unix.O_NOFOLLOW) })
}

// regularBy opens a file for reading if it is a regular file. It returns its status in
// any case. A device is never opened, because opening some devices has an effect.
func regularBy(name string, open func(flags uint64) (*os.File, error)) (*os.File, unix.Stat_t, error) {
	var seen, st unix.Stat_t
	look, err := open(unix.O_PATH)
	if err != nil {
		return nil, st, err
	}
	defer look.Close()
	if err := unix.Fstat(int(look.Fd()), &seen); err != nil {
		return nil, st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if seen.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, seen, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	f, err := open(unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME)
	if err != nil {
		return nil, seen, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, seen, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Dev != seen.Dev || st.Ino != seen.Ino {
		f.Close()
		return nil, seen, &fs.PathError{Op: "open", Path: name, Err: errors.New("replaced while it was opened")}
	}
	return f, st, nil
}

var errNotRegular = errors.New("not a regular file")

// clip shortens untrusted text for a message.
func clip(s string) string { return excerpt.Of(s, 300) }

// relative turns the absolute path p into one that openat2 accepts below a directory.
func relative(p string) string {
	if p = strings.TrimLeft(p, "/"); p == "" {
		return "."
	}
	return p
}
