package nar

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unlike those in x/sys/unix, the calls below are restarted when a signal interrupts
// them, which happens on network and FUSE file systems.

// listingSize is the buffer for one getdents call: some 2,000 entries of a
// store directory.
const listingSize = 64 << 10

// targetSize is one more than the longest target, 4,095 bytes, needs, so that a
// full buffer means that there was more.
const targetSize = 4096 + 1

// open opens an entry for reading. It does not follow a symbolic link (ELOOP, or
// ENOTDIR with O_DIRECTORY), does not block on a FIFO and, if allowed, does not
// update the access time: hashing should not write to the disk.
func (h *Hasher) open(dirfd int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for {
		fd, err := unix.Openat(dirfd, name, flags|h.noatime, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && h.noatime != 0:
			// Only root and the file's owner may use O_NOATIME; do not try again.
			h.noatime = 0
		default:
			return fd, err
		}
	}
}

func fstat(fd int, st *unix.Stat_t) error {
	for {
		if err := unix.Fstat(fd, st); err != unix.EINTR {
			return err
		}
	}
}

func fstatat(dirfd int, name string, st *unix.Stat_t) error {
	for {
		if err := unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			return err
		}
	}
}

func read(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Read(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

func readlinkat(dirfd int, name string, b []byte) (int, error) {
	for {
		if n, err := unix.Readlinkat(dirfd, name, b); err != unix.EINTR {
			return n, err
		}
	}
}

func getdents(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Getdents(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

// maxAttributes is the kernel's bound of the names of one file's extended
// attributes, in bytes.
const maxAttributes = 64 << 10

// listXattr returns how many bytes of b the NUL-terminated names of an open file's
// extended attributes take; ENOTSUP if the file system does not support them.
func listXattr(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Flistxattr(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

// A dirent is an entry as its directory lists it.
type dirent struct {
	name string
	ino  uint64
	typ  uint8 // DT_…, DT_UNKNOWN where the file system does not say
}

// A span is the range of names after one name, up to and including last; "" means no
// end.
type span struct{ after, last string }

// appendNames appends the names in want from the records of one getdents64 call,
// see getdents(2):
//
//	d_ino 8 bytes · d_off 8 · d_reclen 2 · d_type 1 · d_name up to a NUL
//
// It leaves "." and ".." out. All names of a call share one allocation, unless want
// is a part of the directory: then each has its own, for few of them are kept. size
// is what the names after want.after take in a NAR, at least, in bytes.
func appendNames(names []dirent, records []byte, want span) (_ []dirent, size int64, err error) {
	const header = 8 + 8 + 2 + 1
	text := ""
	if want == (span{}) {
		text = string(records)
	}
	for off := 0; off < len(records); {
		rec := records[off:]
		if len(rec) <= header {
			return names, size, syscall.EIO
		}
		reclen := int(binary.NativeEndian.Uint16(rec[16:]))
		if reclen <= header || reclen > len(rec) {
			return names, size, syscall.EIO
		}
		length := bytes.IndexByte(rec[header:reclen], 0)
		if length <= 0 {
			return names, size, syscall.EIO
		}
		begin := off + header
		off += reclen
		name := rec[header : header+length]
		if string(name) == "." || string(name) == ".." || string(name) <= want.after {
			continue
		}
		ino := binary.NativeEndian.Uint64(rec)
		size += minEntrySize + int64(length+len(padding(int64(length))))
		switch {
		case text != "":
			names = append(names, dirent{text[begin : begin+length], ino, rec[18]})
		case want.last == "" || string(name) <= want.last:
			names = append(names, dirent{string(name), ino, rec[18]})
		}
	}
	return names, size, nil
}
