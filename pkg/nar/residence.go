package nar

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How much of a file is in the page cache is counted by cachestat(2) (Linux 6.5); it costs
// less the less of it is cached. Where only a part of the file is cached, or may be,
// mincore(2) on a mapping of the file says which pages. Nothing is read through the
// mapping. The pages of a file on an overlay belong to the file in the layer below:
// cachestat counts none of them, and mincore sees them.

const (
	// surveyPages is how many pages one call of mincore covers.
	surveyPages = 64 << 10

	// maxColdRuns limits how many uncached ranges of a file are remembered. Pages of
	// further ranges stay in the cache.
	maxColdRuns = 4096

	// dropEvery is how many bytes are read before their pages are dropped: many enough
	// that dropping costs nothing, few enough that a large file takes no room.
	dropEvery = 8 << 20
)

// eachResidence calls found with which pages, from the one with the number first
// on, the page cache holds: bit 0 of each byte. The bytes are overwritten by the
// next call. It returns false if the kernel doesn't tell, or the walk is to end: for a
// sparse file of a terabyte there are 4,096 calls of some milliseconds each.
func (h *Hasher) eachResidence(fd int, size int64, found func(first int64, pages []byte) (goOn bool)) bool {
	page := int64(os.Getpagesize())
	for off := int64(0); off < size; off += surveyPages * page {
		if h.mayGoOn() != nil {
			return false
		}
		length := min(size-off, surveyPages*page)
		pages := (length + page - 1) / page
		if h.residence == nil || int64(len(h.residence)) < pages {
			h.residence = make([]byte, max(pages, 64))
		}
		addr, err := unix.MmapPtr(fd, off, nil, uintptr(length), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return false
		}
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(addr), uintptr(length), uintptr(unsafe.Pointer(unsafe.SliceData(h.residence)))) //nolint:gosec // as mincore(2) wants it
		_ = unix.MunmapPtr(addr, uintptr(length))
		if errno != 0 {
			return false
		}
		if !found(off/page, h.residence[:pages]) {
			break
		}
	}
	return true
}

// resident reports whether the page cache holds anything of a file, or may.
func (h *Hasher) resident(fd int, size int64) bool {
	any := false
	told := h.eachResidence(fd, size, func(_ int64, pages []byte) bool {
		for _, p := range pages {
			any = any || p&1 != 0
		}
		return !any
	})
	return any || !told
}

// survey notes what of a file is not in the page cache, for dropping it later.
// It comes before the first read, which brings in more than it returns.
func (h *Hasher) survey(fd int, size int64) {
	page := int64(os.Getpagesize())
	h.wasCold = false
	switch cached, err := countPages(fd); {
	case err != nil:
	case cached >= (size+page-1)/page:
		return
	case cached == 0 && h.counts == deviceCounts{h.stat.Dev, countsOwn}:
		h.wasCold = true
		h.cold.runs = append(h.cold.runs, run{0, toEnd})
		return
	case cached == 0 && h.counts.dev != h.stat.Dev:
		h.counts = deviceCounts{h.stat.Dev, countsUnknown}
	}
	told := h.eachResidence(fd, size, func(first int64, pages []byte) bool {
		for i, p := range pages {
			if p&1 == 0 && !h.cold.add((first+int64(i))*page, page) {
				return false
			}
		}
		return true
	})
	if !told {
		h.cold.runs = h.cold.runs[:0]
	}
	if n := len(h.cold.runs); n > 0 && h.cold.runs[n-1].end >= size {
		h.cold.runs[n-1].end = toEnd
	}
}

// deviceCounts says of a device whether cachestat counts the pages of its files.
type deviceCounts struct {
	dev    uint64
	counts ownPages
}

// ownPages says whether cachestat counts the pages of a device.
type ownPages uint8

const (
	countsUnknown ownPages = iota
	countsOwn
	countsElsewhere
)

// learn finds out whether cachestat counts the pages of a file's device, by one that
// had none before it was read and should have some now.
func (h *Hasher) learn(fd int) {
	if h.counts.counts != countsUnknown || h.counts.dev != h.stat.Dev || len(h.cold.runs) == 0 {
		return
	}
	h.counts.counts = countsElsewhere
	if cached, err := countPages(fd); err == nil && cached > 0 {
		h.counts.counts = countsOwn
	}
}

// countPages returns how many pages of its own a file has in the page cache.
func countPages(fd int) (int64, error) {
	var all unix.CachestatRange // to the end of the file
	var cached unix.Cachestat_t
	err := unix.Cachestat(uint(fd), &all, &cached, 0)
	return int64(cached.Cache), err
}

// toEnd is the end of a run that ends with the file, whose last page is dropped
// only so where it is not full.
const toEnd = int64(1)<<62 - 1

// coldRuns are the parts of a file that were not in the page cache, in
// ascending order. The zero value is none.
type coldRuns struct {
	runs []run
	next int   // runs before it are dropped
	seen int64 // where dropBefore last dropped
}

// run is the bytes from start up to and without end.
type run struct{ start, end int64 }

// drop drops the pages of r.
func (r run) drop(fd int) {
	length := r.end - r.start
	if r.end == toEnd {
		length = 0 // to the end of the file
	}
	_ = unix.Fadvise(fd, r.start, length, unix.FADV_DONTNEED) // only advice
}

// add adds length bytes from start on, which are not before the last ones, or
// returns false if there are too many runs.
func (c *coldRuns) add(start, length int64) bool {
	if n := len(c.runs); n > 0 && c.runs[n-1].end == start {
		c.runs[n-1].end += length
		return true
	}
	if len(c.runs) == maxColdRuns {
		return false
	}
	c.runs = append(c.runs, run{start, start + length})
	return true
}

// dropBefore drops the cached pages before pos, from time to time.
func (c *coldRuns) dropBefore(fd int, pos int64) {
	if len(c.runs) == 0 || pos-c.seen < dropEvery {
		return
	}
	c.seen = pos
	c.drop(fd, pos)
}

func (c *coldRuns) drop(fd int, pos int64) {
	for ; c.next < len(c.runs); c.next++ {
		r := c.runs[c.next]
		to := min(r.end, pos)
		if to <= r.start {
			return
		}
		run{r.start, to}.drop(fd)
		if to < r.end {
			// From its start again next time: the kernel reads by large folios, and
			// one that goes beyond to stayed.
			return
		}
	}
}

// undropped are files that were read and still have all, or the end, of what the walk
// brought into the page cache. Those pages are dropped some files later: right after
// a read the processor that read them has them in a list of its own, and where the
// call is made on another one, the kernel has all processors empty theirs and waits,
// for each file. The zero value is none.
type undropped struct {
	files []undroppedFile
	bytes int64 // of them that are undropped, at most
}

type undroppedFile struct {
	fd int
	run
}

const (
	// maxUndropped limits the open files of a walk beside its directories.
	maxUndropped = 32
	// maxUndroppedBytes limits what files take of the page cache until they are dropped.
	maxUndroppedBytes = dropEvery
)

// close closes a file of that size after what is left of cold was dropped, at once or
// later.
func (u *undropped) close(fd int, cold *coldRuns, size int64) {
	left := cold.runs[cold.next:]
	if len(left) != 1 {
		cold.drop(fd, toEnd)
		unix.Close(fd)
		return
	}
	u.files = append(u.files, undroppedFile{fd, left[0]})
	u.bytes += size - cold.seen
	if len(u.files) >= maxUndropped || u.bytes >= maxUndroppedBytes {
		u.drop()
	}
}

// drop drops and closes all files.
func (u *undropped) drop() {
	for _, f := range u.files {
		f.drop(f.fd)
		unix.Close(f.fd)
	}
	*u = undropped{files: u.files[:0]}
}
