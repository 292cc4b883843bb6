package closure

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/nar"
)

// TestFileComparison: compared while they come, files give what they give as a
// whole.
func TestFileComparison(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	tree := func() []nar.Entry {
		files := []nar.Entry{{Type: nar.Directory}}
		for _, name := range []string{"a", "a/b", "a/b/c", "a/d", "a-b", "a.b", "b", "c", "c/a"} {
			parent := name[:max(0, strings.LastIndexByte(name, '/'))]
			if draw.IntN(4) > 0 && slices.ContainsFunc(files, func(e nar.Entry) bool { return e.Path == parent }) {
				files = append(files, nar.Entry{Path: name, Type: nar.Type(1 + draw.IntN(3)), Size: draw.Int64N(2)})
			}
		}
		slices.SortFunc(files, func(a, b nar.Entry) int {
			return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
		})
		return files
	}
	for range 2000 {
		want, got := tree(), tree()
		c := NewFileComparison(want)
		for _, e := range got {
			c.Add(e)
		}
		changes, more := c.End()
		if all := CompareFiles(want, got); more != 0 || len(all)+len(changes) > 0 && !reflect.DeepEqual(changes, all) {
			t.Fatalf("%v with %v:\n%v and %d more, want\n%v", want, got, changes, more, all)
		}
	}
}

// TestFileComparisonBounds: what it holds has a limit, by number and by bytes,
// and what is left out is counted.
func TestFileComparisonBounds(t *testing.T) {
	for _, length := range []int{10, 1 << 10, 60_000} {
		c := NewFileComparison([]nar.Entry{{Type: nar.Directory}})
		c.Add(nar.Entry{Type: nar.Directory})
		for i := range 1000 {
			c.Add(nar.Entry{Path: fmt.Sprintf("%0*d", length, i), Type: nar.Regular})
		}
		changes, more := c.End()
		if len(changes)+more != 1000 || len(changes) == 0 || len(changes) > MaxFileChanges || len(changes)*length > maxChangeBytes {
			t.Errorf("names of %d bytes: %d changes and %d more", length, len(changes), more)
		}
	}
}
