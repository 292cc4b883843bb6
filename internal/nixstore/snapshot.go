package nixstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The files of an SQLite database, by the suffix of their names.
const (
	databaseName  = "db.sqlite"
	walSuffix     = "-wal"
	journalSuffix = "-journal"
)

const (
	// maxDatabaseSize limits the copy, in bytes: the database of a build machine with a
	// million paths takes about 1 GiB.
	maxDatabaseSize = 16 << 30
	walHeaderSize   = 32
	// settleTime is longer than the granularity of a file's time stamps (at most 10 ms):
	// a file written less than that ago may be written again without its time stamps
	// changing.
	settleTime    = 50 * time.Millisecond
	copyAttempts  = 100
	copyPauseMin  = 5 * time.Millisecond
	copyPauseMax  = 100 * time.Millisecond
	copyChunkSize = 16 << 20
)

// fileState identifies the contents of a file as well as possible without reading them.
// The zero value is a file that does not exist or is empty.
type fileState struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
	// header is the beginning of a write-ahead log. It contains two salts that change
	// whenever the log is started anew.
	header [walHeaderSize]byte
}

// databaseState is the state of the database's directory at one time.
type databaseState struct {
	at               time.Time
	db, wal, journal fileState
}

// snapshot copies the database in dir, its write-ahead log and its rollback journal to
// the directory to, such that SQLite finds there what was committed at some moment during
// the call. It takes no lock and writes nothing in dir.
//
// A copy is accepted only if it is consistent:
//
//   - With a log, the database itself changes only when pages of committed transactions are
//     copied to it from the log. The database is copied first and the log after it, so every
//     page that changed meanwhile, torn or not, is in the copied log too, and SQLite takes it
//     from there, provided that the log was not started anew or deleted; its inode and the
//     salts in its header show that.
//   - Without a log, or with a rollback journal, writers change the database itself; it and
//     the journal must be unchanged, by inode, size and time stamps that are old enough to be
//     conclusive.
//
// Otherwise the copy is repeated, up to 100 times, for about 10 s plus the time of the
// copies.
func snapshot(ctx context.Context, dir *os.File, to string) error {
	pause := copyPauseMin
	for range copyAttempts {
		before, files, err := look(dir)
		if err != nil {
			return err
		}
		err = files.copyTo(ctx, to)
		files.close()
		if err != nil {
			return err
		}
		after, files, err := look(dir)
		if err != nil {
			return err
		}
		files.close()
		if consistent(before, after) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, copyPauseMax)
	}
	return fmt.Errorf("it was being changed at each of %d attempts to copy it", copyAttempts)
}

// consistent reports whether a copy made between two checks is a state that the database
// was in.
func consistent(before, after databaseState) bool {
	if before.db.dev != after.db.dev || before.db.ino != after.db.ino || before.journal != after.journal {
		return false
	}
	if before.journal == (fileState{}) && before.wal.size >= walHeaderSize {
		return before.wal.dev == after.wal.dev && before.wal.ino == after.wal.ino && before.wal.header == after.wal.header
	}
	return before.db == after.db && settled(before.at, before.db) && settled(before.at, before.journal)
}

// settled reports whether a further change of the file after the time at would show in
// its time stamps. A time stamp in the future comes from another clock, and counts as
// settled.
func settled(at time.Time, f fileState) bool {
	if f == (fileState{}) {
		return true
	}
	age := at.Sub(time.Unix(f.ctime.Unix()))
	return age < 0 || age > settleTime
}

// databaseFiles are the open files of a database; wal and journal are nil if absent or
// empty.
type databaseFiles struct{ db, wal, journal *os.File }

func (f databaseFiles) close() {
	for _, file := range []*os.File{f.db, f.wal, f.journal} {
		if file != nil {
			file.Close()
		}
	}
}

func look(dir *os.File) (databaseState, databaseFiles, error) {
	state := databaseState{at: time.Now()}
	var files databaseFiles
	for _, part := range []struct {
		suffix string
		file   **os.File
		state  *fileState
	}{
		{"", &files.db, &state.db},
		{walSuffix, &files.wal, &state.wal},
		{journalSuffix, &files.journal, &state.journal},
	} {
		f, st, err := openRegular(dir, databaseName+part.suffix)
		if errors.Is(err, fs.ErrNotExist) && part.suffix != "" {
			continue
		}
		if err != nil {
			files.close()
			return state, databaseFiles{}, err
		}
		if st.Size > maxDatabaseSize {
			f.Close()
			files.close()
			return state, databaseFiles{}, fmt.Errorf("%s has %d bytes, at most %d are read", databaseName+part.suffix, st.Size, int64(maxDatabaseSize))
		}
		if st.Size == 0 && part.suffix != "" {
			f.Close()
			continue
		}
		*part.file = f
		*part.state = fileState{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
	}
	if files.wal != nil {
		// A log shorter than its header is just being started and has no contents yet.
		if _, err := files.wal.ReadAt(state.wal.header[:], 0); err != nil && !errors.Is(err, io.EOF) {
			files.close()
			return state, databaseFiles{}, err
		}
	}
	return state, files, nil
}

// copyTo copies the database and then its log; snapshot explains the order.
func (f databaseFiles) copyTo(ctx context.Context, to string) error {
	for _, part := range []struct {
		suffix string
		file   *os.File
	}{{"", f.db}, {journalSuffix, f.journal}, {walSuffix, f.wal}} {
		name := filepath.Join(to, databaseName+part.suffix)
		if part.file == nil {
			// Left by an earlier attempt, if it exists.
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := copyFile(ctx, name, part.file); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies src and keeps its holes: a file may have a size that exceeds the
// directory of the copy.
func copyFile(ctx context.Context, name string, src *os.File) (err error) {
	dst, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	pos := int64(0)
	for pos <= maxDatabaseSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := src.Seek(pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			// No data follows; the file ends here.
			if pos, err = src.Seek(0, io.SeekEnd); err != nil {
				return err
			}
			break
		}
		if err != nil {
			// The file system does not support holes.
			if data, err = src.Seek(pos, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := dst.Seek(data, io.SeekStart); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(copyChunkSize, dataEnd(src, data)-data))
		pos = data + n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if pos > maxDatabaseSize {
		return errors.New("it grows while it is copied")
	}
	return dst.Truncate(pos)
}

// dataEnd returns the end of the data at pos: a hole, or the end of one step of the copy.
// It sets src to pos again.
func dataEnd(src *os.File, pos int64) int64 {
	hole, err := src.Seek(pos, unix.SEEK_HOLE)
	if _, serr := src.Seek(pos, io.SeekStart); err != nil || serr != nil || hole <= pos {
		return pos + copyChunkSize
	}
	return hole
}
