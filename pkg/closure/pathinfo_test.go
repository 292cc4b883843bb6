package closure

import (
	"slices"
	"testing"
)

func TestClosure(t *testing.T) {
	c := testManifest().Closure()
	if got, want := c.Paths(), []StorePath{data, lib, top}; !slices.Equal(got, want) {
		t.Errorf("Paths = %q, want %q", got, want)
	}
	if got, want := c.NarSize(), int64(96+112+maxNarSize); got != want {
		t.Errorf("NarSize = %d, want %d", got, want)
	}
	if got := c[lib].References; !slices.Equal(got, []StorePath{data}) {
		t.Errorf("references of %s = %q", lib, got)
	}
}

func TestReachable(t *testing.T) {
	gone, loop := object("z", "gone"), object("l", "loop")
	c := testManifest().Closure()
	c[loop] = PathInfo{Path: loop, References: []StorePath{top, loop, gone}}
	c[data] = PathInfo{Path: data, References: []StorePath{lib}} // and lib refers to data
	for root, want := range map[StorePath][]StorePath{
		top: {data, lib, top}, lib: {data, lib}, data: {data, lib}, loop: {data, lib, top, loop}, gone: {}, "": {},
	} {
		got := c.Reachable(root)
		for _, p := range want {
			if !got[p] {
				t.Errorf("Reachable(%s) lacks %s", root, p)
			}
		}
		if len(got) != len(want) {
			t.Errorf("Reachable(%s) = %v, want %q", root, got, want)
		}
	}
}
