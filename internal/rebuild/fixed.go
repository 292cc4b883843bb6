package rebuild

import (
	"context"
	"crypto/md5"  //nolint:gosec // what derivations of long ago state
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/nar"
)

// fixedContent returns the content hash that the derivation of a fixed output states, and
// that of file, whose NAR has the given sum. Both are in hexadecimal.
func fixedContent(ctx context.Context, file string, out nixstore.Output, sum nar.Sum) (want, got string, err error) {
	algo, recursive := strings.CutPrefix(out.HashAlgo, "r:")
	want = strings.ToLower(out.Hash)
	if recursive && algo == "sha256" {
		return want, hex.EncodeToString(sum.Hash[:]), nil
	}
	h := newDigest(algo)
	if h == nil {
		return "", "", fmt.Errorf("hash algorithm %q is not known", out.HashAlgo)
	}
	if recursive {
		if err := nar.Dump(ctx, h, file, nar.Options{MaxSize: sum.Size}); err != nil {
			return "", "", err
		}
		return want, hex.EncodeToString(h.Sum(nil)), nil
	}
	// A link that replaced the file is not what was hashed.
	f, err := hostfile.OpenNoFollow(file)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	// A NAR is larger than the file in it: the limit cuts nothing that was hashed.
	if n, err := io.Copy(h, io.LimitReader(f, sum.Size)); err != nil {
		return "", "", err
	} else if n == sum.Size {
		return "", "", fmt.Errorf("%s: %w", file, nar.ErrChanged)
	}
	return want, hex.EncodeToString(h.Sum(nil)), nil
}

// newDigest returns the digest of an algorithm by Nix's name for it; nil if Nix has no
// such algorithm.
func newDigest(algo string) hash.Hash {
	switch algo {
	case "md5":
		return md5.New() //nolint:gosec // see above
	case "sha1":
		return sha1.New() //nolint:gosec // see above
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	}
	return nil
}
