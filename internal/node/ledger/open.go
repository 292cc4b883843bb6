package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	// The driver; errors.go knows its errors.
	_ "modernc.org/sqlite"
)

// Open opens the ledger in the directory dir for reading and writing, and creates it and
// the directory if needed.
//
// A damaged ledger is set aside in the same directory under the name
// ledger.db.damaged-<time>, as evidence, and replaced by an empty one; [Ledger.SetAside]
// says so. Open fails with a [*DamagedError] if that is impossible or eight are there
// already, and with a [*NewerError] for a ledger of a newer program, which is left
// unchanged. If dir is not writable, the error wraps [fs.ErrPermission] or EROFS. No
// error here is a reason not to verify.
func Open(ctx context.Context, dir string, opts Options) (*Ledger, error) {
	l := opts.ledger(dir)
	if err := l.open(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// OpenReadOnly opens the ledger in dir for reading. It sets nothing aside and returns a
// [*DamagedError] for a damaged ledger. Unless the last writer was killed in the middle,
// dir need not be writable. A user who may not read the ledger reads the copy that
// [Publish] made, if there is one. The error wraps [fs.ErrNotExist] if there is no ledger
// yet.
func OpenReadOnly(ctx context.Context, dir string, opts Options) (*Ledger, error) {
	opts.Keep = true
	l := opts.ledger(dir)
	if err := l.openReadOnly(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (o Options) ledger(dir string) *Ledger {
	l := &Ledger{file: filepath.Join(dir, FileName), now: o.Now, wait: o.Wait, keep: o.Keep}
	if l.now == nil {
		l.now = time.Now
	}
	if l.wait <= 0 {
		l.wait = DefaultWait
	}
	return l
}

func (l *Ledger) lockName() string { return filepath.Join(filepath.Dir(l.file), ".ledger.lock") }

func (l *Ledger) open(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(l.file), 0o755); err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	var err error
	l.lock, err = os.OpenFile(l.lockName(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, private)
	if err != nil {
		return fmt.Errorf("open ledger %s: %w", l.file, err)
	}
	mine(l.lock)
	if err := flock(ctx, l.lock, unix.LOCK_SH, l.wait); err != nil {
		return fmt.Errorf("open ledger %s: %w", l.file, err)
	}
	err = l.load(ctx, "rwc")
	if errors.Is(err, errOld) {
		if err = l.upgrade(ctx); err == nil {
			err = l.checkAll(ctx, true)
		}
	}
	var bad *DamagedError
	if errors.As(err, &bad) {
		err = l.replace(ctx, bad)
	}
	if errors.Is(err, errEmpty) {
		err = l.create(ctx)
	}
	return err
}

func (l *Ledger) openReadOnly(ctx context.Context) error {
	// With the lock, what a killed writer left can be repaired; without it nothing may be
	// touched.
	mode := "ro"
	lock, err := os.OpenFile(l.lockName(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == nil {
		l.lock, mode = lock, "rw"
		if err := flock(ctx, l.lock, unix.LOCK_SH, l.wait); err != nil {
			return fmt.Errorf("open ledger %s: %w", l.file, err)
		}
	}
	if _, err := os.Lstat(l.file); err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	if unix.Faccessat(unix.AT_FDCWD, l.file, unix.R_OK, unix.AT_EACCESS) != nil {
		// Others read the copy, if they may.
		if name := filepath.Join(filepath.Dir(l.file), CopyName); exists(name) {
			l.file, mode = name, "ro"
		}
	}
	err = l.load(ctx, mode)
	if errors.Is(err, errOld) {
		return fmt.Errorf("open ledger %s: %w", l.file, err)
	}
	if errors.Is(err, errEmpty) {
		return &fs.PathError{Op: "open ledger", Path: l.file, Err: fs.ErrNotExist}
	}
	return err
}

// load opens the file in SQLite's mode and checks all of it.
func (l *Ledger) load(ctx context.Context, mode string) error {
	if err := l.checkFile(mode == "rwc"); err != nil {
		return l.word(ctx, "open", err)
	}
	dsn := url.URL{Scheme: "file", Path: l.file}
	query := url.Values{
		"mode":          {mode},
		"_busy_timeout": {strconv.FormatInt(l.wait.Milliseconds(), 10)},
		"_txlock":       {"immediate"},
		"_synchronous":  {"full"},
		"_foreign_keys": {"1"},
		"_defensive":    {"1"},
		"_dqs":          {"0"},
		"_pragma": {
			"trusted_schema(0)", "cell_size_check(1)", "mmap_size(0)", "temp_store(memory)", cacheSize,
			fmt.Sprintf("max_page_count(%d)", maxFileSize/pageSize),
		},
	}
	if mode != "rwc" {
		query.Set("_query_only", "1")
	}
	dsn.RawQuery = query.Encode()
	var err error
	if l.db, err = sql.Open("sqlite", dsn.String()); err != nil {
		return err
	}
	// SQLite's locks are between connections; one of them waits for nobody here.
	l.db.SetMaxOpenConns(1)
	return l.checkAll(ctx, mode == "rwc")
}

// cacheSize limits SQLite's page cache to 2 MiB, which fits a ledger of 5,000 items. With
// 8 MiB, a run over 32,000 paths takes 8 MiB more and as much time.
const cacheSize = "cache_size(-2048)"

// checkFile refuses files that SQLite must not see: those that are not regular files or
// too large, and those that would make it treat the journal as another kind. If create is
// set it creates a missing file, because SQLite would let others read it.
func (l *Ledger) checkFile(create bool) error {
	flags := os.O_RDONLY
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(l.file, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, private)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if create {
		mine(f)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() > maxFileSize:
		return damaged("it has %d bytes, more than a ledger can have", info.Size())
	case info.Size() == 0:
		return nil
	}
	// https://www.sqlite.org/fileformat.html: at 18 and 19 the versions of the
	// format for writing and for reading, 1 for a rollback journal.
	header := make([]byte, 20)
	if _, err := f.ReadAt(header, 0); err != nil {
		return damaged("it has %d bytes, less than a ledger has", info.Size())
	}
	if header[18] != 1 || header[19] != 1 {
		return damaged("its header is not that of a ledger")
	}
	return nil
}

// Dir returns the directory of a state directory's ledger, a separate one, to which the
// unit that fetches can't write.
func Dir(stateDir string) string { return filepath.Join(stateDir, "ledger") }
