package hostfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock locks f with flock(2), either shared (how is unix.LOCK_SH) or exclusively
// (unix.LOCK_EX). It does not wait: it returns false if another process has the lock.
// The lock ends when f is closed, also by a kill.
func TryLock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}
