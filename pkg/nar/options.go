package nar

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
)

// ReadMode selects where the contents of files are read from.
type ReadMode uint8

const (
	// ReadCached reads like any program: from the page cache, and from disk what is
	// not cached. It shows what programs started now would run, and leaves the cache
	// to its users.
	ReadCached ReadMode = iota

	// ReadDisk reads the contents of files from the disk even if they are cached, and
	// so also detects a file altered beneath the file system. Names, types, modes and
	// link targets still come from the kernel's caches. [Stats] counts for how many
	// files it was possible.
	ReadDisk
)

// ParseReadMode is the inverse of [ReadMode.String].
func ParseReadMode(s string) (ReadMode, error) {
	switch s {
	case "cached":
		return ReadCached, nil
	case "disk":
		return ReadDisk, nil
	}
	return 0, fmt.Errorf("parse read mode %q: want cached or disk", clip(s))
}

// String returns "cached" or "disk".
func (m ReadMode) String() string {
	switch m {
	case ReadCached:
		return "cached"
	case ReadDisk:
		return "disk"
	}
	return "ReadMode(" + strconv.Itoa(int(m)) + ")"
}

// MarshalText implements [encoding.TextMarshaler]; it returns an error for an invalid
// mode.
func (m ReadMode) MarshalText() ([]byte, error) {
	if m > ReadDisk {
		return nil, fmt.Errorf("marshal read mode %d: no such mode", uint8(m))
	}
	return []byte(m.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *ReadMode) UnmarshalText(text []byte) error {
	parsed, err := ParseReadMode(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// Options configures a walk. The zero value only hashes.
type Options struct {
	// Read says where the contents of files come from.
	Read ReadMode

	// DropBehind preserves the page cache: pages that only this walk brought in are
	// dropped after they were read, others stay. It does not change where contents
	// are read from. If the kernel does not report cached pages (cachestat(2), Linux
	// 6.5; mincore(2), for root and the owner of a file), nothing is dropped.
	//
	// While files are not cached, and without Pace, the next ones are opened before their
	// turn and the kernel begins to read them.
	DropBehind bool

	// Pace, when not nil, is called before each read of contents with the number
	// of bytes that will be read at most, and may wait. An error from it ends the
	// walk and is returned unchanged.
	Pace func(ctx context.Context, n int) error

	// Progress, when not nil, is updated during the walk. Several walks may share
	// one.
	Progress *Progress

	// MaxSize, when above 0, is the size limit of a NAR in bytes: a larger tree fails
	// with [ErrTooLarge] as soon as the size is known, which for a large file is
	// before it is read. So sparse files and endless directories cost little.
	MaxSize int64

	// MaxHeld bounds the bytes of names that a walk holds at a time; 0 is 12 MiB.
	// A directory with more than half of that is listed several times. Beside it a
	// walk holds the path of the current node, of at most 64 KiB below the root: a
	// tree with longer ones fails with [ErrTooLarge], and so does one with a directory
	// of some 45,000 names of 255 bytes, or 120,000 of 20.
	MaxHeld int64

	// Turn, when not nil, shares the limit MaxHeld among all walks with the same
	// Turn, except for 256 KiB each.
	Turn *Turn

	// OnEntry, when not nil, is called for each node in the order of the NAR: a
	// directory before its entries, a file after it was read. An error from it ends
	// the walk and is returned unchanged. It requires a second SHA-256, for each
	// file.
	OnEntry func(Entry) error

	// OnMode, when not nil, is called for each file and directory with a mode that
	// Nix does not set: Nix sets 0444 or 0555 for files and 0555 for directories.
	// Other bits affect who can read, write or execute it, and are not in the NAR.
	// The path is that of the Entry; the mode is the kernel's st_mode (type and
	// permission bits, see inode(7)). Symbolic links have no mode.
	OnMode func(path string, mode uint32)

	// OnOwner, when not nil, is called for each file and directory whose user is
	// neither root nor Owner, or whose group is neither root's nor Group: the owner
	// of a file can make it writable. The path is that of the Entry. Symbolic links
	// are skipped, because nobody can write to one.
	OnOwner      func(path string, uid, gid uint32)
	Owner, Group uint32

	// OnTime, when not nil, is called for each file and directory whose modification
	// time is not one second after the epoch, which Nix sets everywhere. The path is
	// that of the Entry, the time in seconds and nanoseconds. Symbolic links are
	// skipped, because they would take a system call each.
	OnTime func(path string, sec, nsec int64)

	// OnAttributes, when not nil, is called for each file and directory with extended
	// attributes (see xattr(7)), with their names, in no order, at most 64 KiB: Nix
	// leaves none. They include capabilities and access control lists, which grant
	// rights as a mode does. The path is that of the Entry. Symbolic links are
	// skipped.
	OnAttributes func(path string, names []string)

	// OnLinks, when not nil, is called for each file with several names (hard links),
	// with the numbers of its file system and of itself, and how many names it has.
	OnLinks func(dev, ino, names uint64)
}

// Progress counts the work of walks. The zero value is ready; all methods are safe
// for concurrent use.
type Progress struct {
	files, bytes atomic.Int64
}

// Counts is the state of a [Progress].
type Counts struct {
	Files int64 // regular files read to their end
	Bytes int64 // bytes of contents read
}

// Snapshot returns the current counts. They never decrease, even if a walk fails. A
// nil Progress returns zeros.
func (p *Progress) Snapshot() Counts {
	if p == nil {
		return Counts{}
	}
	return Counts{Files: p.files.Load(), Bytes: p.bytes.Load()}
}

func (p *Progress) addFile() {
	if p != nil {
		p.files.Add(1)
	}
}

func (p *Progress) addBytes(n int) {
	if p != nil {
		p.bytes.Add(int64(n))
	}
}
