package nar

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
)

// ReadMode says where the contents of files are to come from.
type ReadMode uint8

const (
	// ReadCached reads as any program does: from the page cache, and from disk
	// what is not there. It proves what programs that start now would run, and
	// leaves the cache to those who use it.
	ReadCached ReadMode = iota

	// ReadDisk reads the contents of files from the disk even when the page
	// cache holds them, and so also sees a file that was altered beneath the
	// file system. Names, types, modes and the targets of links still
	// come from the kernel's own caches. [Stats] tells for how many files it
	// could be done.
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

// MarshalText implements [encoding.TextMarshaler]; it refuses a mode that
// ParseReadMode would not read back.
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

// Options says how to walk a tree. The zero value hashes and does nothing else.
type Options struct {
	// Read says where the contents of files come from.
	Read ReadMode

	// DropBehind leaves the page cache as it was: what only this walk brought in
	// is taken out again as soon as it was read, and what was there for others
	// stays. It changes where nothing is read from. Where the kernel doesn't say
	// what was there (cachestat(2), Linux 6.5; mincore(2), for root and the owner of
	// a file), nothing is taken out.
	DropBehind bool

	// Pace, when not nil, is called before each read of contents with the number
	// of bytes that will be read at most, and may wait. An error from it ends the
	// walk and is returned unchanged.
	Pace func(ctx context.Context, n int) error

	// Progress, when not nil, is counted up while the walk goes on. Several
	// walks may share one.
	Progress *Progress

	// MaxSize, when above 0, is the size in bytes of the largest NAR that is
	// worth reading: a larger tree fails with [ErrTooLarge] about as soon as that
	// shows, which for a large file is before it is read. Sparse files and
	// endless directories cost no more than that.
	MaxSize int64

	// MaxHeld bounds the bytes of names that a walk holds at a time; 0 is 12 MiB.
	// A directory with more than half of that is listed several times. Beside it a
	// walk holds the path of the current node, of at most 64 KiB below the root: a
	// tree with longer ones fails with [ErrTooLarge], and so does one with a directory
	// of some 45,000 names of 255 bytes, or 120,000 of 20.
	MaxHeld int64

	// Turn, when not nil, makes MaxHeld a bound of all walks that share it, but for
	// 256 KiB of each.
	Turn *Turn

	// OnEntry, when not nil, is called for each node in the order of the NAR:
	// a directory before what is in it, a file after it was read. An error from
	// it ends the walk and is returned unchanged. It is what costs the second
	// SHA-256, that of each file.
	OnEntry func(Entry) error

	// OnMode, when not nil, is called for each file and directory whose mode Nix
	// does not set: it gives files 0444 or 0555 and directories 0555. Other bits
	// change who can read, write or run what, and the NAR does not show them. The
	// path is that of the Entry, the mode is st_mode as the kernel gives it
	// (type and permission bits, see inode(7)). Symbolic links have no mode.
	OnMode func(path string, mode uint32)

	// OnOwner, when not nil, is called for each file and directory that belongs
	// to another user than root and Owner, or to another group than root's and
	// Group: whoever owns a file can make it writable. The path is that of the
	// Entry. Symbolic links are not looked at: nobody can write to one.
	OnOwner      func(path string, uid, gid uint32)
	Owner, Group uint32

	// OnTime, when not nil, is called for each file and directory whose time of
	// modification is not the one that Nix gives all: one second after the epoch.
	// The path is that of the Entry, the time in seconds and nanoseconds. Symbolic
	// links are not looked at, which would take a system call for each.
	OnTime func(path string, sec, nsec int64)

	// OnAttributes, when not nil, is called for each file and directory that has
	// extended attributes (see xattr(7)), with their names, in no order and of at most
	// 64 KiB: Nix leaves none. Capabilities and access control lists are among them,
	// which give rights just as a mode does. The path is that of the Entry. Symbolic
	// links are not looked at.
	OnAttributes func(path string, names []string)
}

// Progress counts what walks have done so far. The zero value is ready; all
// methods are safe for concurrent use.
type Progress struct {
	files, bytes atomic.Int64
}

// Counts is what a [Progress] stood at.
type Counts struct {
	Files int64 // regular files read to their end
	Bytes int64 // bytes of contents read
}

// Snapshot returns the counts as they stand. They only ever grow, also when a
// walk fails. A nil Progress stands at zero.
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
