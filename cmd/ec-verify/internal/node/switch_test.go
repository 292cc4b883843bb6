package node

import (
	"testing"

	"every.channel/ec-verify/internal/node/activate"
)

func TestChanged(t *testing.T) {
	for want, c := range map[string]activate.PackageChange{
		"1 → 2":             {Before: []string{"1", "3"}, After: []string{"2", "3"}},
		"none → no version": {After: []string{""}},
		"1 → none":          {Before: []string{"1"}},
		"2 more":            {Before: []string{"1"}, After: []string{"1", "2"}},
		"1 less":            {Before: []string{"1", "2"}, After: []string{"2"}},
		"the same versions": {Before: []string{"1"}, After: []string{"1"}},
	} {
		if got := changed(c); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}
