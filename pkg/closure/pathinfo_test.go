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
