package image_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/image/imagetest"
)

// heap reads a file and counts what the program holds in memory meanwhile.
type heap struct {
	io.ReaderAt
	reads      int
	base, most uint64 // bytes
}

func newHeap(r io.ReaderAt) *heap {
	h := &heap{ReaderAt: r}
	h.base = h.held()
	return h
}

func (h *heap) held() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (h *heap) ReadAt(p []byte, off int64) (int, error) {
	if h.reads++; h.reads%32 == 0 {
		h.most = max(h.most, h.held())
	}
	return h.ReaderAt.ReadAt(p, off)
}

// visit counts as well: an image that is one file is read by few calls.
func (h *heap) visit(image.Member) (io.WriteCloser, error) {
	_, err := h.ReadAt(nil, 0)
	return nil, err
}

// walk returns what was held at most, in bytes.
func (h *heap) walk(t *testing.T, size int64, name string, limits image.Limits) (int64, error) {
	t.Helper()
	_, err := image.Walk(t.Context(), h, size, name, image.Options{Limits: limits, TempDir: t.TempDir()}, h.visit)
	return int64(max(h.most, h.base) - h.base), err
}

// fixed is what any walk may hold beside names: buffers, and squashfs's caches of 8
// MiB of metadata and 16 blocks.
const fixed = 12 << 20

// TestMemory: what a walk holds is bounded in bytes, whatever an image says is in it:
// a squashfs of 1.2 MB once took 1.18 GB.
func TestMemory(t *testing.T) {
	imagetest.Need(t, "mksquashfs", "xorriso", "cpio", "tar")
	dir := t.TempDir()
	const names = 2000
	imagetest.Shell(t, dir, `mkdir -p "deep/$(for i in {1..14}; do printf '%0255d/' $i; done)"; echo contents >first`)
	many(t, filepath.Join(dir, "broad"), names, 255, func(name string) error { return os.Mkdir(name, 0o755) })
	// xorriso makes no valid image of longer names.
	many(t, filepath.Join(dir, "files"), names, 100, func(name string) error { return os.WriteFile(name, nil, 0o600) })
	many(t, filepath.Join(dir, "links"), names, 255, func(name string) error { return os.Link(filepath.Join(dir, "first"), name) })
	many(t, filepath.Join(dir, "deep/links"), 300, 255, func(name string) error { return os.Symlink(strings.Repeat("t", 4000), name) })
	for _, c := range []struct {
		name, make string
		refused    bool // it has more names than may be held
	}{
		{"broad.squashfs", "mksquashfs broad $out -comp zstd -b 4096 -quiet -no-progress -processors 1", true},
		{"links.squashfs", "mksquashfs links $out -comp gzip -b 4096 -quiet -no-progress -processors 1", true},
		{"deep.squashfs", "mksquashfs deep $out -comp xz -b 4096 -quiet -no-progress -processors 1", false},
		{"files.iso", "xorriso -as mkisofs -quiet -iso-level 3 -full-iso9660-filenames -r -o $out files", true},
		{"links.cpio", "(cd links && find . -type f | cpio -o -H newc --quiet >$out)", true},
		{"broad.cpio", "(cd broad && find . | cpio -o -H newc --quiet >$out)", false},
		{"broad.tar", "tar -cf $out broad", false},
		{"deep.tar", "tar -cf $out deep", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, c.name)
			imagetest.Shell(t, dir, fmt.Sprintf("out='%s'; %s 2>&1", file, c.make))
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			limits := image.DefaultLimits()
			limits.Held = 256 << 10
			held, err := newHeap(f).walk(t, info.Size(), c.name, limits)
			if c.refused != errors.Is(err, image.ErrTooLarge) || !c.refused && err != nil {
				t.Errorf("%v, want ErrTooLarge: %v", err, c.refused)
			}
			if held > limits.Held+fixed {
				t.Errorf("an image of %d bytes took %d bytes of memory", info.Size(), held)
			}
			// What the charges are to be: never less than what is taken.
			if held, err = newHeap(f).walk(t, info.Size(), c.name, image.Limits{}); err != nil || held > names*700+fixed {
				t.Errorf("by the default limits: %v, %d bytes of memory", err, held)
			}
		})
	}
}

// many makes something of names of so many bytes in dir.
func many(t *testing.T, dir string, count, length int, make func(name string) error) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := make(fmt.Sprintf("%s/%0*d", dir, length, i)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWindows: what decompressing holds is bounded, and over all that is within each
// other: xz and zstd let a stream name what it takes.
func TestWindows(t *testing.T) {
	imagetest.Need(t, "cpio", "zstd", "xz", "mksquashfs")
	dir := t.TempDir()
	imagetest.Shell(t, dir, `
mkdir tree; seq 1 100 >tree/file; cd tree; find . | cpio -o -H newc --quiet >../initrd; cd ..
xz -9 <initrd >initrd.xz; zstd -q --long=27 <initrd >initrd.zst; zstd -q --long=26 <initrd | zstd -q --long=27 >both.zst
zstd -q --long=27 <initrd.zst >large.zst; xz -9 <initrd.zst >xz.zst`)
	ask := func(data []byte, size byte) []byte { return dictionary(t, data, size) }
	plain := read(t, filepath.Join(dir, "initrd.xz"))
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"xz -9", plain, nil},
		{"a dictionary of 128 MiB", ask(plain, 30), nil},
		{"a dictionary of 192 MiB", ask(plain, 31), image.ErrTooLarge},
		{"a dictionary of 4 GiB", ask(plain, 40), image.ErrTooLarge},
		{"zstd --long=27", read(t, filepath.Join(dir, "initrd.zst")), nil},
		{"zstd of 64 MiB in zstd of 128", read(t, filepath.Join(dir, "both.zst")), nil},
		{"zstd of 128 MiB in zstd of 128", read(t, filepath.Join(dir, "large.zst")), image.ErrTooLarge},
		{"zstd of 128 MiB in xz", read(t, filepath.Join(dir, "xz.zst")), image.ErrTooLarge},
		{"two streams, the second with a dictionary of 4 GiB", append(bytes.Clone(plain), ask(plain, 40)...), image.ErrTooLarge},
	} {
		h := newHeap(bytes.NewReader(c.data))
		held, err := h.walk(t, int64(len(c.data)), "x.zst.zst", image.Limits{})
		if !errors.Is(err, c.want) || held > 192<<20+fixed {
			t.Errorf("%s: %v after %d bytes of memory; want %v", c.name, err, held, c.want)
		}
	}
}

// dictionary has the first block of a stream of xz ask for a dictionary, of
// 2<<(n/2+11) or 3<<(n/2+11) bytes.
func dictionary(t *testing.T, data []byte, n byte) []byte {
	t.Helper()
	data = bytes.Clone(data)
	header := data[12 : 12+4*(int(data[12])+1)]
	at := bytes.IndexByte(header[2:], 0x21)
	if at < 0 {
		t.Fatal("a stream of xz without LZMA2")
	}
	header[2+at+2] = n
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
	return data
}
