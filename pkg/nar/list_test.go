package nar

import (
	"errors"
	"fmt"
	"strings"
	"testing"
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
	root := place(t, tr)
	want := sumOf(archive(tr))
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
