package closure

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/nix-community/go-nix/pkg/nixhash"

	"every.channel/ec-verify/pkg/nar"
)

// computed returns Nix's store path for an object of the given kind, digest and name.
func (d StoreDir) computed(kind string, digest [sha256.Size]byte, name string) StorePath {
	sum := sha256.Sum256([]byte(kind + ":sha256:" + hex.EncodeToString(digest[:]) + ":" + string(d) + ":" + name))
	return StorePath(string(d) + "/" + nixbase32.EncodeToString(nixhash.CompressHash(sum[:], 20)) + "-" + name)
}

// SourcePath returns the store path of a file tree without references, such as a
// locked input of a flake, which is named "source".
func (d StoreDir) SourcePath(h nar.Hash, name string) StorePath {
	return d.computed("source", h, name)
}

// TextPath returns the store path of a text file, such as a derivation, with the
// references refs, which are ascending and distinct.
func (d StoreDir) TextPath(data []byte, refs []StorePath, name string) StorePath {
	kind := []string{"text"}
	for _, ref := range refs {
		kind = append(kind, string(ref))
	}
	return d.computed(strings.Join(kind, ":"), sha256.Sum256(data), name)
}

// FixedPath returns the store path of a fixed output without references. algo is an
// algorithm such as "sha256" for the hash of a file, with the prefix "r:" for that of
// a NAR; digest is in base 16, as in a derivation.
func (d StoreDir) FixedPath(algo, digest, name string) StorePath {
	if raw, err := hex.DecodeString(digest); algo == "r:sha256" && err == nil && len(raw) == nar.HashSize {
		return d.SourcePath(nar.Hash(raw), name)
	}
	return d.computed("output:out", sha256.Sum256([]byte("fixed:out:"+algo+":"+digest+":")), name)
}
