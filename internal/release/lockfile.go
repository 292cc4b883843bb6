package release

import (
	"context"
	"errors"
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
	taken, err := hostfile.WaitLock(ctx, f, unix.LOCK_EX, lockWait)
	if err == nil && !taken {
		err = errors.New("another process has not released it")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("wait for the lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
