package nar

import (
	"fmt"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/sha256pair"
)

// readAhead is the file size in bytes from which the kernel is told that the file
// will be read from end to end. For smaller files the call costs more than it saves.
const readAhead = 1 << 20

// A reader is the state of reading contents that is kept between files.
type reader struct {
	noatime   int // unix.O_NOATIME until it is refused
	stats     Stats
	bounce    []byte       // for direct reads; nil until needed
	counts    deviceCounts // of the device of the last file
	residence []byte       // for mincore; nil until needed
	cold      coldRuns
	undropped undropped
	wasCold   bool // nothing of the last file surveyed was in the page cache
}

// Stats counts where the contents of files were read from. A file that is empty, or
// was not read to its end, is not counted.
type Stats struct {
	Direct  int64 // from the disk, past the page cache (O_DIRECT)
	Dropped int64 // from the disk: its pages were seen to be out of the cache
	Cached  int64 // possibly from the page cache
}

// Add returns the sums, to combine several Hashers.
func (s Stats) Add(other Stats) Stats {
	s.Direct += other.Direct
	s.Dropped += other.Dropped
	s.Cached += other.Cached
	return s
}

// Stats returns the counts over all calls of Sum since NewHasher.
func (h *Hasher) Stats() Stats { return h.stats }

// A stamp has the attributes that show a change of a file or directory. The change
// time is not part of it; see the package documentation.
type stamp struct {
	size     int64
	mtime    unix.Timespec
	mode     uint32
	uid, gid uint32
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{size: st.Size, mtime: st.Mtim, mode: st.Mode, uid: st.Uid, gid: st.Gid}
}

// check compares with a later stat of the same inode.
func (s stamp) check(st *unix.Stat_t) error {
	switch now := stampOf(st); {
	case now == s:
		return nil
	case now.size != s.size:
		return fmt.Errorf("%w: its size went from %d to %d", ErrChanged, s.size, now.size)
	case now.mtime != s.mtime:
		return fmt.Errorf("%w: its modification time moved", ErrChanged)
	default:
		return fmt.Errorf("%w: its mode or owner changed", ErrChanged)
	}
}

// regular sends the node of a regular file except its end. A small file costs the
// system calls open, fstat, read, fstat and close, and one more with
// Options.OnAttributes.
func (h *Hasher) regular(dirfd int, name string) error {
	file, ahead := h.takeAhead(name)
	if !ahead {
		var err error
		if file.fd, err = h.open(dirfd, name, 0); err != nil {
			return h.fail("open", swapped(err))
		}
	}
	fd := file.fd
	h.cold = coldRuns{runs: h.cold.runs[:0]}
	if file.cold && !file.taken() {
		h.cold.runs = append(h.cold.runs, run{0, toEnd})
	}
	defer func() { h.undropped.close(fd, &h.cold, h.stat.Size) }()
	if ahead {
		h.stat = file.stat
	} else if err := fstat(fd, &h.stat); err != nil {
		return h.fail("stat", err)
	}
	if h.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return h.fail("open", fmt.Errorf("%w: no longer a regular file", ErrChanged))
	}
	before, mode := stampOf(&h.stat), h.stat.Mode
	entry := Entry{Type: Regular, Executable: mode&unix.S_IXUSR != 0, Size: before.size}
	h.reportMetadata(&h.stat)
	if err := h.reportAttributes(fd); err != nil {
		return err
	}

	if err := h.fits(before.size); err != nil {
		return err
	}
	if entry.Executable {
		h.out.put(tokExecutable)
	} else {
		h.out.put(tokRegular)
	}
	h.out.putLength(before.size)
	if h.content != nil {
		h.content.Reset()
	}
	if err := h.contents(fd, before.size); err != nil {
		return err
	}
	h.out.put(padding(before.size))

	if err := fstat(fd, &h.stat); err != nil {
		return h.fail("stat", err)
	}
	if err := before.check(&h.stat); err != nil {
		return h.fail("read", err)
	}
	h.opts.Progress.addFile()
	if h.content != nil {
		h.content.Sum(h.fileSum[:0])
		entry.SHA256 = h.fileSum
	}
	return h.reportEntry(entry)
}

// contents sends exactly size bytes of a file, or fails.
func (h *Hasher) contents(fd int, size int64) error {
	if size == 0 {
		return nil
	}
	if h.opts.Read == ReadDisk {
		return h.fromDisk(fd, size)
	}
	if err := h.fromCache(fd, size, h.opts.DropBehind); err != nil {
		return err
	}
	h.stats.Cached++
	return nil
}

// fromCache reads through the page cache and, if requested, leaves the cache as it
// was.
func (h *Hasher) fromCache(fd int, size int64, dropBehind bool) error {
	if size >= readAhead {
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // only advice
	}
	if dropBehind && len(h.cold.runs) == 0 {
		h.survey(fd, size)
	}
	for left := size; left > 0; {
		if err := h.mayGoOn(); err != nil {
			return err
		}
		b := h.out.room(left)
		if err := h.pace(len(b)); err != nil {
			return err
		}
		n, err := read(fd, b)
		if err != nil {
			return h.fail("read", err)
		}
		if n == 0 {
			return h.fail("read", shrunk(size, size-left))
		}
		h.out.commit(n)
		h.took(b[:n])
		left -= int64(n)
		if dropBehind {
			h.learn(fd)
			h.cold.dropBefore(fd, size-left)
		}
	}
	return nil
}

// pace waits until n bytes may be read.
func (h *Hasher) pace(n int) error {
	if h.opts.Pace == nil {
		return nil
	}
	return h.opts.Pace(h.ctx, n)
}

// mayGoOn returns the error that ends the walk from outside: that of the context or
// the stream.
func (h *Hasher) mayGoOn() error {
	select {
	case <-h.done:
		return h.ctx.Err()
	default:
		return h.out.err
	}
}

// took counts the contents read and hashes them for a listing. Contents read through
// the page cache are the last bytes in the stream.
func (h *Hasher) took(b []byte) {
	switch {
	case h.both:
		sha256pair.WriteBoth(h.pair, h.content, h.out.take(), b)
	case h.content != nil:
		_, _ = h.content.Write(b) // never fails
	}
	h.opts.Progress.addBytes(len(b))
}

func shrunk(want, got int64) error {
	return fmt.Errorf("%w: it ends after %d of %d bytes", ErrChanged, got, want)
}
