package nar

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/sha256pair"
)

// Sum identifies a NAR, and so the tree in it.
type Sum struct {
	Hash Hash  // SHA-256 of the archive
	Size int64 // length of the archive in bytes
}

// A Hasher hashes one tree after another and reuses its buffers: about 200 KiB, with
// [ReadDisk] 860 KiB, and up to [Options.MaxHeld] for names. It is not safe for
// concurrent use: create one for each worker. Between calls it has no open file and
// no goroutine, so it needs no Close.
type Hasher struct {
	opts    Options
	digest  hash.Hash
	lane    bool               // digest is one of two that take turns in one goroutine, see Pair
	content *sha256pair.Digest // of one file; nil when there is no listing
	pair    *sha256pair.Digest // digest, where it can be computed together with content
	both    bool               // it is, in this walk
	fileSum Hash               // result of content; a field to avoid an allocation
	out     stream
	walker
	reader
}

// NewHasher returns a Hasher with opts.
func NewHasher(opts Options) *Hasher {
	h := newHasher(opts, sha256.New())
	if h.content != nil && sha256pair.Available() {
		h.pair = sha256pair.New()
		h.digest = h.pair
	}
	return h
}

func newHasher(opts Options, digest hash.Hash) *Hasher {
	h := &Hasher{opts: opts, digest: digest, out: newStream()}
	if opts.OnEntry != nil {
		h.content = sha256pair.New()
	}
	h.noatime = unix.O_NOATIME
	return h
}

// Pair calls work twice and alternates between the two calls in this goroutine. Each
// call creates a Hasher with the given function; while one reads, the bytes of the
// other wait to be hashed together, see [sha256pair.Together]. Two trees then take
// little more processor time than one, as long as both calls have work. If the
// processor does not support this, work is called once. Hashers with
// [Options.OnEntry] gain less, because they already hash each file together with its
// NAR.
func Pair(work func(newHasher func(Options) *Hasher)) {
	sha256pair.Together(func(digest hash.Hash) {
		work(func(opts Options) *Hasher {
			h := newHasher(opts, digest)
			h.lane = sha256pair.Available()
			return h
		})
	})
}

// SetMaxSize changes Options.MaxSize for later calls.
func (h *Hasher) SetMaxSize(n int64) { h.opts.MaxSize = n }

// Sum hashes the entry name of the open directory dir, which may be opened with
// O_PATH. The name is one component: not empty, not "." or "..", and without
// '/'. If it is a symbolic link, the link is hashed.
//
// An error about the tree is a [*PathError]. When ctx is done, Sum returns
// ctx.Err() after the system call it is in, at most one buffer later.
func (h *Hasher) Sum(ctx context.Context, dir *os.File, name string) (Sum, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return Sum{}, &PathError{Path: name, Op: "hash", Err: syscall.EINVAL}
	}
	return h.sum(ctx, dir, name)
}

func (h *Hasher) sum(ctx context.Context, dir *os.File, name string) (Sum, error) {
	h.digest.Reset()
	overlap := h.opts.Read == ReadDisk && !h.lane
	h.both = h.pair != nil && !overlap
	defer func() { h.both = false }()
	size, err := h.write(ctx, h.digest, overlap, dir, name)
	if err != nil {
		return Sum{}, err
	}
	sum := Sum{Size: size}
	h.digest.Sum(sum.Hash[:0])
	return sum, nil
}

// write sends the NAR of name to w and returns its size.
func (h *Hasher) write(ctx context.Context, w io.Writer, overlap bool, dir *os.File, name string) (size int64, err error) {
	h.out.start(w, overlap)
	// Deferred so that a callback that panics leaves no goroutine behind.
	defer func() {
		ferr := h.out.finish()
		if err == nil {
			size, err = h.out.size, ferr
		}
	}()
	defer runtime.KeepAlive(dir)
	return 0, h.walk(ctx, int(dir.Fd()), name)
}

// HashPath hashes the tree at path. If the last component is a symbolic link, even
// with trailing slashes, the link itself is hashed; the components before it are
// resolved as usual.
func HashPath(ctx context.Context, path string, opts Options) (Sum, error) {
	dir, name, err := openParent(path)
	if err != nil {
		return Sum{}, err
	}
	defer dir.Close()
	return NewHasher(opts).sum(ctx, dir, name)
}

// Dump writes the NAR of the tree at path to w, like nix-store --dump, in pieces of
// up to 128 KiB. The path is handled as in [HashPath]. After an error, possibly of w,
// the output is not a NAR.
func Dump(ctx context.Context, w io.Writer, path string, opts Options) error {
	dir, name, err := openParent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	// No overlap: a caller may rely on w being used in its own goroutine.
	_, err = NewHasher(opts).write(ctx, w, false, dir, name)
	return err
}

// openParent opens the directory that contains path and returns the name of path in
// it, "." if the path has no name of its own ("/", "x/..").
func openParent(path string) (dir *os.File, name string, err error) {
	parent, name := ".", strings.TrimRight(path, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent, name = name[:i+1], name[i+1:]
	}
	switch {
	case path == "":
		return nil, "", &PathError{Path: path, Op: "open", Err: syscall.ENOENT}
	case name == "" || name == "." || name == "..":
		parent, name = path, "."
	}
	// O_PATH requires no permission to list the parent.
	dir, err = os.OpenFile(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, "", &PathError{Path: name, Op: "open", Err: err}
	}
	return dir, name, nil
}
