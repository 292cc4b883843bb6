package nar

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SumContents hashes the first n bytes of an open regular file, read as a walk reads
// the files of a tree: from where [Options.Read] says, paced, and with
// [Options.DropBehind] without a trace in the page cache. The Sum is that of the bytes
// alone, not of a NAR. The file is read from its start, and must not have been read
// before; with [ReadDisk] it may be in direct mode afterwards, and so can only be closed.
//
// A file that has fewer than n bytes, or is written to meanwhile, gives a [*PathError]
// that wraps [ErrChanged]. When ctx is done, the error is ctx.Err().
func (h *Hasher) SumContents(ctx context.Context, f *os.File, n int64) (sum Sum, err error) {
	h.ctx, h.done = ctx, ctx.Done()
	h.path = append(h.path[:0], filepath.Base(f.Name())...)
	h.rootLen = len(h.path)
	h.digest.Reset()
	h.out.start(h.digest, h.opts.Read == ReadDisk && !h.lane)
	defer func() {
		ferr := h.out.finish()
		if err == nil {
			err = ferr
		}
		if err == nil {
			sum.Size = h.out.size
			h.digest.Sum(sum.Hash[:0])
		}
	}()
	fd := int(f.Fd())
	if err := fstat(fd, &h.stat); err != nil {
		return sum, h.fail("stat", err)
	}
	before := stampOf(&h.stat)
	if h.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return sum, h.fail("read", ErrUnsupported)
	}
	if before.size < n {
		return sum, h.fail("read", shrunk(n, before.size))
	}
	if err := h.contents(fd, n); err != nil {
		return sum, err
	}
	if err := fstat(fd, &h.stat); err != nil {
		return sum, h.fail("stat", err)
	}
	if err := before.check(&h.stat); err != nil {
		return sum, h.fail("read", err)
	}
	h.opts.Progress.addFile()
	return sum, nil
}
