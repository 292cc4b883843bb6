package nar

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cachedPages returns how many pages of a file are in the page cache.
func cachedPages(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var all unix.CachestatRange
	var pages unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &all, &pages, 0); err != nil {
		t.Skip("cachestat: ", err)
	}
	return pages.Cache
}

// evict empties the page cache of a file; the test is skipped on a file system
// that has no other place for it.
func evict(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, unix.Fdatasync(int(f.Fd())))
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	if n := cachedPages(t, path); n != 0 {
		t.Skipf("%d pages stay cached on this file system", n)
	}
}

// sumWith hashes root with a new Hasher and returns its Stats.
func sumWith(t *testing.T, root string, opts Options) (Sum, Stats) {
	t.Helper()
	parent, err := os.Open(filepath.Dir(root))
	must(t, err)
	defer parent.Close()
	h := NewHasher(opts)
	sum, err := h.Sum(t.Context(), parent, filepath.Base(root))
	must(t, err)
	return sum, h.Stats()
}

func TestStats(t *testing.T) {
	root := place(t, dir{
		"a": file{data: pattern(5000)}, "b": file{data: "b"}, "empty": file{}, "link": link("a"),
	})
	if _, got := sumWith(t, root, Options{}); got != (Stats{Cached: 2}) {
		t.Errorf("cached: Stats = %+v; want both files as Cached", got)
	}
	_, got := sumWith(t, root, Options{Read: ReadDisk})
	if n := got.Direct + got.Dropped + got.Cached; n != 2 {
		t.Errorf("disk: Stats = %+v; want 2 files in all", got)
	}
	if got, want := (Stats{1, 2, 3}).Add(Stats{10, 20, 30}), (Stats{11, 22, 33}); got != want {
		t.Errorf("Add = %+v; want %+v", got, want)
	}
}

// Direct reads neither need nor fill the page cache.
func TestReadDiskLeavesTheCacheAlone(t *testing.T) {
	root := place(t, file{data: pattern(1 << 20)})
	evict(t, root)
	if _, got := sumWith(t, root, Options{Read: ReadDisk}); got.Cached != 0 {
		t.Errorf("Stats = %+v; want nothing from the cache, which was empty", got)
	}
	if n := cachedPages(t, root); n != 0 {
		t.Errorf("%d pages are cached; want none, as before", n)
	}
	sumWith(t, root, Options{})
	if n := cachedPages(t, root); n == 0 {
		t.Error("ReadCached leaves no pages: the test does not show what it is for")
	}
	if _, got := sumWith(t, root, Options{Read: ReadDisk}); got.Direct == 1 && cachedPages(t, root) == 0 {
		t.Error("a direct read took the pages that others use out of the cache")
	}
}

// mountImage makes an ext4 file system in a file and mounts it.
func mountImage(t *testing.T, options string) (image, mount string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	image, mount = filepath.Join(t.TempDir(), "image"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o644))
	must(t, os.Truncate(image, 16<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-b", "4096", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,"+options, image, mount).CombinedOutput(); err != nil {
		t.Skipf("mount: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", mount).Run() })
	return image, mount
}

// flushJournal writes all of a file system to its final place. A sync may leave it in the
// journal; freezing does not.
func flushJournal(t *testing.T, mount string) {
	t.Helper()
	for _, flag := range []string{"--freeze", "--unfreeze"} {
		if out, err := exec.Command("fsfreeze", flag, mount).CombinedOutput(); err != nil {
			t.Fatalf("fsfreeze %s: %v %s", flag, err, out)
		}
	}
}

// The point of ReadDisk: bytes that changed on the disk, beneath the file
// system, while the cache still has the old ones.
func TestReadDiskSeesTheDisk(t *testing.T) {
	// With its data in the journal a file cannot be read directly.
	for options, want := range map[string]Stats{"data=ordered": {Direct: 1}, "data=journal": {Dropped: 1}} {
		t.Run(options, func(t *testing.T) {
			image, mount := mountImage(t, options)
			old := pattern(8192)
			path := mount + "/f"
			file{data: old}.create(t, path)
			flushJournal(t, mount)

			data, err := os.ReadFile(image)
			must(t, err)
			// The journal may still have a copy too.
			altered, copies := "altered"+old[len("altered"):], 0
			for at := bytes.Index(data, []byte(old)); at >= 0; at = bytes.Index(data, []byte(old)) {
				write(t, image, int64(at), "altered")
				copy(data[at:], "altered")
				copies++
			}
			if copies == 0 {
				t.Fatal("the file is not found in the image")
			}

			if got, _ := sumWith(t, path, Options{}); got != sumOf(archive(file{data: old})) {
				t.Error("ReadCached: not the hash of what was cached")
			}
			got, stats := sumWith(t, path, Options{Read: ReadDisk})
			if got != sumOf(archive(file{data: altered})) {
				t.Error("ReadDisk: not the hash of what is on the disk")
			}
			if stats != want {
				t.Errorf("Stats = %+v; want %+v", stats, want)
			}
		})
	}
}

func TestReadDiskDropsPages(t *testing.T) {
	_, mount := mountImage(t, "data=journal")
	path := mount + "/f"
	file{data: pattern(1<<20 + 1)}.create(t, path)
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	want := sumOf(archive(file{data: pattern(1<<20 + 1)}))

	// The first time the pages are there, dirty; then they stay for others.
	got, stats := sumWith(t, path, Options{Read: ReadDisk})
	if got != want || stats != (Stats{Dropped: 1}) {
		t.Errorf("Sum = %v, %+v; want %v, Dropped", got, stats, want)
	}
	if cachedPages(t, path) == 0 {
		t.Error("pages that had been cached are gone")
	}

	evict(t, path)
	got, stats = sumWith(t, path, Options{Read: ReadDisk})
	if got != want || stats != (Stats{Dropped: 1}) {
		t.Errorf("Sum = %v, %+v; want %v, Dropped", got, stats, want)
	}
	if n := cachedPages(t, path); n != 0 {
		t.Errorf("%d pages are cached, none were", n)
	}

	// Pages that a program has mapped cannot be dropped.
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	must(t, err)
	t.Cleanup(func() { unix.Munmap(m) })
	got, stats = sumWith(t, path, Options{Read: ReadDisk})
	if got != want || stats != (Stats{Cached: 1}) {
		t.Errorf("mapped: Sum = %v, %+v; want %v, Cached", got, stats, want)
	}
}

// An overlay has no pages of its own: asked for them, the kernel says none,
// while reads come from the cache of the file below.
func TestReadDiskThroughAnOverlay(t *testing.T) {
	_, lower := mountImage(t, "data=journal") // no direct reads
	file{data: pattern(1<<20 + 1)}.create(t, lower+"/f")
	path := mountOverlay(t, lower) + "/f"
	want := sumOf(archive(file{data: pattern(1<<20 + 1)}))

	evict(t, lower+"/f")
	got, stats := sumWith(t, path, Options{Read: ReadDisk})
	if got != want || stats != (Stats{Dropped: 1}) || cachedPages(t, lower+"/f") != 0 {
		t.Errorf("cold: Sum = %v, %+v, then %d pages cached; want %v, Dropped, none", got, stats, cachedPages(t, lower+"/f"), want)
	}
	f, err := os.Open(lower + "/f")
	must(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	must(t, err)
	defer unix.Munmap(m)
	got, stats = sumWith(t, path, Options{Read: ReadDisk})
	if got != want || stats != (Stats{Cached: 1}) {
		t.Errorf("pages that cannot be dropped: Sum = %v, %+v; want %v, Cached", got, stats, want)
	}
}

// A file system in memory has no disk to read.
func TestReadDiskInMemory(t *testing.T) {
	fd, err := unix.MemfdCreate("nar", unix.MFD_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("data"))
	must(t, err)
	if setDirect(fd) {
		t.Error("O_DIRECT on memory is taken for a disk")
	}
	h := NewHasher(Options{Read: ReadDisk})
	if dropped, wasCached := h.drop(fd, 4); dropped || !wasCached {
		t.Errorf("drop = %v, %v; want the pages to stay", dropped, wasCached)
	}
	h.out.start(h.digest, false)
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.contents(fd, 4); err != nil || h.Stats() != (Stats{Cached: 1}) {
		t.Errorf("contents = %v, %+v; want Cached", err, h.Stats())
	}
}

// A kernel that does not tell what it caches must not count as empty.
func TestDropUnknown(t *testing.T) {
	h := NewHasher(Options{})
	if dropped, wasCached := h.drop(-1, 4); dropped || !wasCached { // every call fails
		t.Errorf("drop = %v, %v; want false, true", dropped, wasCached)
	}
}

func TestDirectReadError(t *testing.T) {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer mem.Close()
	h := NewHasher(Options{Read: ReadDisk})
	h.out.start(h.digest, false)
	if err := h.direct(int(mem.Fd()), 10); !errors.Is(err, unix.EIO) {
		t.Errorf("direct = %v; want EIO", err)
	}
	if h.Stats() != (Stats{}) {
		t.Errorf("Stats = %+v; want none", h.Stats())
	}
}

func TestAlignment(t *testing.T) {
	for n, want := range map[uint32]bool{0: false, 1: true, 512: true, 4096: true, 8192: false, 3: false} {
		if aligned(n, 512) != want || aligned(512, n) != want {
			t.Errorf("aligned(%d, 512) = %v, the other way round %v; want %v", n, aligned(n, 512), aligned(512, n), want)
		}
	}
	for range 100 {
		b := alignedBuffer()
		if uintptr(unsafe.Pointer(&b[0]))%directAlign != 0 || len(b) != directSize || cap(b) != directSize {
			t.Fatalf("buffer at %p of %d bytes, capacity %d", &b[0], len(b), cap(b))
		}
	}
}

func TestReadMode(t *testing.T) {
	for mode, text := range map[ReadMode]string{ReadCached: "cached", ReadDisk: "disk"} {
		if mode.String() != text {
			t.Errorf("String = %q; want %q", mode.String(), text)
		}
		if got, err := ParseReadMode(text); err != nil || got != mode {
			t.Errorf("ParseReadMode(%q) = %v, %v", text, got, err)
		}
		b, err := mode.MarshalText()
		if err != nil || string(b) != text {
			t.Errorf("MarshalText = %q, %v; want %q", b, err, text)
		}
		back := ReadMode(99)
		if err := back.UnmarshalText(b); err != nil || back != mode {
			t.Errorf("UnmarshalText(%q) = %v, %v", b, back, err)
		}
	}
	for _, s := range []string{"", "Disk", "direct", "cached "} {
		mode := ReadDisk
		if err := mode.UnmarshalText([]byte(s)); err == nil || mode != ReadDisk {
			t.Errorf("UnmarshalText(%q) = %v, %v; want an error and no change", s, mode, err)
		}
	}
	if b, err := ReadMode(2).MarshalText(); err == nil {
		t.Errorf("MarshalText of no mode = %q", b)
	}
	if got := ReadMode(2).String() + " " + Type(0).String(); got != "ReadMode(2) Type(0)" {
		t.Errorf("String of no mode and no type = %q", got)
	}
}
