package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// Cache keeps accepted releases with their signatures in a directory, one
// subdirectory for each tag. It is a [Source] like any other: its contents are
// verified again at each use. A release is added and removed as a whole, in one step;
// several processes may share a cache.
type Cache struct{ dir string }

const (
	cacheLock = ".lock"
	// cacheListed is a file whose modification time is when all sources last listed
	// their releases.
	cacheListed = ".listed"
	// cacheTemp is the name prefix of releases being added or removed. No tag begins
	// with a dot.
	cacheTemp = ".ec-verify-tmp-"
	// cacheMark is a file in each release that the cache added. A directory without
	// it belongs to somebody else and is neither replaced nor removed.
	cacheMark = ".ec-verify-kept"
)

// OpenCache returns the cache in dir and creates the directory if it is missing.
func OpenCache(dir string) *Cache {
	// If the directory can't be created, the cache is empty and Keep will fail.
	_ = os.MkdirAll(dir, 0o755)
	return &Cache{filepath.Clean(dir)}
}

// ReadCache returns the cache in dir for a read-only [Finder]. A missing directory is
// not created; the cache is then empty.
func ReadCache(dir string) *Cache { return &Cache{filepath.Clean(dir)} }

// String names the cache.
func (c *Cache) String() string { return "the cache " + printable(c.dir) }

// Remote implements [Source].
func (c *Cache) Remote() bool { return false }

// Open implements [Source].
func (c *Cache) Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, &UnavailableError{assetOf(name, tag), c.String(), err}
	}
	if _, err := ParseTag(string(tag)); err != nil {
		return nil, err
	}
	if err := CheckAssetName(name); err != nil {
		return nil, err
	}
	return openFile(filepath.Join(c.dir, string(tag), name), assetOf(name, tag), c.String(), limit)
}

// Tags implements [Lister].
func (c *Cache) Tags(ctx context.Context) ([]Tag, error) { return NewDirSource(c.dir).Tags(ctx) }

// Keep stores r with the assets that want accepts, in addition to the assets already
// cached, and returns r reading from the cache. An unsigned release is not kept: r
// itself is returned.
func (c *Cache) Keep(ctx context.Context, r *Release, want func(name string) bool) (*Release, error) {
	if r.Unsigned() {
		return r, nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(c.dir, string(r.tag))
	if _, err := os.Lstat(dir); err == nil && !c.owns(r.tag) {
		return nil, &unwrittenError{c.failed(r.tag, fmt.Errorf("%s was not created by this program; choose another stateDir", printable(dir)))}
	}
	held := make(map[string]bool)
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries {
			held[e.Name()] = true
		}
	}
	staging, err := os.MkdirTemp(c.dir, cacheTemp)
	if err != nil {
		return nil, c.failed(r.tag, err)
	}
	defer func() { _ = hostfile.RemoveTree(staging) }()
	if err := r.stage(ctx, staging, func(name string) bool { return held[name] || want == nil || want(name) }); err != nil {
		if isTyped(err) {
			return nil, err
		}
		return nil, c.failed(r.tag, err)
	}
	if err := os.WriteFile(filepath.Join(staging, cacheMark), nil, 0o644); err != nil { //nolint:gosec // as the assets
		return nil, c.failed(r.tag, err)
	}
	if err := replaceDir(staging, dir); err != nil {
		return nil, c.failed(r.tag, err)
	}
	if err := hostfile.SyncDir(c.dir); err != nil {
		return nil, c.failed(r.tag, err)
	}
	kept := *r
	kept.src = &layered{c, r.src}
	return &kept, nil
}

// replaceDir moves the directory from to the path to, in one step. If to existed, it
// is at from afterwards.
func replaceDir(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return os.Rename(from, to)
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		// The file system does not support an exchange: for a moment, to does not
		// exist.
		old := from + "-old"
		if err := os.Rename(to, old); err != nil {
			return err
		}
		defer func() { _ = hostfile.RemoveTree(old) }()
		return os.Rename(from, to)
	}
	return &os.LinkError{Op: "exchange", Old: from, New: to, Err: err}
}

// Prune removes the releases created first until at most keep are left, and returns
// the removed tags. It never removes those in spare.
func (c *Cache) Prune(ctx context.Context, keep int, spare ...Tag) ([]Tag, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	tags, err := c.Tags(ctx)
	if err != nil {
		return nil, err
	}
	// The order of removal needs no trust, so the unverified release.json suffices.
	// Unreadable releases are removed first.
	slices.SortStableFunc(tags, func(a, b Tag) int { return c.created(b).Compare(c.created(a)) })
	tags = slices.DeleteFunc(tags, func(tag Tag) bool { return !c.owns(tag) })
	left := len(tags)
	var gone []Tag
	for _, tag := range slices.Backward(tags) {
		if left <= keep || slices.Contains(spare, tag) {
			continue
		}
		if err := c.remove(tag); err != nil {
			return gone, c.failed(tag, err)
		}
		gone = append(gone, tag)
		left--
	}
	return gone, nil
}

// owns reports whether the cache added the release of tag.
func (c *Cache) owns(tag Tag) bool {
	info, err := os.Lstat(filepath.Join(c.dir, string(tag), cacheMark))
	return err == nil && info.Mode().IsRegular()
}

func (c *Cache) created(tag Tag) time.Time {
	data, err := hostfile.ReadSmall(filepath.Join(c.dir, string(tag), InfoName), MaxInfoSize)
	if err != nil {
		return time.Time{}
	}
	info, err := ParseInfo(data)
	if err != nil {
		return time.Time{}
	}
	return info.CreatedAt
}

// remove removes a release in one step, then deletes its files.
func (c *Cache) remove(tag Tag) error {
	grave, err := os.MkdirTemp(c.dir, cacheTemp)
	if err != nil {
		return err
	}
	defer func() { _ = hostfile.RemoveTree(grave) }()
	if err := os.Rename(filepath.Join(c.dir, string(tag)), filepath.Join(grave, string(tag))); err != nil {
		return err
	}
	return hostfile.SyncDir(c.dir)
}

// lock excludes other processes and removes leftovers of a killed one.
func (c *Cache) lock(ctx context.Context) (func(), error) {
	unlock, err := lock(ctx, filepath.Join(c.dir, cacheLock))
	if err != nil {
		return nil, &UnavailableError{"the lock", c.String(), err}
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		unlock()
		return nil, &UnavailableError{"the list of releases", c.String(), err}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), cacheTemp) {
			if err := hostfile.RemoveTree(filepath.Join(c.dir, e.Name())); err != nil {
				unlock()
				return nil, &UnavailableError{"the remains of an earlier run", c.String(), err}
			}
		}
	}
	return unlock, nil
}

// markListed records that all sources have just listed their releases. A write error
// is ignored here, because storing a release reports it; without the mark the sources
// only look older than they are, which is noted.
func (c *Cache) markListed() {
	// O_TRUNC updates the modification time. Following a link here could truncate any
	// file.
	f, err := os.OpenFile(filepath.Join(c.dir, cacheListed), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644) //nolint:gosec // no secret
	if err == nil {
		f.Close()
	}
}

// Listed returns when all sources last listed their releases; the zero time for
// never.
func (c *Cache) Listed() time.Time {
	info, err := os.Lstat(filepath.Join(c.dir, cacheListed))
	if err != nil || info.ModTime().After(time.Now()) {
		return time.Time{}
	}
	return info.ModTime()
}

// has reports whether the cache has all assets of r that want accepts.
func (c *Cache) has(r *Release, want func(name string) bool) bool {
	for name := range r.sums.All() {
		if !want(name) {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.dir, string(r.tag), name)); err != nil {
			return false
		}
	}
	return true
}

func (c *Cache) failed(tag Tag, err error) error {
	return &UnavailableError{"release " + string(tag), c.String(), fmt.Errorf("keep it: %w", err)}
}

// layered opens an asset in first or, if it is missing there, in then.
type layered struct{ first, then Source }

func (l *layered) String() string { return l.then.String() }

func (l *layered) Remote() bool { return l.first.Remote() || l.then.Remote() }

func (l *layered) Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error) {
	return l.openAt(ctx, tag, name, limit, 0)
}

func (l *layered) openAt(ctx context.Context, tag Tag, name string, limit, from int64) (io.ReadCloser, error) {
	in, err := openAt(ctx, l.first, tag, name, limit, from)
	if err == nil {
		return origin(l.first, in), nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if in, err = openAt(ctx, l.then, tag, name, limit, from); err != nil {
		return nil, err
	}
	return origin(l.then, in), nil
}
