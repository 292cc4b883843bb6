package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"every.channel/ec-verify/pkg/excerpt"
)

// ErrBusy is wrapped by errors about a ledger that another process has kept for
// longer than [Options].Wait.
var ErrBusy = errors.New("another process keeps it busy")

// NewerError means that a newer version of this program, which alone can read it, wrote
// the ledger. It is left unchanged.
type NewerError struct {
	File    string
	Version int64 // of its schema
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("ledger %s has schema version %d, this program reads %d: a newer ec-verify wrote it; use that one, or move the file away to begin anew",
		e.File, e.Version, schemaVersion)
}

// DamagedError says that a file is no ledger, or not any more. Nothing in it is
// believed.
type DamagedError struct {
	File   string
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("ledger %s is damaged: %s", e.File, e.Reason)
}

// damage is a DamagedError in the making.
type damage string

func (d damage) Error() string { return string(d) }

func damaged(format string, args ...any) error { return damage(clip(fmt.Sprintf(format, args...))) }

// word converts an error of SQLite. The queries of this package are constant, so if
// SQLite calls one of them wrong, the file is damaged.
func (l *Ledger) word(ctx context.Context, doing string, err error) error {
	var (
		bad      damage
		newer    *NewerError
		damagedE *DamagedError
		sq       *sqlite.Error
	)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &newer), errors.As(err, &damagedE):
		return err
	case errors.As(err, &bad):
		return &DamagedError{l.file, string(bad)}
	case errors.As(err, &sq):
		switch sq.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
			sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
			return &DamagedError{l.file, clip(sq.Error())}
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			err = fmt.Errorf("%w for more than %s", ErrBusy, l.wait)
		case sqlite3.SQLITE_FULL:
			err = errors.New("the disk is full, or the ledger has its largest size")
		case sqlite3.SQLITE_READONLY:
			err = errReadOnly
			if sq.Code() == sqlite3.SQLITE_READONLY_ROLLBACK {
				err = errors.New("its last writer was ended in the middle; a user who may write to it must open it once")
			}
		}
	}
	return fmt.Errorf("%s ledger %s: %w", doing, l.file, err)
}

// errReadOnly is a permission error.
var errReadOnly = &os.PathError{Op: "write", Path: FileName, Err: fs.ErrPermission}

// maxText limits each stored or reported text, in bytes.
const maxText = 512

func clip(s string) string { return excerpt.Of(s, maxText-len("…")) }
