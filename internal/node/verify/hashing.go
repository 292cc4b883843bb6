package verify

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// observation is what hashing one path gave.
type observation struct {
	sum nar.Sum
	err error
	// fromDisk means that every byte of it was read from disk, if that was asked for.
	fromDisk bool
	took     time.Duration
	metadata *metadata // nil for a path that is as Nix makes them
}

// errNotReached marks a path that was not hashed because the run, or its time
// for that, ended first.
var errNotReached = errors.New("not reached")

// hashing is the work of several goroutines that hash the selected paths of a
// contents tier.
type hashing struct {
	*contentsCheck
	begin time.Time
	names *nar.Turn
	// linked counts the files with several names, of which at most maxLinked are kept.
	linked atomic.Int64

	mu    sync.Mutex
	next  int // turn
	stats nar.Stats
}

// hash hashes the selected paths and stores the result of each. Its error is that of ctx.
func (c *contentsCheck) hash(ctx context.Context) (nar.Stats, error) {
	h := &hashing{contentsCheck: c, begin: time.Now(), names: nar.NewTurn()}
	c.observed = make([]observation, len(c.audit.paths))
	var total int64
	for i := range c.audit.paths {
		c.observed[i].err = errNotReached
		total += c.audit.paths[i].NarSize
	}
	c.progress.pathsTotal.Store(int64(len(c.audit.paths)))
	c.progress.bytesTotal.Store(total)
	if c.selected.budget > 0 {
		// Pauses are a part of the time that was given.
		c.Pacer.PauseUntil(h.begin.Add(c.selected.budget))
		defer c.Pacer.PauseUntil(time.Time{})
	}
	workers, err := c.workers()
	if err != nil {
		return nar.Stats{}, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		pace, leave := c.Pacer.Join()
		g.Go(func() error {
			defer leave()
			nar.Pair(func(newHasher func(nar.Options) *nar.Hasher) { h.work(ctx, newHasher, pace) })
			return ctx.Err()
		})
	}
	err = g.Wait()
	return h.stats, err
}

// maxLinked limits the files with several names that are kept, at 24 bytes each. The paths
// with the others are read once more by the tier that looks for them.
const maxLinked = 200_000

// take returns the index of the next path, false if there is none.
func (h *hashing) take(ctx context.Context) (int, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil || h.next == len(h.selected.order) || !h.selected.may(h.next, time.Since(h.begin)) {
		return 0, false
	}
	h.next++
	return h.selected.order[h.next-1], true
}

// work hashes paths until there is no further turn.
func (h *hashing) work(ctx context.Context, newHasher func(nar.Options) *nar.Hasher, pace func(context.Context, int) error) {
	var seen metadata
	opts := nar.Options{
		Read: h.Read, DropBehind: h.DropBehind, Pace: pace, Progress: &h.progress.nar,
		Owner: h.store.Owner(), Group: h.store.Group(),
		Turn: h.names,
	}
	seen.watch(&opts)
	if h.asksForLinks() {
		opts.OnLinks = func(dev, ino, names uint64) {
			if h.linked.Add(1) > maxLinked {
				seen.unlisted = true
				return
			}
			seen.linked = append(seen.linked, running.Link{Dev: dev, Ino: ino, Names: uint32(names)}) //nolint:gosec // Linux counts in 32 bits
		}
	}
	i, ok := h.take(ctx)
	if !ok {
		return // without the memory of a hasher: a run may have few paths to hash
	}
	hasher := newHasher(opts)
	for ; ok; i, ok = h.take(ctx) {
		want, got := h.audit.paths[i], &h.observed[i]
		seen = metadata{}
		hasher.SetMaxSize(largest(want))
		done, before, began := h.progress.hashing.take(want.Path), hasher.Stats(), time.Now()
		got.sum, got.err = hasher.Sum(ctx, h.store.File(), want.Path.Base())
		if errors.Is(got.err, nar.ErrChanged) {
			// Once more: a change is only worth reporting if it goes on.
			seen, before = metadata{}, hasher.Stats()
			got.sum, got.err = hasher.Sum(ctx, h.store.File(), want.Path.Base())
		}
		got.metadata, got.took = seen.kept(), time.Since(began)
		got.fromDisk = h.Read == nar.ReadDisk && hasher.Stats().Cached == before.Cached
		h.rememberHashed(want, got)
		done()
		h.progress.paths.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats = h.stats.Add(hasher.Stats())
}

// largest returns how much of the path want is read, in bytes. A path that is larger than
// want is altered; reading on shows whether the database was altered to match, which is
// worth some gigabytes but no terabyte.
func largest(want closure.PathInfo) int64 {
	const atLeast = 1 << 30
	return want.NarSize + max(want.NarSize, atLeast)
}
