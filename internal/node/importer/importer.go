package importer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	// atOnce is how many paths are fetched at once: each starts a nix of its own,
	// which waits for the peer more than it computes.
	atOnce = 4
	// room is how many bytes must stay free beside what is fetched.
	room = 256 << 20
	// spool is the directory for what is fetched. The name is unusual, because the
	// directory is removed.
	spool = ".ec-verify-import"
)

// Register hands an export of store paths to Nix; see [nix.Nix.Import].
type Register func(ctx context.Context, r io.Reader, temp string, timeout time.Duration) error

// DiffersError means that a source has other contents for a path than the manifest states.
type DiffersError struct {
	Source string
	Want   closure.PathInfo
	Why    string
}

func (e *DiffersError) Error() string {
	return fmt.Sprintf("%s has something else for %s than the release: %s; nothing was imported", e.Source, e.Want.Path, e.Why)
}

// askedAtOnce is how many paths one question is about.
const askedAtOnce = 500

// Ask fails unless src claims to have all of wanted, and claims for each that it refers only
// to paths in its closure, all. Nothing is fetched, and the claims of src need not be true.
func Ask(ctx context.Context, src Source, all closure.Closure, wanted []closure.PathInfo, temp string) error {
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for some := range slices.Chunk(wanted, askedAtOnce) {
		g.Go(func() error {
			references, err := src.References(asking, some, temp)
			if err != nil {
				return err
			}
			return covered(src, all, some, references)
		})
	}
	return g.Wait()
}

func covered(src Source, all closure.Closure, wanted []closure.PathInfo, references map[closure.StorePath][]closure.StorePath) error {
	for _, want := range wanted {
		list, ok := references[want.Path]
		if !ok {
			return fmt.Errorf("%s does not have %s; nothing was imported", src, want.Path)
		}
		for _, r := range list {
			if _, ok := all[r]; !ok {
				return &DiffersError{src.String(), want, fmt.Sprintf("there it refers to %s, which the release does not have", r)}
			}
		}
	}
	return nil
}

// Bring fetches wanted, those of a closure's paths that the store lacks, from src into a
// directory below within, which it creates and removes, and registers them when each is
// what the manifest says. done is called for each that was fetched.
func Bring(ctx context.Context, src Source, all closure.Closure, wanted []closure.PathInfo, within string, register Register, done func(closure.PathInfo)) (err error) {
	dir := filepath.Join(within, spool)
	if err := hostfile.RemoveTree(dir); err != nil { // of one that was killed
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hostfile.RemoveTree(dir)) }()
	if err := enoughRoom(dir, wanted); err != nil {
		return err
	}
	if err := Ask(ctx, src, all, wanted, dir); err != nil {
		return err
	}
	g, fetching := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, want := range wanted {
		g.Go(func() error {
			if fetching.Err() != nil {
				return fetching.Err()
			}
			if err := fetch(fetching, src, want, dir); err != nil {
				return err
			}
			done(want)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return handOver(ctx, wanted, dir, register)
}

// enoughRoom fails if there is not enough space for the NARs of wanted, once in dir and once
// in the store. An import must not fill a disk: nothing else could write to it.
func enoughRoom(dir string, wanted []closure.PathInfo) error {
	if len(wanted) == 0 {
		return nil
	}
	var size int64
	for _, want := range wanted {
		size += want.NarSize
	}
	store := string(wanted[0].Path.Dir())
	var here, there place
	if err := errors.Join(here.find(dir), there.find(store)); err != nil {
		return err
	}
	if here.shares(there) {
		return hasFree(dir, 2*size+room)
	}
	return errors.Join(hasFree(dir, size+room), hasFree(store, size+room))
}

// place is where a directory's bytes are.
type place struct {
	device uint64
	kind   int64 // of its file system
}

func (p *place) find(dir string) error {
	var file unix.Stat_t
	var fs unix.Statfs_t
	err := errors.Join(unix.Stat(dir, &file), unix.Statfs(dir, &fs))
	p.device, p.kind = file.Dev, fs.Type
	return err
}

// shares reports whether two directories may have the same free bytes. The subvolumes of
// btrfs and the datasets of ZFS are devices of their own, and their free bytes are those of
// all.
func (p place) shares(other place) bool {
	const zfs = 0x2fc12fc1
	return p.device == other.device || p.kind == other.kind && (p.kind == unix.BTRFS_SUPER_MAGIC || p.kind == zfs)
}

func hasFree(dir string, need int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need { //nolint:gosec,unconvert // no disk has 2⁶³ bytes
		return fmt.Errorf("%s has %d bytes free, and the import takes %d; nothing was imported", dir, free, need)
	}
	return nil
}

func spooled(dir string, p closure.StorePath) string { return filepath.Join(dir, p.Digest()+".nar") }

// fetch writes the NAR of want to its file in dir.
func fetch(ctx context.Context, src Source, want closure.PathInfo, dir string) error {
	f, err := os.OpenFile(spooled(dir, want.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &checked{w: f, hash: sha256.New(), left: want.NarSize}
	allowed := patience(want.NarSize)
	dumping, cancel := context.WithTimeout(ctx, allowed)
	defer cancel()
	err = src.Dump(dumping, want, dir, w)
	differs := func(why string) error { return &DiffersError{src.String(), want, why} }
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case w.failed != nil:
		return w.failed
	case w.over || errors.Is(err, nar.ErrTooLarge):
		return differs(fmt.Sprintf("it is larger than %d bytes", want.NarSize))
	case err != nil && dumping.Err() != nil:
		return fmt.Errorf("%s from %s: it takes more than %s; nothing was imported", want.Path, src, allowed)
	case err != nil:
		return fmt.Errorf("%s from %s: %w; nothing was imported", want.Path, src, err)
	case w.left > 0:
		return differs(fmt.Sprintf("it ends %d bytes early", w.left))
	}
	if got := nar.Hash(w.hash.Sum(nil)); got != want.NarHash {
		return differs(fmt.Sprintf("its NAR hash is %s, not %s", got, want.NarHash))
	}
	return f.Close()
}

var errOver = errors.New("larger than it should be")

// checked hashes what is written through it, up to a size.
type checked struct {
	w      io.Writer
	hash   hash.Hash
	left   int64
	over   bool
	failed error // of w
}

// Write implements [io.Writer].
func (c *checked) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		c.over = true
		return 0, errOver
	}
	n, err := c.w.Write(p)
	c.hash.Write(p[:n])
	c.left -= int64(n)
	c.failed = err
	return n, err
}

// handOver has the NARs in dir registered.
func handOver(ctx context.Context, wanted []closure.PathInfo, dir string, register Register) error {
	if len(wanted) == 0 {
		return nil
	}
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := export(w, wanted, func(want closure.PathInfo) (io.ReadCloser, error) {
			return hostfile.OpenNoFollow(spooled(dir, want.Path))
		})
		w.CloseWithError(err)
		exported <- err
	}()
	var size int64
	for _, want := range wanted {
		size += want.NarSize
	}
	err := register(ctx, r, dir, patience(size))
	r.CloseWithError(io.ErrClosedPipe) // who stopped reading
	if exportErr := <-exported; exportErr != nil && !errors.Is(exportErr, io.ErrClosedPipe) {
		return exportErr
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}
