package nixstore

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Stat returns the status of an absolute path of the machine; of a link, the link's own.
// Links in the directories above it are followed within the machine.
func (s *Store) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := s.tree.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: clip(name), Err: err}
	}
	return st, nil
}

// Target returns the target of the link at an absolute path of the machine, unresolved.
func (s *Store) Target(name string) (string, error) {
	f, err := s.tree.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, maxPathLen)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: clip(name), Err: err}
	}
	return string(buf[:n]), nil
}

// Attribute returns an extended attribute of the file at an absolute path of the machine,
// without following a link; "" if it has none of that name, or if that is unknown.
func (s *Store) Attribute(name, attribute string) string {
	dir, err := s.tree.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return ""
	}
	defer dir.Close()
	return (&Entry{dir: dir, base: path.Base(name)}).Attribute(attribute)
}

// List returns the names in the directory at an absolute path of the machine, in no
// order. The error wraps [ErrTooLarge] if there are more than limit.
func (s *Store) List(name string, limit int) ([]string, error) {
	f, err := s.tree.open(name, walkFlags)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return namesIn(f, name, limit)
}

// ReadOutside returns the contents and status of the regular file at an absolute path of
// the machine. Links are followed within the machine. It fails with an error that wraps
// [ErrTooLarge] if the file exceeds limit bytes, and opens nothing but regular files.
func (s *Store) ReadOutside(name string, limit int64) ([]byte, unix.Stat_t, error) {
	f, st, err := regularBy(clip(name), func(flags uint64) (*os.File, error) { return s.tree.open(name, flags) })
	if err != nil {
		return nil, st, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, st, &fs.PathError{Op: "read", Path: clip(name), Err: err}
	}
	if int64(len(data)) > limit {
		return nil, st, &fs.PathError{Op: "read", Path: clip(name), Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
	}
	return data, st, nil
}
