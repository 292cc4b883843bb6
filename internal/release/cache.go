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
// subdirectory for each tag. It is a [Source] like any other: what it holds is
// verified again at each use. A release appears in it whole and in one step,
// and goes the same way; several processes may share it.
type Cache struct{ dir string }

const (
	cacheLock = ".lock"
	// cacheListed was last modified when every source said what it has.
	cacheListed = ".listed"
	// cacheTemp begins the names of what is not yet, or no longer, a release.
	// No tag begins with a dot.
	cacheTemp = ".ec-verify-tmp-"
	// cacheMark is a file in each release that the cache has put there. What
	// lacks it is somebody else's: it is neither replaced nor removed.
	cacheMark = ".ec-verify-kept"
)

// OpenCache returns the cache in dir, which is made if it does not exist.
func OpenCache(dir string) *Cache {
	// Where it can't be made, it is empty, and to keep something will fail.
	_ = os.MkdirAll(dir, 0o755)
	return &Cache{filepath.Clean(dir)}
}

// ReadCache returns the cache in dir for a [Finder] that only looks. A directory
// that is not there is not made, and holds nothing.
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

// Keep stores r with the assets that want accepts, beside those that the cache
// holds of it, and returns r reading from the cache. A release that nobody
// signed is not kept: r itself is returned.
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
		return nil, &unwrittenError{c.failed(r.tag, fmt.Errorf("%s was not put there by this program; name another stateDir", printable(dir)))}
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

// replaceDir puts the directory from into the place of to, which may exist, in
// one step. What was there before is then at from.
func replaceDir(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return os.Rename(from, to)
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		// A file system that cannot exchange: for a moment there is none.
		old := from + "-old"
		if err := os.Rename(to, old); err != nil {
			return err
		}
		defer func() { _ = hostfile.RemoveTree(old) }()
		return os.Rename(from, to)
	}
	return &os.LinkError{Op: "exchange", Old: from, New: to, Err: err}
}

// Prune removes releases until at most keep are left, those that were created
// first before the others, and returns the tags that went. Those in spare stay
// whatever keep is.
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
	// Which to drop is no question of trust, so what release.json says will do;
	// one that cannot be read goes first.
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

// owns reports whether the cache has put the release there itself.
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

// remove takes a release away in one step, and then its files.
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

// lock keeps other processes out, and clears away what one that was killed
// has left.
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
				return nil, &UnavailableError{"what an earlier run has left", c.String(), err}
			}
		}
	}
	return unlock, nil
}

// markListed remembers that every source has said what it has just now. That
// nothing could be written is told by whoever keeps a release; here it makes the
// sources look older than they are, which is said.
func (c *Cache) markListed() {
	// Truncating sets the time. A link there could have any file emptied.
	f, err := os.OpenFile(filepath.Join(c.dir, cacheListed), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644) //nolint:gosec // no secret
	if err == nil {
		f.Close()
	}
}

// Listed returns when every source last said what it has; the zero time for never.
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

// layered is a source whose assets are looked for in one place and then, those
// that are not there, in another.
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
