package verify

import (
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

// The snapshot names two of the paths that are hashed at once, the longest first.
func TestProgressNamesWhatIsHashed(t *testing.T) {
	var p Progress
	expect := func(want ...closure.StorePath) {
		t.Helper()
		var named [2]closure.StorePath
		copy(named[:], want)
		if got := p.Snapshot().Hashing; got != named {
			t.Errorf("it names %q, want %q", got, named)
		}
	}
	expect()
	first := p.hashing.take(lib)
	expect(lib)
	second, third := p.hashing.take(src), p.hashing.take(top)
	expect(lib, src)
	first()
	expect(src, top)
	third()
	second()
	expect()
}
