package nixstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// TestNothingLeftBehind opens a database in each state that a Nix can leave it
// in, and finds all committed rows without a trace of having looked.
func TestNothingLeftBehind(t *testing.T) {
	for _, tc := range []struct {
		name, journal string
		// leave brings the database into its state; rows 1 and 2 are committed.
		leave func(t *testing.T, w *writer, name string)
		want  []string // the files beside db.sqlite and schema
	}{
		{"closed", "wal", func(t *testing.T, w *writer, name string) {
			w.exec(register(1, object(1, "x")), register(2, object(2, "x")))
			w.close()
		}, nil},
		{"writer killed with rows in the log", "wal", func(t *testing.T, w *writer, name string) {
			w.exec("pragma wal_autocheckpoint = 0", register(1, object(1, "x")), register(2, object(2, "x")))
			w.kill()
		}, []string{"db.sqlite-shm", "db.sqlite-wal"}},
		{"writer killed, index lost", "wal", func(t *testing.T, w *writer, name string) {
			w.exec("pragma wal_autocheckpoint = 0", register(1, object(1, "x")), register(2, object(2, "x")))
			w.kill()
			remove(t, name+"-shm")
		}, []string{"db.sqlite-wal"}},
		{"writer killed amid a transaction", "wal", func(t *testing.T, w *writer, name string) {
			w.exec("pragma wal_autocheckpoint = 0", "pragma cache_size = 1", register(1, object(1, "x")), register(2, object(2, "x")), "begin")
			for i := 3; i < 400; i++ {
				w.exec(register(i, object(i, strings.Repeat("x", 200))))
			}
			w.kill()
		}, []string{"db.sqlite-shm", "db.sqlite-wal"}},
		{"empty log kept", "wal", func(t *testing.T, w *writer, name string) {
			w.exec(register(1, object(1, "x")), register(2, object(2, "x")))
			w.close()
			write(t, name+"-wal", "")
		}, []string{"db.sqlite-wal"}},
		{"no log, closed", "truncate", func(t *testing.T, w *writer, name string) {
			w.exec("pragma journal_mode = truncate", register(1, object(1, "x")), register(2, object(2, "x")))
			w.close()
		}, []string{"db.sqlite-journal"}},
		{"no log, writer killed amid a transaction", "truncate", func(t *testing.T, w *writer, name string) {
			w.exec("pragma journal_mode = truncate", "pragma cache_size = 1", register(1, object(1, "x")), register(2, object(2, "x")), "begin")
			for i := 3; i < 400; i++ {
				w.exec(register(i, object(i, strings.Repeat("x", 200))))
			}
			w.kill()
		}, []string{"db.sqlite-journal"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, name := testRoot(t, tc.journal)
			tc.leave(t, startWriter(t, name), name)
			if got := beside(t, name); !slices.Equal(got, tc.want) {
				t.Fatalf("the state to be tested was not reached: %v, want %v", got, tc.want)
			}
			before := listing(t, name)
			d := mustOpen(t, root)
			got := registeredPaths(t, d)
			if want := []closure.StorePath{object(1, "x"), object(2, "x")}; !slices.Equal(got, want) {
				t.Errorf("registered: %v, want %v", got, want)
			}
			if during := listing(t, name); during != before {
				t.Errorf("while it is open the directory is\n%swas\n%s", during, before)
			}
			d.Close()
			if after := listing(t, name); after != before {
				t.Errorf("the directory is\n%swas\n%s", after, before)
			}
			// Nix finds its database in order.
			w := startWriter(t, name)
			w.exec(register(3, object(3, "x")))
			w.close()
		})
	}
}

// TestLiveWriter has another process write all the time: it never fails, and
// what is read is always a state between two of its transactions.
func TestLiveWriter(t *testing.T) {
	for _, journal := range []string{"wal", "truncate"} {
		t.Run(journal, func(t *testing.T) {
			root, name := testRoot(t, journal)
			w := startWriter(t, name)
			w.exec("pragma journal_mode = "+journal, "pragma busy_timeout = 0", "pragma synchronous = off", "pragma wal_autocheckpoint = 8",
				"pragma journal_size_limit = 4096")
			var rounds, opened atomic.Int64
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				// Each transaction adds a pair that refers to each other, and takes
				// one away, so that pages move.
				rest, since := time.Duration(0), int64(-1)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					a, b := 2*n+1, 2*n+2
					w.exec("begin", register(a, object(a, strings.Repeat("a", 150))), register(b, object(b, "b")), refer(a, b), refer(b, a))
					if old := n - 50; old >= 0 {
						w.exec(fmt.Sprintf("delete from Refs where referrer in (%d, %d)", 2*old+1, 2*old+2), fmt.Sprintf("delete from ValidPaths where id in (%d, %d)", 2*old+1, 2*old+2))
					}
					w.exec("commit")
					rounds.Add(1)
					if journal == "truncate" {
						// Without a log a copy takes a moment of rest, a longer one each
						// time on a machine under load.
						rest += settleTime
						if now := opened.Load(); now != since {
							rest, since = 3*settleTime, now
						}
						time.Sleep(rest)
					}
				}
			}()
			for opened.Load() < 10 || rounds.Load() < 10 {
				d := mustOpen(t, root)
				paths := registeredPaths(t, d)
				if len(paths)%2 != 0 {
					t.Fatalf("%d paths: half a transaction", len(paths))
				}
				for _, p := range paths {
					c, malformed, err := d.Closure(t.Context(), p)
					if err != nil || len(malformed) > 0 || len(c) != 2 {
						t.Fatalf("closure of %s: %v %v %v", p, c, malformed, err)
					}
				}
				d.Close()
				opened.Add(1)
			}
			close(stop)
			<-stopped
			t.Logf("opened %d times during %d transactions", opened.Load(), rounds.Load())
			w.close()
		})
	}
}

// atStep is a context that does something when it is asked for the second
// time: before the second file is copied.
type atStep struct {
	context.Context
	asked atomic.Int64
	do    func()
}

func (c *atStep) Err() error {
	if c.asked.Add(1) == 2 {
		c.do()
	}
	return c.Context.Err()
}

// TestLogIsCopiedLast: between copying the database and its log a transaction
// is committed and copied back. The pages that it has in common with the log
// must not be mixed with the others.
func TestLogIsCopiedLast(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := startWriter(t, name)
	w.exec("pragma wal_autocheckpoint = 0", register(1, object(1, "x")), register(2, object(2, "x")))
	ctx := &atStep{Context: t.Context(), do: func() {
		w.exec("begin", register(3, object(3, "x")), refer(2, 1), "commit", "pragma wal_checkpoint(passive)")
	}}
	d, err := OpenDatabase(ctx, root, closure.DefaultStoreDir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	info, err := d.PathInfo(t.Context(), object(2, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(registeredPaths(t, d)); n != 3 || !slices.Equal(info.References, []closure.StorePath{object(1, "x")}) {
		t.Errorf("%d paths, references %v: half a transaction", n, info.References)
	}
}

// restless is a context that changes a file each time that it is asked, which is
// in the middle of each copy.
type restless struct {
	context.Context
	change func()
}

func (c restless) Err() error {
	c.change()
	return c.Context.Err()
}

// TestNoMomentOfRest: while a database changes without a log all the time, it
// is not opened, and the end of the context ends the attempt.
func TestNoMomentOfRest(t *testing.T) {
	root, name := testRoot(t, "truncate")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	change := func() {
		now := time.Now()
		os.Chtimes(name, now, now)
	}
	change()
	d, err := OpenDatabase(restless{ctx, change}, root, closure.DefaultStoreDir)
	if err == nil {
		d.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("OpenDatabase: %v, want DeadlineExceeded", err)
	}
}

func TestConsistent(t *testing.T) {
	at := time.Unix(1000, 0)
	file := func(ino uint64, size, second int64) fileState {
		return fileState{dev: 1, ino: ino, size: size, mtime: unix.Timespec{Sec: second}, ctime: unix.Timespec{Sec: second}}
	}
	log := func(ino uint64, size int64, salt byte) fileState {
		f := file(ino, size, 999)
		f.header[16] = salt
		return f
	}
	db := file(1, 4096, 900)
	for _, tc := range []struct {
		name          string
		before, after databaseState
		want          bool
	}{
		{"untouched", databaseState{db: db}, databaseState{db: db}, true},
		{"rewritten", databaseState{db: db}, databaseState{db: file(1, 4096, 1000)}, false},
		{"replaced", databaseState{db: db}, databaseState{db: file(2, 4096, 900)}, false},
		{"too fresh to tell", databaseState{db: file(1, 4096, 1000)}, databaseState{db: file(1, 4096, 1000)}, false},
		{"from the future", databaseState{db: file(1, 4096, 2000)}, databaseState{db: file(1, 4096, 2000)}, true},
		{"log appears, database untouched", databaseState{db: db}, databaseState{db: db, wal: log(5, 8192, 1)}, true},
		{"log appears and is copied back", databaseState{db: db}, databaseState{db: file(1, 8192, 1000), wal: log(5, 8192, 1)}, false},
		{"log grows and is copied back", databaseState{db: db, wal: log(5, 4128, 1)}, databaseState{db: file(1, 8192, 1000), wal: log(5, 8192, 1)}, true},
		{"log is started anew", databaseState{db: db, wal: log(5, 4128, 1)}, databaseState{db: db, wal: log(5, 4128, 2)}, false},
		{"log is another file", databaseState{db: db, wal: log(5, 4128, 1)}, databaseState{db: db, wal: log(6, 4128, 1)}, false},
		{"log is deleted", databaseState{db: db, wal: log(5, 4128, 1)}, databaseState{db: file(1, 8192, 1000)}, false},
		{"log is being begun", databaseState{db: db, wal: log(5, 8, 1)}, databaseState{db: file(1, 8192, 1000), wal: log(5, 8192, 1)}, false},
		{"journal rests", databaseState{db: db, journal: file(7, 512, 900)}, databaseState{db: db, journal: file(7, 512, 900)}, true},
		{"journal grows", databaseState{db: db, journal: file(7, 512, 900)}, databaseState{db: db, journal: file(7, 1024, 1000)}, false},
		{"journal appears", databaseState{db: db}, databaseState{db: db, journal: file(7, 512, 1000)}, false},
		{"journal rests, database written", databaseState{db: db, journal: file(7, 512, 900)}, databaseState{db: file(1, 4096, 1000), journal: file(7, 512, 900)}, false},
		{"journal beside a log", databaseState{db: db, journal: file(7, 512, 900), wal: log(5, 4128, 1)}, databaseState{db: file(1, 4096, 1000), journal: file(7, 512, 900), wal: log(5, 4128, 1)}, false},
	} {
		tc.before.at = at
		if got := consistent(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: consistent = %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestReadOnlyMount is a mounted image, and a unit with ProtectSystem=strict.
func TestReadOnlyMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	root, name := testRoot(t, "wal")
	w := startWriter(t, name)
	w.exec("pragma wal_autocheckpoint = 0", register(1, object(1, "x")))
	w.kill()
	if mustOpen(t, root).Immutable() {
		t.Error("Immutable on a writable file system")
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "x"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("the mount is not read-only: %v", err)
	}
	d := mustOpen(t, root)
	if !d.Immutable() {
		t.Error("not Immutable on a read-only mount")
	}
	if got := registeredPaths(t, d); len(got) != 1 {
		t.Errorf("registered: %v, want the row in the log", got)
	}
}

// beside returns the files that a state of the database consists of.
func beside(t *testing.T, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "schema" && e.Name() != databaseName {
			names = append(names, e.Name())
		}
	}
	return names
}

// A database that is said to be large takes no more room than it has data, or
// whoever can write to it could fill the directory of the copy.
func TestCopyLeavesHoles(t *testing.T) {
	dir := t.TempDir()
	page := slices.Repeat([]byte{1, 2, 3, 4}, 1024)
	for _, c := range []struct {
		name string
		data []int64 // where a page lies
		size int64
	}{
		{"empty", nil, 0},
		{"a hole alone", nil, 3 << 20},
		{"no hole", []int64{0}, int64(len(page))},
		{"an odd end", []int64{0}, 1000},
		{"holes between and after", []int64{0, 20<<20 + 4096, copyChunkSize * 2}, 1 << 30},
		{"a hole first", []int64{5 << 20}, 5<<20 + int64(len(page))},
	} {
		name := filepath.Join(dir, "db")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range c.data {
			if _, err := f.WriteAt(page, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(c.size); err != nil {
			t.Fatal(err)
		}
		if err := copyFile(t.Context(), filepath.Join(dir, "copy"), f); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		f.Close()
		got, err := os.Open(filepath.Join(dir, "copy"))
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(got.Fd()), &st); err != nil || st.Size != c.size {
			t.Errorf("%s: a copy of %d bytes, %v; want %d", c.name, st.Size, err, c.size)
		}
		if room := st.Blocks * 512; room > 1<<20 {
			t.Errorf("%s: the copy takes %d bytes", c.name, room)
		}
		for _, at := range c.data {
			b := make([]byte, min(int64(len(page)), c.size-at))
			if _, err := got.ReadAt(b, at); err != nil || !slices.Equal(b, page[:len(b)]) {
				t.Errorf("%s: other data at %d, %v", c.name, at, err)
			}
		}
		got.Close()
	}
}
