package nixstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// walkBatch is how many names of a directory are read at a time.
	walkBatch = 1000
	// maxWalkDepth limits how many directories are open at a time.
	maxWalkDepth = 200
	// walkFlags open a directory. Nothing else is opened with them, so that none waits.
	walkFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOATIME
	// maxAttribute limits an extended attribute, in bytes.
	maxAttribute = 4096
)

// Entry is one entry of a walk.
type Entry struct {
	Stat   unix.Stat_t
	dir    *os.File
	prefix string
	base   string
}

// Name returns the path of the entry, relative to the directory at which the walk began.
func (e *Entry) Name() string { return path.Join(e.prefix, e.base) }

// Attribute returns an extended attribute of the entry; "" if it has none of that name,
// or if that is unknown.
func (e *Entry) Attribute(name string) string {
	data := make([]byte, maxAttribute)
	// Through /proc: before Linux 6.13 there is no call for the attributes of an entry of
	// an open directory.
	n, err := unix.Lgetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", e.dir.Fd(), e.base), name, data)
	if err != nil {
		return ""
	}
	return string(data[:n])
}

// Walk calls do for each entry below the directory at an absolute path of the machine, a
// directory before its entries, otherwise in no order. do returns [fs.SkipDir] to skip a
// directory; any other error ends the walk. Links in the directory are not followed.
// Entries that disappear meanwhile are left out. The memory does not depend on the number
// of entries.
func (s *Store) Walk(ctx context.Context, name string, do func(*Entry) error) error {
	f, err := s.tree.open(name, walkFlags)
	if err != nil {
		return err
	}
	defer f.Close()
	return walk(ctx, f, "", 1, do, walkInto)
}

// WalkApart is [Store.Walk] with all processors: do is called by several goroutines at a
// time, but for the entries below one entry of the directory.
func (s *Store) WalkApart(ctx context.Context, name string, do func(*Entry) error) error {
	f, err := s.tree.open(name, walkFlags)
	if err != nil {
		return err
	}
	defer f.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	err = walk(ctx, f, "", 1, do, func(ctx context.Context, e *Entry, depth int, do func(*Entry) error) error {
		top := *e
		g.Go(func() error { return walkInto(ctx, &top, depth, do) })
		return nil
	})
	if failed := g.Wait(); failed != nil {
		return failed // err is that the others were to end
	}
	return err
}

// walk calls into for each directory that do does not skip.
func walk(ctx context.Context, dir *os.File, prefix string, depth int, do func(*Entry) error, into func(context.Context, *Entry, int, func(*Entry) error) error) error {
	if depth > maxWalkDepth {
		return fmt.Errorf("%s: directories deeper than %d", clip(prefix), maxWalkDepth)
	}
	e := Entry{dir: dir, prefix: prefix}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(walkBatch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &fs.PathError{Op: "list", Path: clip(prefix), Err: err}
		}
		for _, e.base = range names {
			err := unix.Fstatat(int(dir.Fd()), e.base, &e.Stat, unix.AT_SYMLINK_NOFOLLOW)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return &fs.PathError{Op: "stat", Path: clip(e.Name()), Err: err}
			}
			isDir := e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR
			if err := do(&e); isDir && errors.Is(err, fs.SkipDir) {
				continue
			} else if err != nil {
				return err
			}
			if !isDir {
				continue
			}
			if err := into(ctx, &e, depth, do); err != nil {
				return err
			}
		}
	}
}

func walkInto(ctx context.Context, e *Entry, depth int, do func(*Entry) error) error {
	below, err := openBelow(e.dir, e.base, walkFlags)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // gone, or another file meanwhile
	case err != nil:
		return err
	}
	defer below.Close()
	return walk(ctx, below, e.Name(), depth+1, do, walkInto)
}
