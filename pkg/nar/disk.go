package nar

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directAlign is the alignment of memory, offset and length that direct
	// reads use. File systems ask for that of a disk sector, 512 or 4,096.
	directAlign = 4096
	// directSize is the size in bytes of one direct read.
	directSize = 128 << 10
)

// fromDisk reads contents with O_DIRECT if the kernel supports it for this file, or
// else after dropping the file from the page cache, or else as is; it counts which.
func (h *Hasher) fromDisk(fd int, size int64) error {
	if setDirect(fd) {
		if err := h.direct(fd, size); err != nil {
			return err
		}
		h.stats.Direct++
		return nil
	}
	dropped, wasCached := h.drop(fd, size)
	if err := h.fromCache(fd, size, false); err != nil {
		return err
	}
	if !dropped {
		h.stats.Cached++
		return nil
	}
	h.stats.Dropped++
	if !wasCached {
		// Drop what only this read brought into the cache.
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	}
	return nil
}

// setDirect sets O_DIRECT if reads will then bypass the cache. An accepted flag does
// not prove that: some file systems, and others for some files (compressed,
// encrypted, inline), accept it and read through the cache. STATX_DIOALIGN (Linux
// 6.1) is reliable.
func setDirect(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err != nil || !aligned(st.Dio_mem_align, st.Dio_offset_align) {
		return false
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT|unix.O_NONBLOCK)
	return err == nil
}

// aligned reports whether directAlign suffices for a file with these alignments of
// memory, and of offset and length. Zero means that the file can't be read directly,
// or that the kernel does not know.
func aligned(mem, offset uint32) bool {
	return mem != 0 && offset != 0 && directAlign%mem == 0 && directAlign%offset == 0
}

// direct reads from a descriptor that has O_DIRECT set.
func (h *Hasher) direct(fd int, size int64) error {
	if h.bounce == nil {
		h.bounce = alignedBuffer()
	}
	for pos := int64(0); pos < size; {
		if err := h.mayGoOn(); err != nil {
			return err
		}
		// The offset must be aligned even after a read that ended elsewhere, and
		// the length even at the end of the file, where the kernel reads less.
		off := pos &^ (directAlign - 1)
		want := min(size-off+directAlign-1, directSize) &^ (directAlign - 1)
		if err := h.pace(int(want)); err != nil {
			return err
		}
		n, err := pread(fd, h.bounce[:want], off)
		if err != nil {
			return h.fail("read", err)
		}
		if int64(n) <= pos-off {
			return h.fail("read", shrunk(size, pos))
		}
		// regular notices if a file has grown and continues after size.
		b := h.bounce[pos-off : min(int64(n), size-off)]
		h.took(b)
		h.out.write(b)
		pos += int64(len(b))
	}
	return nil
}

// drop writes a file back and removes it from the page cache. It reports whether no
// page is left there, and whether there was one. Pages mapped by a program stay. If
// the kernel refuses the information, as it does to others than root and the file's
// owner, pages count as left.
func (h *Hasher) drop(fd int, size int64) (dropped, wasCached bool) {
	if !h.resident(fd, size) {
		return true, false
	}
	if h.mayGoOn() != nil {
		return false, true // which fromCache says
	}
	// Only clean pages can be dropped.
	_ = unix.Fdatasync(fd)
	// Whether it worked is checked by the pages.
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	return !h.resident(fd, size), true
}

// alignedBuffer returns directSize bytes at an address that is a multiple of
// directAlign. Go's collector does not move heap objects.
func alignedBuffer() []byte {
	b := make([]byte, directSize+directAlign)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directAlign //nolint:gosec // only looks at the address
	return b[skip : skip+directSize : skip+directSize]
}

func pread(fd int, b []byte, off int64) (int, error) {
	for {
		if n, err := unix.Pread(fd, b, off); err != unix.EINTR {
			return n, err
		}
	}
}
