package nixstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWalkApart: with all processors a walk finds what it does with one, of each entry
// below another entry's in turn.
func TestWalkApart(t *testing.T) {
	m := newMachine(t)
	for i := range 30 {
		m.file(fmt.Sprintf("/nix/store/%d/deep/below/file", i), "x")
		m.link(fmt.Sprintf("/nix/store/%d/link", i), "/nix/store/0")
	}
	m.link("/nix/store/top", "0")
	m.file("/nix/store/file", "x")
	m.dir("/elsewhere/never")
	m.link("/nix/store/out", "/elsewhere")
	s := m.open()
	seen := func(walk func(do func(*Entry) error) error) []string {
		var lock sync.Mutex
		var names []string
		err := walk(func(e *Entry) error {
			lock.Lock()
			defer lock.Unlock()
			name := e.Name()
			if dir := path.Dir(name); dir != "." && !slices.Contains(names, fmt.Sprintf("%s %o", dir, unix.S_IFDIR)) {
				t.Errorf("%s before its directory", name)
			}
			names = append(names, fmt.Sprintf("%s %o", name, e.Stat.Mode&unix.S_IFMT))
			if name == "7" || name == "8/deep" {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		slices.Sort(names)
		return names
	}
	one := seen(func(do func(*Entry) error) error { return s.Walk(t.Context(), "/nix/store", do) })
	all := seen(func(do func(*Entry) error) error { return s.WalkApart(t.Context(), "/nix/store", do) })
	if !slices.Equal(one, all) || len(one) != 30*5-4-2+3 {
		t.Errorf("one by one %d: %q\nall at a time %d: %q", len(one), one, len(all), all)
	}
	enough := errors.New("enough")
	for _, at := range []string{"9", "9/deep/below/file", "file"} {
		err := s.WalkApart(t.Context(), "/nix/store", func(e *Entry) error {
			if e.Name() == at {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Errorf("an error at %s: %v", at, err)
		}
	}
}
