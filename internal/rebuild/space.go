package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

const (
	// spaceEvery is how often the free space is checked. What the fastest disk can write
	// in that time is small compared with a reserve.
	spaceEvery = 50 * time.Millisecond
	// usageEvery is how often the trees are counted even if free space has not shrunk:
	// others may have freed what was taken here.
	usageEvery = 40 * spaceEvery
)

// errNoRoom is wrapped if something was ended, or not started, for lack of space.
var errNoRoom = errors.New("not enough disk space")

// space watches what a run takes of a file system.
type space struct {
	path string
	// limit is how many bytes the trees of one build may take, reserve how many bytes of
	// the file system stay free. Zero means no limit.
	limit, reserve int64
}

// free returns how many bytes of the file system are free.
func (s space) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // no disk has 2⁶³ bytes
}

// check fails with errNoRoom if less than the reserve is free.
func (s space) check() error {
	free, err := s.free()
	if err != nil {
		return err
	}
	if free < s.reserve {
		return fmt.Errorf("%w: %s are free at %s, of which %s are to stay free",
			errNoRoom, humanize.IBytes(uint64(free)), s.path, humanize.IBytes(uint64(s.reserve)))
	}
	return nil
}

// watch calls cancel as soon as a limit is exceeded, with the reason, and returns when
// ctx ends. The trees count towards the limit.
func (s space) watch(ctx context.Context, trees []string, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(spaceEvery)
	defer ticker.Stop()
	before, err := s.free()
	if err != nil {
		cancel(err)
		return
	}
	for counted := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.check(); err != nil {
			cancel(err)
			return
		}
		now, err := s.free()
		if err != nil {
			cancel(err)
			return
		}
		if s.limit <= 0 || before-now <= s.limit && time.Since(counted) < usageEvery {
			continue
		}
		// This much space has gone; whether it went here takes longer to find out.
		counted = time.Now()
		used := usage(trees)
		if used > s.limit {
			cancel(fmt.Errorf("%w: the build took %s, and may take %s", errNoRoom, humanize.IBytes(uint64(used)), humanize.IBytes(uint64(s.limit))))
			return
		}
		before = now + used
	}
}

// guard runs do with a context that ends as soon as the trees exceed a limit, and then
// returns the reason.
func (s space) guard(ctx context.Context, trees []string, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(ctx, trees, cancel)
	}()
	err := do(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	if err != nil && cause != nil {
		return cause
	}
	return err
}

// usage returns how many bytes of disk trees take; an estimate while they change.
func usage(trees []string) int64 {
	var sum int64
	for _, tree := range trees {
		// A file that cannot be examined has gone or is hidden; it counts nothing.
		_ = filepath.WalkDir(tree, func(p string, _ fs.DirEntry, _ error) error {
			var st unix.Stat_t
			if unix.Lstat(p, &st) == nil {
				sum += st.Blocks * 512
			}
			return nil
		})
	}
	return sum
}
