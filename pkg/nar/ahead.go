package nar

import (
	"cmp"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// While files turn out not to be in the page cache, the next ones of the same directory
// are opened before their turn, in the order of their inodes, and the kernel begins to
// read them: the disk then has several requests at a time, in its own order, and none
// waits until the file before is hashed. Only [Options.DropBehind] asks what is cached,
// so there is no reading ahead without it.

const (
	// maxAhead limits the files that are open before their turn.
	maxAhead = 32
	// aheadBytes is how much of a file is read before its turn, in bytes. From there on
	// the kernel reads ahead by itself.
	aheadBytes = 256 << 10
)

// An aheadFile is a file that was opened before its turn.
type aheadFile struct {
	depth int // of its directory in walker.frames
	name  string
	fd    int
	stat  unix.Stat_t
	cold  bool // nothing of it was in the page cache
}

// openAhead opens the next files of the current directory, if that pays.
func (h *Hasher) openAhead() {
	// Reading at a limited rate has no burst.
	if !h.wasCold || h.opts.Pace != nil || h.counts.counts != countsOwn || len(h.ahead) > maxAhead/2 {
		return
	}
	depth := len(h.frames) - 1
	f := &h.frames[depth]
	var next [maxAhead]dirent
	n := 0
	f.ahead = max(f.ahead, f.next-1)
	for ; f.ahead < f.end && len(h.ahead)+n < maxAhead; f.ahead++ {
		if e := h.names[f.ahead]; e.typ == unix.DT_REG {
			next[n] = e
			n++
		}
	}
	slices.SortFunc(next[:n], func(a, b dirent) int { return cmp.Compare(a.ino, b.ino) })
	for _, e := range next[:n] {
		a := aheadFile{depth: depth, name: e.name}
		var err error
		if a.fd, err = h.open(f.fd, e.name, 0); err != nil {
			continue // its turn reports that
		}
		if err := fstat(a.fd, &a.stat); err != nil || a.stat.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(a.fd)
			continue
		}
		if a.stat.Size > 0 && a.stat.Dev == h.counts.dev {
			cached, err := countPages(a.fd)
			a.cold = err == nil && cached == 0
		}
		if a.cold {
			_ = unix.Fadvise(a.fd, 0, min(a.stat.Size, aheadBytes), unix.FADV_WILLNEED) // only advice
		}
		h.ahead = append(h.ahead, a)
	}
}

// takeAhead returns the file of the current directory with that name, if it was opened
// before its turn.
func (h *Hasher) takeAhead(name string) (a aheadFile, ok bool) {
	i := slices.IndexFunc(h.ahead, func(a aheadFile) bool { return a.depth == len(h.frames)-1 && a.name == name })
	if i < 0 {
		return a, false
	}
	a = h.ahead[i]
	h.ahead = slices.Delete(h.ahead, i, i+1)
	return a, true
}

// taken reports whether another program has read a since, which has its pages now. Of a
// file that was read as a whole before its turn that can't be told.
func (a *aheadFile) taken() bool {
	if a.stat.Size <= aheadBytes {
		return false
	}
	cached, err := countPages(a.fd)
	return err != nil || cached > aheadBytes/int64(os.Getpagesize())
}

// await waits until the kernel has read what it began to: no page that is being read can
// be dropped.
func (a *aheadFile) await() {
	_ = unix.Fadvise(a.fd, 0, 0, unix.FADV_RANDOM) // nothing more; only advice
	var b [1]byte
	for off := int64(0); off < min(a.stat.Size, aheadBytes); off += int64(os.Getpagesize()) {
		if n, err := pread(a.fd, b[:], off); n == 0 || err != nil {
			return
		}
	}
}

// closeAhead closes the files of the directory at depth and of those below it, and drops
// what was read of them. A walk that was cancelled does not wait for that.
func (h *Hasher) closeAhead(depth int) {
	h.ahead = slices.DeleteFunc(h.ahead, func(a aheadFile) bool {
		if a.depth < depth {
			return false
		}
		if a.cold && !a.taken() {
			if h.mayGoOn() == nil {
				a.await()
			}
			run{0, toEnd}.drop(a.fd)
		}
		unix.Close(a.fd)
		return true
	})
}
