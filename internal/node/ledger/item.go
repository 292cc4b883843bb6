package ledger

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Item is one thing to be verified at a tier.
type Item struct {
	// Path is the store path, of the .drv file for a derivation.
	Path closure.StorePath
	// Want is the manifest's value: the NAR hash of a path, or [WantOutputs] for a
	// derivation.
	Want nar.Hash
	// Cost is what verifying it takes, in the unit of the tier; see [Tier]. What
	// is below 0 counts as 0.
	Cost int64
}

// Key identifies an item at one tier.
type Key struct {
	Path closure.StorePath
	Want nar.Hash
}

// Key returns the key of i.
func (i Item) Key() Key { return Key{i.Path, i.Want} }

// compare orders keys by path, then by what is wanted.
func (k Key) compare(other Key) int {
	return cmp.Or(strings.Compare(string(k.Path), string(other.Path)), k.Want.Compare(other.Want))
}

// WantOutputs returns the Want of a derivation: one hash over the NAR hashes
// that the manifest has for its outputs, by their names. Without any it is
// the zero hash: nothing is wanted of a derivation that no manifest knows.
func WantOutputs(outputs map[string]nar.Hash) nar.Hash {
	if len(outputs) == 0 {
		return nar.Hash{}
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		hash := outputs[name]
		h.Write([]byte(name))
		h.Write([]byte{0})
		h.Write(hash[:])
	}
	return nar.Hash(h.Sum(nil))
}

// Manifest identifies the manifest that items were verified against. The zero value is
// none.
type Manifest struct {
	// Tag is that of the release, e.g. "boot-v2026.02.28".
	Tag string
	// SHA256 is the digest of the manifest's file.
	SHA256 nar.Hash
}

// Inventory is what a manifest gives a tier to verify. The zero value means that there
// never was one.
type Inventory struct {
	Tier     Tier
	Manifest Manifest
	// Items are in ascending order of their paths, without duplicates. A path for which
	// two manifests want different things is listed with each.
	Items []Item
}
