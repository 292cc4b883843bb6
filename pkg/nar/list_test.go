package nar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHeldNames: however few names are held at a time, a tree has one NAR.
func TestHeldNames(t *testing.T) {
	broad := dir{}
	for i := range 2000 {
		broad[fmt.Sprintf("%d-%s", i*7919%2000, strings.Repeat("n", i%200))] = file{}
	}
	tr := dir{"a": broad, "a-": file{data: "1"}, "empty": dir{}, "z": link("x")}
	for i := range 20 {
		// Deeper than the directories that are open, each with names to come back to.
		tr = dir{"0": file{}, "d": tr, "d0": dir{"f": file{}}, fmt.Sprint("e", i): broadOf(i), "x": file{}}
	}
	want := sumOf(archive(tr))
	// A tmpfs lists in another order: what was made last comes first.
	for _, where := range []string{os.TempDir(), "/dev/shm"} {
		if _, err := os.Stat(where); err != nil {
			continue
		}
		t.Run(where, func(t *testing.T) {
			t.Setenv("TMPDIR", where)
			root := place(t, tr)
			var names []string
			for _, held := range []int64{0, 1, 500, 20_000, 1 << 30} {
				checkNoLeak(t)
				var got []string
				sum, err := hashPath(t, root, Options{MaxHeld: held, OnEntry: func(e Entry) error {
					got = append(got, e.Path)
					return nil
				}})
				if err != nil || sum != want {
					t.Errorf("MaxHeld %d: HashPath = %v, %v; want %v", held, sum, err, want)
				}
				if names == nil {
					names = got
				}
				if strings.Join(got, "\n") != strings.Join(names, "\n") {
					t.Errorf("MaxHeld %d: other entries", held)
				}
			}
		})
	}
}

func broadOf(n int) dir {
	d := dir{}
	for i := range 10 * n {
		d[fmt.Sprintf("%03d", i)] = file{}
	}
	return d
}

// TestListedAgainAfterChange: a directory that changes between two listings of it
// is no tree that ever was.
func TestListedAgainAfterChange(t *testing.T) {
	root := place(t, dir{"d": broadOf(20)})
	opts := after("d/100", func() { file{}.create(t, root+"/d/new") })
	opts.MaxHeld = 1000
	wantChanged(t, root, opts, "root/d", "list")
}

// TestLongPaths: Nix makes no path of this length, and each name of such a tree
// would take as much memory as its path.
func TestLongPaths(t *testing.T) {
	for _, tt := range []struct {
		name  string
		depth int
		ok    bool
	}{
		{strings.Repeat("n", 255), 256, true}, // 65,282 bytes with the file's
		{strings.Repeat("n", 255), 258, false},
		{strings.Repeat("n", 255), 3000, false},
	} {
		path, want := makeDeep(t, tt.name, tt.depth)
		sum, err := hashPath(t, path, Options{OnEntry: func(e Entry) error {
			if len(e.Path) > maxPath {
				t.Errorf("a path of %d bytes", len(e.Path))
			}
			return nil
		}})
		if tt.ok && (err != nil || sum != want) || !tt.ok && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d directories: HashPath = %v, %v", tt.depth, sum, err)
		}
	}
}

// TestManyNames: a directory of more names than are listed is refused before anything
// in it is looked at, however many may be held.
func TestManyNames(t *testing.T) {
	// In memory, where so many files are made in a tenth of the time.
	if _, err := os.Stat("/dev/shm"); err == nil {
		t.Setenv("TMPDIR", "/dev/shm")
	}
	root := place(t, dir{})
	fits := maxNames / (minEntrySize + 256)
	add := func(i int64) { must(t, unix.Mknod(fmt.Sprintf("%s/%0255d", root, i), unix.S_IFREG|0o444, 0)) }
	for i := range fits {
		add(i)
	}
	listed := errors.New("it was listed")
	sum := func(held int64) error {
		_, err := hashPath(t, root, Options{MaxHeld: held, OnEntry: func(e Entry) error {
			if e.Type == Directory {
				return nil
			}
			return listed
		}})
		return err
	}
	if err := sum(0); !errors.Is(err, listed) {
		t.Errorf("%d names: %v", fits, err)
	}
	add(fits)
	for _, held := range []int64{0, 1, 1 << 30} {
		var pathErr *PathError
		if err := sum(held); !errors.Is(err, ErrTooLarge) || !errors.As(err, &pathErr) || pathErr.Op != "list" {
			t.Errorf("one name more, %d bytes held: %v; want ErrTooLarge", held, err)
		}
	}
}

// TestListings: large directories are listed about as many times as their names fill
// what may be held, also where one is in another and full of directories.
func TestListings(t *testing.T) {
	const names, length, held = 1000, 200, 64 << 10
	broad := func(node tree) dir {
		d := dir{}
		for i := range names {
			d[fmt.Sprintf("%0*d", length, i*7919%names)] = node
		}
		return d
	}
	tr := broad(file{})
	tr["d"] = broad(dir{"f": file{}})
	root := place(t, tr)
	parent, err := os.Open(filepath.Dir(root))
	must(t, err)
	defer parent.Close()
	h := NewHasher(Options{MaxHeld: held})
	h.opts.OnEntry = func(e Entry) error {
		if h.held > held {
			t.Fatalf("holds %d bytes at %q", h.held, e.Path)
		}
		return nil
	}
	if sum, err := h.Sum(t.Context(), parent, "root"); err != nil || sum != sumOf(archive(tr)) {
		t.Fatalf("Sum = %v, %v", sum, err)
	}
	// The one in the other has an eighth of what may be held at least.
	if most := 2 + names + 2*names*(length+entryCost)/(held/8); h.listings > most {
		t.Errorf("%d directories were listed %d times; want at most %d", 2+names, h.listings, most)
	}
}

// TestTurn: of the walks that share a Turn, one at a time holds many names.
func TestTurn(t *testing.T) {
	large := dir{}
	for i := range 2 * heldWithoutTurn / (200 + entryCost) {
		large[fmt.Sprintf("%0200d", i)] = file{}
	}
	root := place(t, dir{"large": large, "small": dir{"f": file{}}})
	parent, err := os.Open(root)
	must(t, err)
	defer parent.Close()
	turn := NewTurn()
	walk := func(ctx context.Context, name string, onEntry func(h *Hasher)) error {
		h := NewHasher(Options{Turn: turn})
		h.opts.OnEntry = func(Entry) error {
			if onEntry != nil {
				onEntry(h)
			}
			return nil
		}
		_, err := h.Sum(ctx, parent, name)
		return err
	}
	met := false
	err = walk(t.Context(), "large", func(h *Hasher) {
		if met || !h.hasTurn {
			return
		}
		met = true
		if err := walk(t.Context(), "small", nil); err != nil {
			t.Errorf("a small directory beside a large one: %v", err)
		}
		// It doesn't wait: the other one may go on in the same goroutine only.
		err := walk(t.Context(), "large", func(h *Hasher) {
			if h.hasTurn || h.held > heldWithoutTurn {
				t.Fatalf("a second walk has its turn (%v) and holds %d bytes", h.hasTurn, h.held)
			}
		})
		if err != nil {
			t.Errorf("a large directory beside a large one: %v", err)
		}
	})
	if err != nil || !met {
		t.Errorf("a large directory: %v, its turn came: %v", err, met)
	}
	met = false
	if err := walk(t.Context(), "large", func(h *Hasher) { met = met || h.hasTurn }); err != nil || !met {
		t.Errorf("a large directory after a large one: %v, its turn came: %v", err, met)
	}
}
