package activate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	// settle is the time, with a margin, after which a further change of a file gets
	// another change time: kernels count these in ticks of up to 10 ms.
	settle = 100 * time.Millisecond
	// rounds is how often a path is hashed again that changes under way.
	rounds = 3
)

// mark is a digest of what the kernel records about each file of a store path: its
// position, its size, and the time of its last change. A file that is written to,
// replaced, mounted over or moved gets another mark, whatever times its owner sets: the
// change time can't be set. So does a file with a new hard link, which is harmless. The
// zero value means that the mark is unknown, and equals none.
type mark [sha256.Size]byte

func (m mark) equal(other mark) bool { return m == other && m != mark{} }

// Marks show whether store paths have changed.
type Marks struct {
	store *nixstore.Store
	marks map[closure.StorePath]mark
}

// Take records the marks of paths, before they are hashed. If a file was changed just
// now, it waits: another change within the same tick of the clock would not show. When
// ctx ends, the remaining paths get none.
func Take(ctx context.Context, store *nixstore.Store, paths []closure.PathInfo) *Marks {
	m := &Marks{store: store, marks: make(map[closure.StorePath]mark, len(paths))}
	for _, info := range paths {
		m.marks[info.Path] = m.of(ctx, info.Path)
	}
	m.settled(ctx, m.marks)
	return m
}

// settled writes the store's dirty pages to disk, and drops the marks that change by it.
// A program that has mapped a file can write to a page again without a change of its
// times until the kernel has written that page to disk: a mark that is the same before
// and after that shows each later write. A store in memory has no disk, so this does not
// work there.
func (m *Marks) settled(ctx context.Context, marks map[closure.StorePath]mark) {
	err := unix.Syncfs(int(m.store.File().Fd()))
	for p, before := range marks {
		if now, _ := m.walk(ctx, p); err != nil || !now.equal(before) {
			marks[p] = mark{}
		}
	}
}

// of returns the mark of p now.
func (m *Marks) of(ctx context.Context, p closure.StorePath) mark {
	for range rounds {
		begin := time.Now()
		got, newest := m.walk(ctx, p)
		age := begin.Sub(newest)
		if got == (mark{}) || age > settle {
			return got
		}
		if age < -settle {
			return mark{} // the clock was set back
		}
		select {
		case <-ctx.Done():
			return mark{}
		case <-time.After(settle - age):
		}
	}
	return mark{}
}

// walk returns the mark of p, and the last change time in it.
func (m *Marks) walk(ctx context.Context, p closure.StorePath) (mark, time.Time) {
	var w marker
	if err := m.store.WalkObject(ctx, p, w.add); err != nil {
		return mark{}, time.Time{}
	}
	var buf []byte
	for _, lane := range w.sum {
		buf = binary.LittleEndian.AppendUint64(buf, lane)
	}
	buf = binary.LittleEndian.AppendUint64(buf, w.count)
	return sha256.Sum256(buf), w.newest
}

// marker marks one path. It adds up the digests of the files, so that their order does
// not matter and their names need not be kept.
type marker struct {
	sum    [4]uint64
	count  uint64
	newest time.Time
}

// add counts in one file.
func (w *marker) add(e *nixstore.Entry) error {
	w.count++
	st := &e.Stat
	changed := time.Unix(st.Ctim.Unix())
	if changed.After(w.newest) {
		w.newest = changed
	}
	buf := make([]byte, 0, 256)
	for _, n := range []uint64{
		uint64(st.Dev), st.Ino, uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Size), //nolint:unconvert // not on every platform
		uint64(st.Ctim.Nano()), uint64(st.Mtim.Nano()),
	} {
		buf = binary.LittleEndian.AppendUint64(buf, n)
	}
	sum := sha256.Sum256(append(buf, e.Name()...))
	for i := range w.sum {
		w.sum[i] += binary.LittleEndian.Uint64(sum[8*i:])
	}
	return nil
}

// Change is a path that differs from what was hashed.
type Change struct {
	Want closure.PathInfo
	// Got is the current hash; the zero value if it is unknown because of Err.
	Got nar.Hash
	Err error
}

// Recheck returns which of paths are no longer what they should be. A path with an
// unchanged mark has not changed since it was hashed; the others are hashed again, so
// that linking or optimising files of the store raises no alarm.
func (m *Marks) Recheck(ctx context.Context, paths []closure.PathInfo) ([]Change, error) {
	var changes []Change
	for _, want := range paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now, _ := m.walk(ctx, want.Path)
		if now.equal(m.marks[want.Path]) {
			continue
		}
		if c := m.hash(ctx, want); c != nil {
			changes = append(changes, *c)
		}
	}
	return changes, ctx.Err()
}

// Covered returns the current mount points over the store, or at or below one of paths: a
// mount can show what was hashed for as long as it likes, and hides what was altered
// beneath it. Paths are in ascending order.
func (m *Marks) Covered(paths []closure.PathInfo) ([]string, error) {
	dir := m.store.Dir()
	origins, err := m.store.Origins(string(dir))
	if errors.Is(err, nixstore.ErrUnlisted) {
		return []string{string(dir)}, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range origins {
		// The first process runs the system's script.
		if o := &origins[i]; len(o.Init) > 0 && nixstore.At(o.Init, o.Path) != nixstore.At(o.Mounts, o.Path) {
			return []string{string(dir)}, nil
		}
	}
	mounts, err := m.store.Mounts()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(mounts, func(at string) bool {
		p, _, err := dir.Within(at)
		if err != nil {
			return true
		}
		_, ours := closure.Find(paths, p)
		return !ours
	}), nil
}

// errLoose says that the bytes are right, and others may alter them, or that more is
// done with them than Nix has done.
var errLoose = errors.New("modes or owners that Nix does not set")

// hash hashes want again and records its mark; it returns nil if the hash is want's.
func (m *Marks) hash(ctx context.Context, want closure.PathInfo) *Change {
	loose := false
	h := nar.NewHasher(nar.Options{
		MaxSize: want.NarSize, Owner: m.store.Owner(), Group: m.store.Group(),
		OnMode:  func(string, uint32) { loose = true },
		OnOwner: func(string, uint32, uint32) { loose = true },
		OnAttributes: func(_ string, names []string) {
			loose = loose || slices.ContainsFunc(names, func(name string) bool {
				return name == "security.capability" || strings.HasPrefix(name, "system.posix_acl_")
			})
		},
	})
	c := &Change{Want: want}
	for range rounds {
		loose = false
		marks := map[closure.StorePath]mark{want.Path: m.of(ctx, want.Path)}
		m.settled(ctx, marks)
		before := marks[want.Path]
		sum, err := h.Sum(ctx, m.store.File(), want.Path.Base())
		after, _ := m.walk(ctx, want.Path)
		switch {
		case err != nil:
			c.Err = err
		case sum.Hash != want.NarHash:
			c.Got, c.Err = sum.Hash, nil
			return c
		case loose:
			c.Got, c.Err = sum.Hash, errLoose
			return c
		case after.equal(before):
			m.marks[want.Path] = after
			return nil
		default:
			c.Err = nar.ErrChanged
		}
	}
	return c
}
