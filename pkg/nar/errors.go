package nar

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrUnsupported says that a tree holds something that a NAR cannot: a
	// device, a FIFO or a socket.
	ErrUnsupported = errors.New("not a regular file, directory or symbolic link")

	// ErrTooLarge says that the NAR of a tree would be larger than
	// [Options.MaxSize], that a path in it has more than 64 KiB, or that the names
	// of one directory take more than 16 MiB in the NAR.
	ErrTooLarge = errors.New("too large")

	// ErrChanged says that a file or directory was not the same before and
	// after it was read. It is about this attempt only: the next may succeed.
	ErrChanged = errors.New("changed while being read")
)

// A PathError says what could not be done to which part of a tree. The cause
// is ErrUnsupported, ErrTooLarge, ErrChanged, or a [syscall.Errno] for errors.As to find.
type PathError struct {
	// Path is where in the tree: the name of the root as it was passed to
	// Sum (or the last component of the path), and below it the names that
	// lead there, separated by '/'. Raw bytes; never cleaned.
	Path string
	// Op is what was tried: "open", "stat", "list", "read", "readlink",
	// or "hash" for the entry as such.
	Op  string
	Err error
}

// Error quotes the path, of which it shows no more than the last 4,096 bytes.
func (e *PathError) Error() string {
	const limit = 4096
	if len(e.Path) > limit {
		return fmt.Sprintf("%s …%q: %v", e.Op, e.Path[len(e.Path)-limit:], e.Err)
	}
	return fmt.Sprintf("%s %q: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

// swapped adds ErrChanged to the errors of system calls that say that a name
// is no longer what the directory listed.
func swapped(err error) error {
	for _, sign := range []syscall.Errno{
		syscall.ENOENT,  // gone
		syscall.ELOOP,   // now a symbolic link
		syscall.ENOTDIR, // no longer a directory
		syscall.ENXIO,   // now a socket, or a device without a driver
	} {
		if errors.Is(err, sign) {
			return fmt.Errorf("%w: %w", ErrChanged, err)
		}
	}
	return err
}
