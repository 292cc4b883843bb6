package nar

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The memory of a walk does not grow with the tree. A directory with more names than
// allowed is listed several times, each time for the following names in the order of
// the NAR. If the directories above the current one use nearly all the memory, their
// names are dropped and listed again on the way back. In both cases the directory's
// stamp shows whether it changed in between.
//
// Each directory may use half of what those above it leave. If it could use all,
// every subdirectory would force its names to be dropped and listed again.
const (
	// maxPath limits the path of a node below the root, in bytes. Nix uses whole
	// paths, of which Linux accepts 4,095 bytes, so no store path created by Nix
	// comes near.
	maxPath = 64 << 10

	// maxNames limits the NAR size of one directory's entries without their contents,
	// in bytes: some 45,000 names of 255 bytes, or 120,000 of 20. Larger listings
	// would take minutes to hours; directories in a store have a tenth.
	maxNames = 16 << 20

	// defaultMaxHeld is Options.MaxHeld where that is 0: the names of a directory
	// with some 40,000 entries are listed once.
	defaultMaxHeld = 12 << 20

	// heldWithoutTurn is the memory limit of a walk without the Turn, enough for
	// nearly every directory in a store.
	heldWithoutTurn = 256 << 10

	// leastShare: if less than 1/leastShare of the memory is left for a directory,
	// the names of those above it are dropped.
	leastShare = 32

	// entryCost is what a name takes in memory besides its own bytes: its dirent,
	// and its share of the text that the kernel returned.
	entryCost = 64
)

// A Turn limits the memory of several walks together: one at a time may use
// [Options.MaxHeld] bytes for names, until it ends, and the others 256 KiB each. None
// waits for another: walks without the Turn list large directories more often.
type Turn struct{ taken chan struct{} }

// NewTurn returns a Turn to be shared through [Options.Turn].
func NewTurn() *Turn { return &Turn{make(chan struct{}, 1)} }

// maxHeld returns how many bytes of names the walk may hold now.
func (h *Hasher) maxHeld() int64 {
	limit := h.opts.MaxHeld
	if limit <= 0 {
		limit = defaultMaxHeld
	}
	if h.opts.Turn != nil && !h.hasTurn {
		limit = min(limit, heldWithoutTurn)
	}
	return limit
}

// share returns how many bytes the names of one more directory may take.
func (h *Hasher) share() int64 { return (h.maxHeld() - h.held) / 2 }

// takeTurn takes the Turn if it is free. It must not wait, because the other walk may
// only continue when this one does, see [Pair].
func (h *Hasher) takeTurn() {
	if h.opts.Turn == nil || h.hasTurn {
		return
	}
	select {
	case h.opts.Turn.taken <- struct{}{}:
		h.hasTurn = true
	default:
	}
}

// endTurn lets another walk have its turn.
func (h *Hasher) endTurn() {
	if h.hasTurn {
		h.hasTurn = false
		<-h.opts.Turn.taken
	}
}

// list sets the end of h.names to the entries of the directory f whose names come
// after the given one, in the order of the NAR: all of them, or the first ones, with
// f.more set.
func (h *Hasher) list(f *frame, after string) error {
	if h.listing == nil {
		h.listing = make([]byte, listingSize)
	}
	h.makeRoom()
	h.listings++
	f.more = false
	want := span{after: after}
	var size int64 // that the entries have in the NAR, at least
	for {
		select {
		case <-h.done:
			return h.ctx.Err()
		default:
		}
		n, err := getdents(f.fd, h.listing)
		if err != nil {
			return h.fail("list", err)
		}
		if n == 0 {
			break
		}
		begin := len(h.names)
		var listed int64
		if h.names, listed, err = appendNames(h.names, h.listing[:n], want); err != nil {
			return h.fail("list", err)
		}
		if size += listed; size > maxNames {
			return h.fail("list", fmt.Errorf("%w: the names in it take more than %d bytes", ErrTooLarge, maxNames))
		} else if size > 0 {
			if err := h.fits(size); err != nil {
				return err
			}
		}
		for _, e := range h.names[begin:] {
			f.held += int64(len(e.name)) + entryCost
		}
		if f.held <= h.share() {
			continue
		}
		h.takeTurn()
		if f.held <= h.share() {
			continue
		}
		if want.last, err = h.cut(f); err != nil {
			return err
		}
	}
	if err := sortNames(h.names[f.first:]); err != nil {
		return h.fail("list", err)
	}
	f.end = len(h.names)
	h.held += f.held
	return nil
}

// makeRoom ensures enough memory for a worthwhile listing of one more directory.
func (h *Hasher) makeRoom() {
	tight := func() bool { return h.share() < h.maxHeld()/leastShare }
	if !tight() {
		return
	}
	h.takeTurn()
	if tight() {
		h.forget()
	}
}

// cut keeps the first names of f, half its share of bytes, at least one, and
// returns the last of them.
func (h *Hasher) cut(f *frame) (last string, err error) {
	names := h.names[f.first:]
	if err := sortNames(names); err != nil {
		return "", h.fail("list", err)
	}
	f.held = 0
	kept := 0
	for kept < len(names) && (kept == 0 || f.held < h.share()/2) {
		f.held += int64(len(names[kept].name)) + entryCost
		if !f.more {
			// Without a copy, the text of the whole listing stays in memory.
			names[kept].name = strings.Clone(names[kept].name)
		}
		kept++
	}
	// Also where all are kept: those that are still to be listed may follow.
	f.more = true
	clear(names[kept:])
	h.names = h.names[:f.first+kept]
	return names[kept-1].name, nil
}

// relist lists the current directory again, for the names that follow the last
// one that was visited, which the path ends in.
func (h *Hasher) relist() error {
	f := &h.frames[len(h.frames)-1]
	after := ""
	if len(h.path) > f.pathLen {
		after = string(h.path[f.pathLen+1:])
	}
	if _, err := unix.Seek(f.fd, 0, unix.SEEK_SET); err != nil {
		return h.fail("list", err)
	}
	clear(h.names[f.first:])
	h.names = h.names[:f.first]
	h.held -= f.held
	f.held, f.next, f.ahead = 0, f.first, f.first
	h.closeAhead(len(h.frames) - 1)
	return h.list(f, after)
}

// forget drops the names of all open directories; the remaining ones are listed again
// later.
func (h *Hasher) forget() {
	for i := range h.frames {
		f := &h.frames[i]
		f.more = f.more || f.next < f.end
		f.first, f.next, f.end, f.ahead, f.held = 0, 0, 0, 0, 0
	}
	clear(h.names)
	h.names, h.held = h.names[:0], 0
}

// sortNames puts names in the order of the NAR and checks that they differ: a
// listing that runs beside renames can show one name twice.
func sortNames(names []dirent) error {
	slices.SortFunc(names, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(names); i++ {
		if names[i].name == names[i-1].name {
			return fmt.Errorf("%w: %q is listed twice", ErrChanged, names[i].name)
		}
	}
	return nil
}
