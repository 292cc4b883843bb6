package nixstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

const (
	// maxChangedFiles limits the files of a store object, and maxChangedDepth the depth of
	// its directories, for LastChange.
	maxChangedFiles = 4 << 20
	maxChangedDepth = 200
)

// LastChange returns when a file of a store object was last written to, renamed, or given
// other rights: the latest change time of all its files. Nobody can set it without setting
// the clock or writing to the disk beneath the file system. If the object exceeds the
// limits, the error wraps [ErrTooLarge].
func (s *Store) LastChange(ctx context.Context, p closure.StorePath) (time.Time, error) {
	if err := s.check(p); err != nil {
		return time.Time{}, err
	}
	l := lastChange{ctx: ctx}
	if err := l.entry(s.file, p.Base(), 0); err != nil {
		return time.Time{}, fmt.Errorf("when %s was changed last: %w", p, err)
	}
	return l.at, nil
}

type lastChange struct {
	ctx   context.Context
	at    time.Time
	count int
}

func (l *lastChange) entry(dir *os.File, name string, depth int) error {
	if l.count++; l.count > maxChangedFiles || depth > maxChangedDepth {
		return ErrTooLarge
	}
	if err := l.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if at := time.Unix(st.Ctim.Unix()); at.After(l.at) {
		l.at = at
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	f, err := openBelow(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, n := range names {
			if err := l.entry(f, n, depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
