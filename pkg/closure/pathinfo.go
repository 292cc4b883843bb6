package closure

import (
	"slices"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

// PathInfo is what somebody says of one store path: a manifest, or a Nix
// database. It is a claim until the bytes on disk were hashed. Field names and
// forms are those of nix path-info --json.
type PathInfo struct {
	Path    StorePath `json:"path"`
	NarHash nar.Hash  `json:"narHash"`
	// NarSize is the length of the NAR in bytes.
	NarSize int64 `json:"narSize"`
	// References are the store paths that the contents mention, in ascending
	// order, the path itself among them where it mentions itself.
	References []StorePath `json:"references"`
	// Deriver is the derivation that the path is said to be an output of; empty
	// where none is known (sources, and outputs registered without one).
	Deriver StorePath `json:"deriver"`
	// CA is the content address in Nix's form ("fixed:r:sha256:…",
	// "text:sha256:…"); empty where the path is addressed by its inputs.
	CA string `json:"ca"`
}

// Closure is a set of store paths with what is said of them.
type Closure map[StorePath]PathInfo

// Paths returns the paths of c in ascending order.
func (c Closure) Paths() []StorePath {
	paths := make([]StorePath, 0, len(c))
	for p := range c {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// NarSize returns the sum of the NAR sizes of c in bytes.
func (c Closure) NarSize() int64 {
	var n int64
	for _, info := range c {
		n += info.NarSize
	}
	return n
}

// Reachable returns the paths of c that can be reached from root by following
// references, root included. A reference that c does not hold is left out; a
// root that it does not hold reaches nothing.
func (c Closure) Reachable(root StorePath) map[StorePath]bool {
	seen := make(map[StorePath]bool)
	todo := []StorePath{root}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		info, ok := c[p]
		if !ok || seen[p] {
			continue
		}
		seen[p] = true
		todo = append(todo, info.References...)
	}
	return seen
}

// Find returns where p is, or would be, in paths, which are in ascending order, and
// whether it is there.
func Find(paths []PathInfo, p StorePath) (int, bool) {
	return slices.BinarySearchFunc(paths, p, func(info PathInfo, p StorePath) int {
		return strings.Compare(string(info.Path), string(p))
	})
}
