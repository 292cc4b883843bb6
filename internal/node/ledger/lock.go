package ledger

import (
	"context"
	"fmt"
	"os"
	"time"

	"every.channel/ec-verify/internal/hostfile"
)

// SQLite's own locks order the writers. The lock in this file protects the name of the
// ledger: whoever has the ledger open holds it shared, and whoever sets a damaged one
// aside holds it exclusively. Otherwise the journal of a process that still writes to the
// old file would be taken as the new file's.

// lockPoll is how often a lock is asked for again.
const lockPoll = 20 * time.Millisecond

// flock takes the lock on f in the way of how, unix.LOCK_SH or LOCK_EX, and
// waits no longer than wait for others who have it.
func flock(ctx context.Context, f *os.File, how int, wait time.Duration) error {
	taken, err := hostfile.WaitLock(ctx, f, how, wait)
	if err == nil && !taken {
		return fmt.Errorf("%w for more than %s", ErrBusy, wait)
	}
	return err
}
