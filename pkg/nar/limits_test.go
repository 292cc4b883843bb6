package nar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// makeDeep makes directories inside one another, all with the same name, and a
// file in the last. It returns the path of the first and the Sum of its NAR.
func makeDeep(t *testing.T, name string, depth int) (string, Sum) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.Mkdir(path, 0o755))
	fd, err := unix.Open(path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	var tr tree = file{data: "deep"}
	tr = dir{"f": tr}
	for range depth - 1 {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
		tr = dir{name: tr}
	}
	f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	must(t, err)
	_, err = unix.Write(f, []byte("deep"))
	must(t, err)
	unix.Close(f)
	unix.Close(fd)
	return path, sumOf(archive(tr))
}

// limitFiles lets the process open n more files, until restore is called.
func limitFiles(t *testing.T, n int) (restore func()) {
	t.Helper()
	var free []int // the numbers that the next files will get
	for range n {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		free = append(free, fd)
	}
	for _, fd := range free {
		unix.Close(fd)
	}
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	low := before
	low.Cur = uint64(slices.Max(free) + 1)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	return func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }
}

func TestDeepTrees(t *testing.T) {
	tests := []struct {
		name  string
		depth int
	}{
		{"d", maxOpenDirs - 1}, {"d", maxOpenDirs}, {"d", maxOpenDirs + 1}, {"d", maxOpenDirs + 2},
		{"d", 4000},                       // a path of 8,000 bytes
		{strings.Repeat("long", 63), 100}, // a path of 25,000 bytes
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d of %d bytes", tt.depth, len(tt.name)), func(t *testing.T) {
			path, want := makeDeep(t, tt.name, tt.depth)
			checkNoLeak(t)

			// The parent of the root, the directories, one more on the way up or
			// down, a file.
			restore := limitFiles(t, 1+maxOpenDirs+1+1)
			var last string
			got, err := hashPath(t, path, Options{OnEntry: func(e Entry) error {
				last = e.Path
				return nil
			}})
			restore()

			if err != nil || got != want {
				t.Errorf("HashPath = %v, %v; want %v", got, err, want)
			}
			if wantLast := strings.Repeat(tt.name+"/", tt.depth-1) + "f"; last != wantLast {
				t.Errorf("last entry is %d bytes long; want %d", len(last), len(wantLast))
			}
		})
	}
}

func TestSumOutOfDescriptors(t *testing.T) {
	path, _ := makeDeep(t, "d", 8)
	checkNoLeak(t)
	restore := limitFiles(t, 4)
	_, err := hashPath(t, path, Options{})
	restore()
	if !errors.Is(err, syscall.EMFILE) || errors.Is(err, ErrChanged) {
		t.Errorf("HashPath = %v; want EMFILE", err)
	}
}

func TestSumCancelled(t *testing.T) {
	checkNoLeak(t)
	path := place(t, dir{"a": file{data: pattern(10)}, "d": dir{"f": file{}}, "l": link("x")})
	parent, err := os.Open(filepath.Dir(path))
	must(t, err)
	defer parent.Close()

	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h := NewHasher(Options{Read: mode})
		if sum, err := h.Sum(ctx, parent, "root"); !errors.Is(err, context.Canceled) || sum != (Sum{}) {
			t.Errorf("Sum = %v, %v; want context.Canceled", sum, err)
		}
		if _, err := h.Sum(t.Context(), parent, "root"); err != nil {
			t.Errorf("Sum after a cancelled one: %v", err)
		}
	}

	for _, at := range []string{"", "a", "d", "d/f"} { // at the root's end there is no more to cancel
		ctx, cancel := context.WithCancel(t.Context())
		_, err := HashPath(ctx, path, Options{OnEntry: func(e Entry) error {
			if e.Path == at {
				cancel()
			}
			return nil
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %q: HashPath = %v; want context.Canceled", at, err)
		}
		cancel()
	}

	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := HashPath(ctx, path, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("HashPath = %v; want context.DeadlineExceeded", err)
	}
}

// A file of 1 TiB without blocks takes a quarter of an hour to hash: the test
// ends in time only if reading is given up.
func TestSumCancelledInTheMiddleOfAFile(t *testing.T) {
	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		t.Run(mode.String(), func(t *testing.T) {
			checkNoLeak(t)
			path := place(t, file{})
			if err := os.Truncate(path, 1<<40); err != nil {
				t.Skip("no file of 1 TiB here: ", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var p Progress
			go func() {
				for p.Snapshot().Bytes < 8*bufferSize && ctx.Err() == nil {
				}
				cancel()
			}()
			if _, err := HashPath(ctx, path, Options{Read: mode, Progress: &p}); !errors.Is(err, context.Canceled) {
				t.Errorf("HashPath = %v; want context.Canceled", err)
			}
			if got := p.Snapshot(); got.Files != 0 || got.Bytes < 8*bufferSize {
				t.Errorf("Snapshot = %+v", got)
			}
		})
	}
}

// A callback that panics must not leave a goroutine or a descriptor behind.
func TestCallbackPanics(t *testing.T) {
	checkNoLeak(t)
	path := place(t, dir{"a": file{data: pattern(3 * bufferSize)}, "b": file{}})
	parent, err := os.Open(filepath.Dir(path))
	must(t, err)
	defer parent.Close()
	fail := true
	h := NewHasher(Options{Read: ReadDisk, OnEntry: func(e Entry) error {
		if fail && e.Path == "b" {
			panic("callback")
		}
		return nil
	}})
	func() {
		defer func() {
			if recover() != "callback" {
				t.Error("the panic did not come through")
			}
		}()
		h.Sum(t.Context(), parent, "root")
	}()
	fail = false
	want := sumOf(archive(dir{"a": file{data: pattern(3 * bufferSize)}, "b": file{}}))
	if got, err := h.Sum(t.Context(), parent, "root"); err != nil || got != want {
		t.Errorf("Sum after a panic = %v, %v; want %v", got, err, want)
	}
}

// One allocation for each file, the name that the kernel is given, and a few
// for each directory.
func TestSumAllocations(t *testing.T) {
	const files = 1000
	tr := dir{}
	for i := range files {
		tr[fmt.Sprint(i)] = file{data: "data", mode: 0o444}
	}
	path := place(t, tr)
	parent, err := os.Open(filepath.Dir(path))
	must(t, err)
	defer parent.Close()
	h := NewHasher(Options{OnMode: func(string, uint32) {}, Progress: new(Progress)})
	allocs := testing.AllocsPerRun(5, func() {
		if _, err := h.Sum(t.Context(), parent, "root"); err != nil {
			t.Error(err)
		}
	})
	if allocs > files+20 {
		t.Errorf("%.0f allocations for %d files", allocs, files)
	}
}

// A limit holds for trees that would take long to read, or much memory to
// list, and never for one that is no larger.
func TestMaxSize(t *testing.T) {
	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		path := place(t, dir{"a": file{data: pattern(3*bufferSize + 1)}, "b": dir{"c": link("a")}})
		whole, err := hashPath(t, path, Options{Read: mode})
		must(t, err)
		if got, err := hashPath(t, path, Options{Read: mode, MaxSize: whole.Size}); err != nil || got != whole {
			t.Errorf("%v: at the limit: got %v, %v; want %v", mode, got, err, whole)
		}
		var read Progress
		must(t, os.Truncate(path+"/a", 1<<40))
		_, err = hashPath(t, path, Options{Read: mode, MaxSize: whole.Size, Progress: &read})
		if !errors.Is(err, ErrTooLarge) || read.Snapshot().Bytes != 0 {
			t.Errorf("%v: a sparse file: got %v after %d bytes; want ErrTooLarge before it is read", mode, err, read.Snapshot().Bytes)
		}
		// The sum of the sizes would overflow.
		if err := os.Truncate(path+"/a", 1<<63-1); err == nil {
			if _, err := hashPath(t, path, Options{Read: mode, MaxSize: whole.Size}); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%v: the largest sparse file: got %v, want ErrTooLarge", mode, err)
			}
		}
	}
	many := dir{}
	for i := range 10_000 {
		many[fmt.Sprint(i)] = file{}
	}
	files := 0
	_, err := hashPath(t, place(t, many), Options{MaxSize: 10_000, OnEntry: func(e Entry) error {
		if e.Type != Directory {
			files++
		}
		return nil
	}})
	if !errors.Is(err, ErrTooLarge) || files != 0 {
		t.Errorf("a large directory: got %v after %d files; want ErrTooLarge before the first", err, files)
	}
}
