package nar

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What a walk holds in memory does not grow with what it finds. A directory with
// more names than may be held is listed several times, each time for those that
// follow in the order of the NAR; and where the directories above the current one
// hold too much, their names are forgotten and listed again on the way back.
// Either way the stamp of the directory tells whether it changed in between.
const (
	// maxPath bounds the path of a node below the root, in bytes. Nix names files
	// by whole paths, of which Linux takes 4,095 bytes, so that no store path that
	// Nix made comes near.
	maxPath = 64 << 10

	// defaultMaxHeld is Options.MaxHeld where that is 0: the names of a directory
	// with some 20,000 entries are listed once.
	defaultMaxHeld = 4 << 20

	// entryCost is what a name takes in memory besides its own bytes: its dirent,
	// and its share of the text that the kernel returned.
	entryCost = 64
)

func (h *Hasher) maxHeld() int64 {
	if h.opts.MaxHeld > 0 {
		return h.opts.MaxHeld
	}
	return defaultMaxHeld
}

// list makes the entries of the directory f whose names come after the given one
// the last of h.names, in the order of the NAR: all of them, or the first ones,
// with f.more set.
func (h *Hasher) list(f *frame, after string) error {
	if h.listing == nil {
		h.listing = make([]byte, listingSize)
	}
	f.more = false
	bound := ""    // with f.more: the last name that is wanted
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
		if h.names, err = appendNames(h.names, h.listing[:n]); err != nil {
			return h.fail("list", err)
		}
		kept := h.names[:begin]
		for _, e := range h.names[begin:] {
			if e.name <= after {
				continue
			}
			size += minEntrySize + int64(len(e.name)+len(padding(int64(len(e.name)))))
			if f.more && e.name > bound {
				continue
			}
			kept = append(kept, e)
			f.held += int64(len(e.name)) + entryCost
		}
		clear(h.names[len(kept):])
		h.names = kept
		if err := h.fits(size); err != nil {
			return err
		}
		if f.held > h.maxHeld()/2 {
			if bound, err = h.cut(f); err != nil {
				return err
			}
		}
	}
	if err := sortNames(h.names[f.first:]); err != nil {
		return h.fail("list", err)
	}
	f.end = len(h.names)
	h.held += f.held
	return nil
}

// cut keeps the first half of the names of f, by bytes, at least one, and returns
// the last of them.
func (h *Hasher) cut(f *frame) (bound string, err error) {
	names := h.names[f.first:]
	if err := sortNames(names); err != nil {
		return "", h.fail("list", err)
	}
	f.held = 0
	kept := 0
	for kept < len(names) && (kept == 0 || f.held < h.maxHeld()/4) {
		f.held += int64(len(names[kept].name)) + entryCost
		// Without a copy, the text of the whole listing stays in memory.
		names[kept].name = strings.Clone(names[kept].name)
		kept++
	}
	f.more = f.more || kept < len(names)
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
	f.held, f.next = 0, f.first
	return h.list(f, after)
}

// forget drops the names of all directories that are open; what they still lack
// is listed again.
func (h *Hasher) forget() {
	for i := range h.frames {
		f := &h.frames[i]
		f.more = f.more || f.next < f.end
		f.first, f.next, f.end, f.held = 0, 0, 0, 0
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
