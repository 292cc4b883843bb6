package hostfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

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

// lockPoll is how often WaitLock tries again.
const lockPoll = 20 * time.Millisecond

// WaitLock is [TryLock], but waits up to most for another process to release the lock. If
// ctx ends first, the error is ctx's.
func WaitLock(ctx context.Context, f *os.File, how int, most time.Duration) (bool, error) {
	for deadline := time.Now().Add(most); ; {
		taken, err := TryLock(f, how)
		if taken || err != nil || !time.Now().Before(deadline) {
			return taken, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
