package closure

import (
	"maps"
	"slices"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

// PathInfo is a manifest's or a Nix database's data on one store path. It is a claim
// until the files on disk were hashed. Field names and forms are those of nix
// path-info --json.
type PathInfo struct {
	Path    StorePath `json:"path"`
	NarHash nar.Hash  `json:"narHash"`
	// NarSize is the length of the NAR in bytes.
	NarSize int64 `json:"narSize"`
	// References are the store paths that the contents mention, in ascending order,
	// including the path itself if it mentions itself.
	References []StorePath `json:"references"`
	// Deriver is the stated derivation of the path; empty if unknown (sources, and
	// outputs registered without one).
	Deriver StorePath `json:"deriver"`
	// CA is the content address in Nix's form ("fixed:r:sha256:…", "text:sha256:…");
	// empty if the path is input-addressed.
	CA string `json:"ca"`
}

// Closure is a set of store paths with their data.
type Closure map[StorePath]PathInfo

// Paths returns the paths of c in ascending order.
func (c Closure) Paths() []StorePath { return slices.Sorted(maps.Keys(c)) }

// NarSize returns the sum of the NAR sizes of c in bytes.
func (c Closure) NarSize() int64 {
	var n int64
	for _, info := range c {
		n += info.NarSize
	}
	return n
}

// Find returns the index of p in paths, which are in ascending order, or where it
// would be inserted, and whether it was found.
func Find(paths []PathInfo, p StorePath) (int, bool) {
	return slices.BinarySearchFunc(paths, p, func(info PathInfo, p StorePath) int {
		return strings.Compare(string(info.Path), string(p))
	})
}
