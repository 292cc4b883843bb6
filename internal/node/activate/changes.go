package activate

import (
	"maps"
	"slices"

	"every.channel/ec-verify/pkg/closure"
)

// PackageChange is how a switch changes the store paths with one name.
type PackageChange struct {
	Name string `json:"name"`
	// Before and After are the versions, ascending; "" is that of a path whose name
	// has none. An empty list says that there is no such path.
	Before []string `json:"before"`
	After  []string `json:"after"`
	// Size is by how many bytes its NARs grow.
	Size int64 `json:"size"`
}

// least is the smallest change of size that is reported without a change of version, in
// bytes.
const least = 8 << 10

// Changes returns the differences between two closures, in the order of names: other
// versions, and sizes that changed by 8 KiB or more.
func Changes(before, after closure.Closure) []PackageChange {
	all := make(map[string]*PackageChange)
	count := func(c closure.Closure, versions func(*PackageChange) *[]string, sign int64) {
		for p, info := range c {
			name, version := splitName(p.Name())
			change := all[name]
			if change == nil {
				change = &PackageChange{Name: name, Before: []string{}, After: []string{}}
				all[name] = change
			}
			list := versions(change)
			*list = append(*list, version)
			change.Size += sign * info.NarSize
		}
	}
	count(before, func(c *PackageChange) *[]string { return &c.Before }, -1)
	count(after, func(c *PackageChange) *[]string { return &c.After }, 1)
	out := []PackageChange{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		slices.Sort(c.Before)
		slices.Sort(c.After)
		c.Before, c.After = slices.Compact(c.Before), slices.Compact(c.After)
		if !slices.Equal(c.Before, c.After) || max(c.Size, -c.Size) >= least {
			out = append(out, *c)
		}
	}
	return out
}

// splitName splits the name of a store path as Nix does: the version starts after the
// first dash that no letter follows.
func splitName(name string) (pname, version string) {
	for i := 0; i+1 < len(name); i++ {
		c := name[i+1] | 0x20
		if name[i] == '-' && (c < 'a' || c > 'z') {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}
