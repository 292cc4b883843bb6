package release

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tempFile returns an unnamed file in dir, so that nothing is left behind however the
// program ends.
func tempFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
		return nil, &os.PathError{Op: "open a temporary file in", Path: dir, Err: err}
	}
	// Not every file system supports unnamed files.
	f, err := os.CreateTemp(dir, ".ec-verify-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// maxNamed limits the names in one message.
const maxNamed = 8
