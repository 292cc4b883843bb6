package nar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// residents returns the numbers of the pages of a file that are cached.
func residents(t *testing.T, path string) []int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	var out []int64
	told := NewHasher(Options{}).eachResidence(int(f.Fd()), info.Size(), func(first int64, pages []byte) bool {
		for i, p := range pages {
			if p&1 != 0 {
				out = append(out, first+int64(i))
			}
		}
		return true
	})
	if !told {
		t.Skip("the kernel does not tell what it caches")
	}
	return out
}

// heat reads length bytes at off into the cache and nothing around them.
func heat(t *testing.T, path string, off, length int64) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
	_, err = f.ReadAt(make([]byte, length), off)
	must(t, err)
}

// mountOverlay mounts an overlay over lower.
func mountOverlay(t *testing.T, lower string) (mount string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	mount = t.TempDir()
	if out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+lower+":"+t.TempDir(), mount).CombinedOutput(); err != nil {
		t.Skipf("mount: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", mount).Run() })
	return mount
}

// Pages that only the walk loaded leave the cache, and others stay, with both methods.
func TestDropBehind(t *testing.T) {
	const page = 4096
	if os.Getpagesize() != page {
		t.Skip("pages of another size")
	}
	for _, size := range []int{1, page, 5*page + 7, 300_000, 3*dropEvery + 12_345} {
		root := place(t, file{data: pattern(size)})
		want := sumOf(archive(file{data: pattern(size)}))
		for name, hot := range map[string][][2]int64{ // offset, length
			"cold": nil,
			"hot":  {{0, int64(size)}},
			"partly hot": {
				{0, min(page, int64(size))},
				{int64(size) / 2 / page * page, 1}, {int64(size-1) / page * page, 1},
			},
		} {
			for _, counts := range []ownPages{countsUnknown, countsOwn, countsElsewhere} {
				evict(t, root)
				for _, h := range hot {
					heat(t, root, h[0], h[1])
				}
				before := residents(t, root)
				h := NewHasher(Options{DropBehind: true})
				var st unix.Stat_t
				must(t, unix.Stat(root, &st))
				h.counts = deviceCounts{st.Dev, counts}
				parent, err := os.Open(filepath.Dir(root))
				must(t, err)
				got, err := h.Sum(t.Context(), parent, filepath.Base(root))
				parent.Close()
				if err != nil || got != want {
					t.Fatalf("%d bytes, %s: Sum = %v, %v; want %v", size, name, got, err, want)
				}
				if after := residents(t, root); !slices.Equal(before, after) {
					t.Errorf("%d bytes, %s, counts %v: %d pages before, %d after: %v",
						size, name, counts, len(before), len(after), head(after))
				}
			}
		}
	}
}

// The pages of many files are dropped together, at the end of the walk at the latest.
func TestDropBehindManyFiles(t *testing.T) {
	files := dir{}
	for i := range 2*maxUndropped + 3 {
		files[fmt.Sprintf("f%03d", i)] = file{data: pattern(100 + 1000*i)}
	}
	root := place(t, files)
	hot := filepath.Join(root, "f001")
	for name := range files {
		evict(t, filepath.Join(root, name))
	}
	heat(t, hot, 0, 1100)
	open := openFiles(t)
	if got, _ := sumWith(t, root, Options{DropBehind: true}); got != sumOf(archive(files)) {
		t.Fatalf("Sum = %v", got)
	}
	for name := range files {
		path := filepath.Join(root, name)
		if n := len(residents(t, path)); (n > 0) != (path == hot) {
			t.Errorf("%s: %d pages are cached", name, n)
		}
	}
	if now := openFiles(t); now != open {
		t.Errorf("%d files are open after the walk, %d before", now, open)
	}
}

// A walk has no more files open than it says, also deep in a tree of uncached files.
func TestMaxOpen(t *testing.T) {
	files := dir{}
	for i := range 2 * maxUndropped {
		files[fmt.Sprintf("f%03d", i)] = file{data: pattern(100)}
	}
	deep := ""
	tr := files
	for range maxOpenDirs + 2 {
		deep, tr = deep+"/d", dir{"d": tr}
	}
	root := place(t, tr)
	for name := range files {
		evict(t, root+deep+"/"+name)
	}
	restore := limitFiles(t, 1+MaxOpen) // the parent of the root is open as well
	got, err := hashPath(t, root, Options{DropBehind: true})
	restore()
	if want := sumOf(archive(tr)); err != nil || got != want {
		t.Errorf("HashPath = %v, %v; want %v", got, err, want)
	}
}

func head(n []int64) []int64 { return n[:min(len(n), 20)] }

// Without DropBehind a walk fills the cache: the tests above can fail.
func TestNoDropBehind(t *testing.T) {
	root := place(t, file{data: pattern(100_000)})
	evict(t, root)
	sumWith(t, root, Options{})
	if len(residents(t, root)) == 0 {
		t.Error("nothing is cached after a walk")
	}
}

// An overlay has no pages of its own: the walk drops those of the file beneath it.
func TestDropBehindThroughAnOverlay(t *testing.T) {
	lower := t.TempDir()
	names := []string{"a", "b", "c"}
	for i, name := range names {
		file{data: pattern(1<<20 + i)}.create(t, lower+"/"+name)
		evict(t, lower+"/"+name)
	}
	heat(t, lower+"/b", 8192, 65536)
	before := residents(t, lower+"/b")
	sumWith(t, mountOverlay(t, lower), Options{DropBehind: true})
	for _, name := range []string{"a", "c"} {
		if n := residents(t, lower+"/"+name); len(n) != 0 {
			t.Errorf("%s: %d pages are cached, none were", name, len(n))
		}
	}
	if after := residents(t, lower+"/b"); !slices.Equal(before, after) {
		t.Errorf("b: cached before %v, after %v", before, head(after))
	}
}

// The first uncached file shows whether cachestat counts the pages of its device: through
// an overlay it counts none.
func TestLearnsWhichDevicesCount(t *testing.T) {
	lower := t.TempDir()
	file{data: pattern(100_000)}.create(t, lower+"/a")
	for dir, want := range map[string]ownPages{lower: countsOwn, mountOverlay(t, lower): countsElsewhere} {
		evict(t, lower+"/a")
		parent, err := os.Open(dir)
		must(t, err)
		h := NewHasher(Options{DropBehind: true})
		_, err = h.Sum(t.Context(), parent, "a")
		parent.Close()
		must(t, err)
		if h.counts.counts != want {
			t.Errorf("%s: found out %d, want %d", dir, h.counts.counts, want)
		}
	}
}

// What is known of a file of many parts is bounded, and the rest is left alone.
func TestColdRunsAreBounded(t *testing.T) {
	var c coldRuns
	for i := range int64(2 * maxColdRuns) {
		if ok := c.add(2*i, 1); ok != (i < maxColdRuns) {
			t.Fatalf("run %d is taken: %v", i, ok)
		}
	}
	if c.add(2*maxColdRuns-1, 1); len(c.runs) != maxColdRuns || c.runs[maxColdRuns-1] != (run{2*maxColdRuns - 2, 2 * maxColdRuns}) {
		t.Errorf("what goes on where the last run ends is not taken: %d, %v", len(c.runs), c.runs[maxColdRuns-1])
	}
}

// Pace is asked before all that is read, and ends the walk.
func TestPace(t *testing.T) {
	root := place(t, dir{"a": file{data: pattern(400_000)}, "b": file{data: "b"}, "empty": file{}})
	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		var calls, bytes int
		_, _ = sumWith(t, root, Options{Read: mode, Pace: func(_ context.Context, n int) error {
			calls++
			bytes += n
			return nil
		}})
		if bytes < 400_001 || calls < 2 {
			t.Errorf("%s: asked %d times for %d bytes in all, 400001 were read", mode, calls, bytes)
		}
		stop := errors.New("stop")
		calls = 0
		_, err := HashPath(t.Context(), root, Options{Read: mode, Pace: func(context.Context, int) error {
			if calls++; calls == 2 {
				return stop
			}
			return nil
		}})
		if !errors.Is(err, stop) || calls != 2 {
			t.Errorf("%s: error %v after %d calls; want that of the second", mode, err, calls)
		}
	}
}

// To ask what is cached of a large sparse file ends with the walk.
func TestResidenceCancelled(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	must(t, err)
	defer f.Close()
	size := 4 * surveyPages * int64(os.Getpagesize())
	must(t, f.Truncate(size))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := NewHasher(Options{})
	h.ctx, h.done = ctx, ctx.Done()
	calls := 0
	if told := h.eachResidence(int(f.Fd()), size, func(int64, []byte) bool { calls++; cancel(); return true }); told || calls != 1 {
		t.Errorf("eachResidence = %t after %d calls; want false after 1", told, calls)
	}
	if dropped, _ := h.drop(int(f.Fd()), size); dropped {
		t.Error("drop says that nothing is cached")
	}
}
