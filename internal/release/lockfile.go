package release

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// lockWait is how long another process may hold a lock.
const lockWait = 10 * time.Minute

// lock takes the lock that the file at path stands for, and returns what gives
// it back. The lock goes with the process, so none is left behind by a kill. A
// link in its place is not followed (ELOOP): root would make a file, or wait for
// a FIFO, wherever it leads.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		taken, err := hostfile.TryLock(f, unix.LOCK_EX)
		if taken {
			return func() { f.Close() }, nil
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for the process that holds %s: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
