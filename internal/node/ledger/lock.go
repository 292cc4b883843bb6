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

// lockPoll is how often an attempt to take a lock is repeated.
const lockPoll = 20 * time.Millisecond

// flock takes the lock on f, of the kind unix.LOCK_SH or LOCK_EX, and waits at most wait
// for other holders. If they still hold it then, the error is [ErrBusy].
func flock(ctx context.Context, f *os.File, how int, wait time.Duration) error {
	taken, err := hostfile.WaitLock(ctx, f, how, wait)
	if err == nil && !taken {
		return fmt.Errorf("%w for more than %s", ErrBusy, wait)
	}
	return err
}
