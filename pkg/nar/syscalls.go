package nar

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// The calls below differ from those of x/sys/unix in that they start again
// when a signal interrupts them, as network and FUSE file systems let happen.

// listingSize is the buffer for one getdents call: some 2,000 entries of a
// store directory.
const listingSize = 64 << 10

// targetSize is one more than the longest target, 4,095 bytes, needs, so that a
// full buffer means that there was more.
const targetSize = 4096 + 1

// open opens an entry for reading. It does not follow a symbolic link (ELOOP,
// or ENOTDIR with O_DIRECTORY), does not wait for the other end of a FIFO, and
// where the kernel allows does not touch the access time: a hash should
// not write to the disk it reads.
func (h *Hasher) open(dirfd int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for {
		fd, err := unix.Openat(dirfd, name, flags|h.noatime, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && h.noatime != 0:
			// Only the owner of a file and root may ask; ask no more.
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

// hasXattr returns nil where the open file has the extended attribute, ENODATA
// where it has not, and ENOTSUP where the file system has none at all.
func hasXattr(fd int, name string) error {
	for {
		if _, err := unix.Fgetxattr(fd, name, nil); err != unix.EINTR {
			return err
		}
	}
}

// A dirent is an entry as its directory lists it.
type dirent struct {
	name string
	typ  uint8 // DT_…, DT_UNKNOWN where the file system does not say
}

// appendNames reads the records of one getdents64 call, see getdents(2):
//
//	d_ino 8 bytes · d_off 8 · d_reclen 2 · d_type 1 · d_name up to a NUL
//
// It leaves "." and ".." out. All names of a call share one allocation.
func appendNames(names []dirent, records []byte) ([]dirent, error) {
	const header = 8 + 8 + 2 + 1
	text := string(records)
	for off := 0; off < len(records); {
		rec := records[off:]
		if len(rec) <= header {
			return names, syscall.EIO
		}
		reclen := int(binary.NativeEndian.Uint16(rec[16:]))
		if reclen <= header || reclen > len(rec) {
			return names, syscall.EIO
		}
		length := bytes.IndexByte(rec[header:reclen], 0)
		if length <= 0 {
			return names, syscall.EIO
		}
		n := dirent{name: text[off+header : off+header+length], typ: rec[18]}
		if n.name != "." && n.name != ".." {
			names = append(names, n)
		}
		off += reclen
	}
	return names, nil
}
