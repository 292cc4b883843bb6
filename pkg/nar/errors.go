package nar

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrUnsupported means that a tree contains a node that a NAR can't: a device, a
	// FIFO or a socket.
	ErrUnsupported = errors.New("not a regular file, directory or symbolic link")

	// ErrTooLarge means that the NAR of a tree would exceed [Options.MaxSize], that a
	// path in it has more than 64 KiB, or that the names of one directory take more
	// than 16 MiB in the NAR.
	ErrTooLarge = errors.New("too large")

	// ErrChanged means that a file or directory changed while it was read. Another
	// attempt may succeed.
	ErrChanged = errors.New("changed while being read")
)

// A PathError is a failed operation on a part of a tree. The cause is ErrUnsupported,
// ErrTooLarge, ErrChanged, or a [syscall.Errno] for errors.As.
type PathError struct {
	// Path is the place in the tree: the name of the root as passed to Sum (or the
	// last component of the path), followed by the names below it, separated by '/'.
	// Raw bytes; never cleaned.
	Path string
	// Op is the failed operation: "open", "stat", "list", "read", "readlink", or
	// "hash" for the entry as a whole.
	Op  string
	Err error
}

// Error quotes at most the last 4,096 bytes of the path.
func (e *PathError) Error() string {
	const limit = 4096
	if len(e.Path) > limit {
		return fmt.Sprintf("%s …%q: %v", e.Op, e.Path[len(e.Path)-limit:], e.Err)
	}
	return fmt.Sprintf("%s %q: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

// swapped adds ErrChanged to errors of system calls that mean that a name has changed
// since its directory was listed.
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
