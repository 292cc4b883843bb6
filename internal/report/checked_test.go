package report

import (
	"strings"
	"testing"
)

// TestWriteChecked: a tier that hashed nothing because earlier runs did is not shown as one
// that checked nothing.
func TestWriteChecked(t *testing.T) {
	for want, c := range map[string]Coverage{
		"checked   contents (69 of 69 store paths)\n":                           {Paths: 69, Hashed: 69},
		"checked   contents (0 of 69 store paths hashed, 69 by earlier runs)\n": {Paths: 69, Remembered: 69},
	} {
		var b strings.Builder
		(&Report{Tiers: []Tier{{Name: TierContents, Status: Done}}, Coverage: c}).writeChecked(&b)
		if b.String() != want {
			t.Errorf("got %q, want %q", b.String(), want)
		}
	}
}
