package nixstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

const (
	// walkBatch is how many names of a directory are read at a time.
	walkBatch = 1000
	// maxWalkDepth limits how many directories are open at a time.
	maxWalkDepth = 200
	// walkFlags open a directory. Nothing else is opened with them, so that none waits.
	walkFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOATIME
	// maxObjectFiles limits the files of a store object, for WalkObject.
	maxObjectFiles = 4 << 20
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
func (e *Entry) Name() string {
	if e.prefix == "" {
		return e.base
	}
	return e.prefix + "/" + e.base
}

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
	return s.WalkPast(ctx, name, do, func(_ string, err error) error { return err })
}

// WalkPast is [Store.Walk], but goes on past what can't be examined: an entry, or those of
// a directory. failed is called with its name and the error, and may end the walk.
func (s *Store) WalkPast(ctx context.Context, name string, do func(*Entry) error, failed func(name string, err error) error) error {
	f, err := s.tree.open(name, walkFlags)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &walk{do: do, failed: failed}
	w.into = w.below
	return w.list(ctx, f, "", 1)
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
	each := &walk{do: do, failed: func(_ string, err error) error { return err }}
	each.into = each.below
	all := &walk{do: do, failed: each.failed, into: func(ctx context.Context, e *Entry, depth int) error {
		top := *e
		g.Go(func() error { return each.below(ctx, &top, depth) })
		return nil
	}}
	err = all.list(ctx, f, "", 1)
	if failed := g.Wait(); failed != nil {
		return failed // err is that the others were to end
	}
	return err
}

// WalkObject is [Store.Walk] of a store object, itself first, whose entries have names
// that begin with its base name. Nothing is left out: an entry that disappears meanwhile
// is an error, and so is an object of more than 4 Mi files.
func (s *Store) WalkObject(ctx context.Context, p closure.StorePath, do func(*Entry) error) error {
	if err := s.check(p); err != nil {
		return err
	}
	files := 0
	w := &walk{strict: true, failed: func(_ string, err error) error { return err }, do: func(e *Entry) error {
		if files++; files > maxObjectFiles {
			return fmt.Errorf("more than %d files", maxObjectFiles)
		}
		return do(e)
	}}
	w.into = w.below
	return w.entry(ctx, &Entry{dir: s.file, base: p.Base()}, 0)
}

// walk is a walk through a directory.
type walk struct {
	do     func(*Entry) error
	failed func(name string, err error) error
	strict bool // what disappears meanwhile has failed
	// into is called for each directory that do does not skip.
	into func(ctx context.Context, e *Entry, depth int) error
}

// list walks through an open directory.
func (w *walk) list(ctx context.Context, dir *os.File, prefix string, depth int) error {
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
			return w.failed(prefix, &fs.PathError{Op: "list", Path: clip(prefix), Err: err})
		}
		for _, e.base = range names {
			if err := w.entry(ctx, &e, depth); err != nil {
				return err
			}
		}
	}
}

func (w *walk) entry(ctx context.Context, e *Entry, depth int) error {
	err := unix.Fstatat(int(e.dir.Fd()), e.base, &e.Stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) && !w.strict {
		return nil
	}
	if err != nil {
		return w.failed(e.Name(), &fs.PathError{Op: "stat", Path: clip(e.Name()), Err: err})
	}
	isDir := e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR
	if err := w.do(e); isDir && errors.Is(err, fs.SkipDir) {
		return nil
	} else if err != nil || !isDir {
		return err
	}
	return w.into(ctx, e, depth)
}

// below walks through a directory of the one at depth.
func (w *walk) below(ctx context.Context, e *Entry, depth int) error {
	if depth == maxWalkDepth {
		return w.failed(e.Name(), fmt.Errorf("%s: directories deeper than %d", clip(e.Name()), maxWalkDepth))
	}
	dir, err := openBelow(e.dir, e.base, walkFlags)
	switch gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP); {
	case gone && !w.strict:
		return nil // or another file meanwhile
	case err != nil:
		return w.failed(e.Name(), err)
	}
	defer dir.Close()
	return w.list(ctx, dir, e.Name(), depth+1)
}
