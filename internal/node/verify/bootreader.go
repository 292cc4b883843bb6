package verify

import (
	"context"
	"path"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// bootReader reads the boot loader's files, and the store's files that they are compared
// with, as the contents tier reads: paced, from where the policy says, and without a
// trace in the page cache. A kernel and an initrd can have hundreds of megabytes, and
// many entries can name the same ones: each file is read once in a run.
type bootReader struct {
	hasher *nar.Hasher
	pace   func(context.Context, int) error
	leave  func()
	sums   map[bootPiece]bootSum
}

// bootPiece is the beginning of a file, of so many bytes.
type bootPiece struct {
	name string // as the machine has it
	size int64
}

type bootSum struct {
	hash nar.Hash
	// cached says that the page cache may have given it where the disk was asked for.
	cached bool
}

// boots returns the reader of this run, which lasts until endBoots.
func (r *run) boots() *bootReader {
	if r.bootReader == nil {
		pace, leave := r.Pacer.Join()
		r.bootReader = &bootReader{
			hasher: nar.NewHasher(nar.Options{Read: r.Read, DropBehind: r.DropBehind, Pace: pace, Progress: &r.progress.boot}),
			pace:   pace, leave: leave, sums: make(map[bootPiece]bootSum),
		}
	}
	return r.bootReader
}

func (r *run) endBoots() {
	if r.bootReader != nil {
		r.bootReader.leave()
		r.bootReader = nil
	}
}

// sum returns the hash of the first size bytes of the file that the machine has by this
// name. An error is not kept: who asks next may have more luck.
func (b *bootReader) sum(ctx context.Context, name string, size int64, open func() (*nixstore.Regular, error)) (bootSum, error) {
	piece := bootPiece{name, size}
	if s, has := b.sums[piece]; has {
		return s, nil
	}
	f, err := open()
	if err != nil {
		return bootSum{}, err
	}
	defer f.Close()
	before := b.hasher.Stats().Cached
	sum, err := b.hasher.SumContents(ctx, f.File, size)
	if err != nil {
		return bootSum{}, err
	}
	s := bootSum{sum.Hash, b.hasher.Stats().Cached > before}
	b.sums[piece] = s
	return s, nil
}

// storeFile is a file in a store path.
type storeFile struct {
	path closure.StorePath
	rel  string // "" for the path itself
}

func (f storeFile) String() string { return path.Join(string(f.path), f.rel) }

// bootPair is a file of the boot loader and the store's file that it is compared with.
type bootPair struct {
	dir  bootDir
	name string // below dir
	want storeFile
}

// same reports whether the first size bytes of both are equal, and whether the policy
// asked for the disk and the page cache answered.
func (r *run) same(ctx context.Context, p bootPair, size int64) (same, cached bool, err error) {
	onDisk, ok := p.dir.(machineDir)
	if !ok { // it is in a file, in pieces
		at, err := r.firstOther(ctx, p, size)
		return at < 0, r.Read == nar.ReadDisk, err
	}
	want, err := r.boots().sum(ctx, p.want.String(), size, func() (*nixstore.Regular, error) { return r.store.OpenFile(p.want.path, p.want.rel) })
	if err != nil {
		return false, false, err
	}
	got, err := r.boots().sum(ctx, path.Join(p.dir.Name(), p.name), size, func() (*nixstore.Regular, error) { return onDisk.Directory.Open(p.name) })
	if err != nil {
		return false, false, err
	}
	return want.hash == got.hash, r.Read == nar.ReadDisk && (want.cached || got.cached), nil
}

// firstOther returns the offset of the first of size bytes that differs; -1 if none
// differs any more.
func (r *run) firstOther(ctx context.Context, p bootPair, size int64) (int64, error) {
	want, err := r.store.OpenFile(p.want.path, p.want.rel)
	if err != nil {
		return 0, err
	}
	defer want.Close()
	got, err := p.dir.Open(p.name)
	if err != nil {
		return 0, err
	}
	defer got.Close()
	return firstDifference(ctx, r.boots().pace, want, got, size)
}
