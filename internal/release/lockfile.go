package release

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// lockWait is how long to wait for a lock that another process holds.
const lockWait = 10 * time.Minute

// lock locks the file at path and returns a function to unlock it. The lock ends with
// the process, so a kill leaves none behind. A link at path is not followed (ELOOP):
// otherwise root would create a file, or wait for a FIFO, wherever it leads.
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
			return nil, fmt.Errorf("wait for the process that locks %s: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
