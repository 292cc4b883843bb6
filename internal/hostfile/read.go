package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is wrapped by errors about a name that is not a regular file. Nothing
// was read from it.
var ErrNotRegular = errors.New("not a regular file")

// Open opens the regular file name for reading, through symbolic links.
func Open(name string) (*os.File, error) { return open(name, 0) }

// OpenNoFollow is [Open] for this program's own files: name must not be a symbolic
// link. Links in the directories above it are followed.
func OpenNoFollow(name string) (*os.File, error) { return open(name, unix.O_NOFOLLOW) }

func open(name string, flags int) (*os.File, error) {
	// Without O_NONBLOCK, opening a named pipe waits for a writer, even past the
	// first signal. For a regular file the flag has no effect.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	switch {
	case errors.Is(err, unix.ELOOP) && flags&unix.O_NOFOLLOW != 0, errors.Is(err, unix.ENXIO):
		// A symbolic link with O_NOFOLLOW; a socket, or a device without a driver.
		return nil, notRegular(name)
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func notRegular(name string) error {
	return &fs.PathError{Op: "read", Path: name, Err: ErrNotRegular}
}

// ReadSmall returns the contents of the regular file name, through symbolic
// links. A file of more than limit bytes is an error.
func ReadSmall(name string, limit int64) ([]byte, error) { return read(name, limit, 0) }

// ReadSmallNoFollow is [ReadSmall] with the rule of [OpenNoFollow].
func ReadSmallNoFollow(name string, limit int64) ([]byte, error) {
	return read(name, limit, unix.O_NOFOLLOW)
}

func read(name string, limit int64, flags int) ([]byte, error) {
	f, err := open(name, flags)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The size from stat is 0 for files in /proc, and can change.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d bytes", limit)}
	}
	return data, nil
}
