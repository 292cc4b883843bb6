package closure

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"every.channel/ec-verify/pkg/nar"
)

// BenchmarkDecodeManifest decodes a manifest of 4,000 paths with five references
// each, all of which the system refers to.
func BenchmarkDecodeManifest(b *testing.B) {
	m := Manifest{
		SchemaVersion: ManifestSchema, Kind: ManifestKind, Configuration: "bench", System: "x86_64-linux", StoreDir: DefaultStoreDir,
		Source: Source{NarHash: nar.Hash{1}}, Unreproducible: []Unreproducible{},
	}
	var all []StorePath
	for i := range 4000 {
		p := StorePath(fmt.Sprintf("%s/%032d-package-%d", DefaultStoreDir, i, i))
		refs := slices.Clone(all[max(0, len(all)-5):])
		if i == 3999 {
			refs = slices.Clone(all)
		}
		m.Paths = append(m.Paths, PathInfo{Path: p, NarHash: nar.Hash(sha256.Sum256([]byte(p))), NarSize: 128, References: refs})
		all = append(all, p)
	}
	m.Toplevel = Toplevel{DrvPath: all[0] + ".drv", OutPath: all[len(all)-1]}
	data, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeManifest(data); err != nil {
			b.Fatal(err)
		}
	}
}
