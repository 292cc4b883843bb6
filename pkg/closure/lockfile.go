package closure

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/nar"
)

// MaxLockFile bounds a flake.lock in bytes.
const MaxLockFile = 16 << 20

// LockedSources returns the store paths of the inputs that a flake's lock file
// states hashes of. Not every input is needed, so that not every path need exist.
func (d StoreDir) LockedSources(lock []byte) (map[StorePath]nar.Hash, error) {
	var v struct {
		Nodes map[string]struct {
			Locked struct {
				NarHash string `json:"narHash"`
			} `json:"locked"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(lock, &v); err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	locked := make(map[StorePath]nar.Hash)
	for name, node := range v.Nodes {
		if node.Locked.NarHash == "" {
			continue // the flake itself
		}
		h, err := nar.ParseHash(node.Locked.NarHash)
		if err != nil {
			return nil, fmt.Errorf("lock file: input %q: %w", clip(name), err)
		}
		locked[d.SourcePath(h, "source")] = h
	}
	return locked, nil
}
