package ledger

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// FileName is the name of the ledger in a directory of its own. Beside it are,
// temporarily, its journal, and permanently a lock file, the copy for others, and damaged
// ledgers that were set aside.
const FileName = "ledger.db"

// DefaultWait is how long to wait for other processes by default.
const DefaultWait = 10 * time.Second

// KeptRuns is how many runs are remembered; with one an hour, six weeks.
const KeptRuns = 1000

// Limits of what is kept.
const (
	// maxFileSize is the largest size of the file in bytes: some 400,000 items.
	maxFileSize = 256 << 20
	pageSize    = 4096
	// keptInventories is how many manifests are remembered at each tier, so that a
	// machine that changes to another release and back forgets nothing.
	keptInventories = 4
	// keptAside is how many damaged ledgers are set aside before the next one is left
	// where it is.
	keptAside = 8
)

// Options configures a ledger. The zero value is the default.
type Options struct {
	// Now is the clock; nil for [time.Now].
	Now func() time.Time
	// Wait is how long to wait for another process that writes; 0 for
	// [DefaultWait].
	Wait time.Duration
	// Keep keeps what [Open] reads to check the ledger, in memory, for a run that needs
	// it: [Ledger.Records] need not read it again. [OpenReadOnly] always keeps it.
	Keep bool
}

// Ledger is an open ledger. It is safe for concurrent use, by several processes
// too.
type Ledger struct {
	file string
	now  func() time.Time
	wait time.Duration
	db   *sql.DB
	keep bool
	lock *os.File // shared while open; nil if no lock is possible
	// found is what was read when l was opened, because checking it means reading all of
	// it; nil if that is not kept, and once l writes items or checks.
	found    atomic.Pointer[found]
	setAside string
}

// found is what was read of a ledger.
type found struct {
	states map[Tier]State
	// version is SQLite's data_version at that time: it changes if another connection
	// writes.
	version int64
}

// Close ends the use of l. Recorders must have ended before.
func (l *Ledger) Close() error {
	var err error
	if l.db != nil {
		err = l.db.Close()
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}

// File returns the path of the ledger.
func (l *Ledger) File() string { return l.file }

// SetAside returns the new name of a damaged ledger, "" if it was not damaged. Its
// contents are then forgotten.
func (l *Ledger) SetAside() string { return l.setAside }

// read runs f in a transaction that sees one state of the ledger.
func (l *Ledger) read(ctx context.Context, f func(*sql.Tx) error) error {
	return l.transact(ctx, "read", true, f)
}

// write runs f in a transaction that is done whole or not at all.
func (l *Ledger) write(ctx context.Context, f func(*sql.Tx) error) error {
	return l.transact(ctx, "write", false, f)
}

func (l *Ledger) transact(ctx context.Context, doing string, readOnly bool, f func(*sql.Tx) error) error {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return l.word(ctx, doing, err)
	}
	err = f(tx)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		// Whatever this says, the error before it says more.
		_ = tx.Rollback()
	}
	if errors.Is(err, errEmpty) || errors.Is(err, errOld) {
		return err
	}
	return l.word(ctx, doing, err)
}
