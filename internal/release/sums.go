package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// MaxAssets is the maximum number of assets in a release.
const MaxAssets = 4096

// Digest is the SHA-256 of an asset.
type Digest [sha256.Size]byte

// String returns d in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Sums is the contents of a SHA256SUMS.txt: the digest of every asset except
// SHA256SUMS.txt and its bundle. The zero value is empty.
type Sums struct{ digests map[string]Digest }

// NewSums returns the Sums with digests, keyed by asset name.
func NewSums(digests map[string]Digest) (Sums, error) {
	if len(digests) == 0 {
		return Sums{}, errors.New("no assets")
	}
	if len(digests) > MaxAssets {
		return Sums{}, fmt.Errorf("%d assets, at most %d are allowed", len(digests), MaxAssets)
	}
	for name := range digests {
		if err := checkSummed(name); err != nil {
			return Sums{}, err
		}
	}
	return Sums{maps.Clone(digests)}, nil
}

// ParseSums reads a SHA256SUMS.txt. It accepts only the form that
//
//	LC_ALL=C sha256sum -- *
//
// writes for valid names: 64 lower-case hexadecimal digits, two spaces, a name
// ([CheckAssetName]), a newline; each name once, in ascending order of bytes; at
// least one line, at most [MaxAssets] lines and [MaxSumsSize] bytes; no line for
// SHA256SUMS.txt itself or its bundle.
func ParseSums(data []byte) (Sums, error) {
	if len(data) > MaxSumsSize {
		return Sums{}, fmt.Errorf("%s: %d bytes, at most %d are allowed", SumsName, len(data), MaxSumsSize)
	}
	if len(data) == 0 {
		return Sums{}, fmt.Errorf("%s: empty", SumsName)
	}
	s := Sums{make(map[string]Digest)}
	last := ""
	for n := 1; len(data) > 0; n++ {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		if !whole {
			return Sums{}, fmt.Errorf("%s line %d: does not end with a newline; the file may be cut short", SumsName, n)
		}
		if n > MaxAssets {
			return Sums{}, fmt.Errorf("%s: more than %d lines", SumsName, MaxAssets)
		}
		name, digest, err := parseSum(string(line))
		if err == nil {
			err = checkSummed(name)
		}
		if err == nil && name == last {
			err = fmt.Errorf("%q is listed twice", name)
		}
		if err == nil && name < last {
			err = fmt.Errorf("%q does not come after %q; sort the lines by name", name, last)
		}
		if err != nil {
			return Sums{}, fmt.Errorf("%s line %d: %w", SumsName, n, err)
		}
		s.digests[name], last, data = digest, name, rest
	}
	return s, nil
}

func parseSum(line string) (string, Digest, error) {
	var d Digest
	if strings.HasSuffix(line, "\r") {
		return "", d, errors.New("ends with CR LF; want LF alone")
	}
	if strings.HasPrefix(line, `\`) {
		return "", d, errors.New("has an escaped name")
	}
	hash, name, ok := strings.Cut(line, " ")
	if !ok {
		return "", d, fmt.Errorf("%q is not a digest, two spaces and a name", clip(line))
	}
	if len(hash) != hex.EncodedLen(len(d)) {
		return "", d, fmt.Errorf("the digest has %d characters, want %d", len(hash), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(hash)); err != nil || hash != d.String() {
		return "", d, fmt.Errorf("the digest %q is not lower-case hexadecimal", clip(hash))
	}
	name, ok = strings.CutPrefix(name, " ")
	if !ok {
		return "", d, errors.New("want two spaces before the name (sha256sum's text mode)")
	}
	return name, d, nil
}

// checkSummed returns an error if SHA256SUMS.txt may not list name.
func checkSummed(name string) error {
	if err := CheckAssetName(name); err != nil {
		return err
	}
	if isSumsFile(name) {
		return fmt.Errorf("%q cannot be listed: it is made after the sums", name)
	}
	return nil
}

// isSumsFile reports whether name is SHA256SUMS.txt or derived from it, such as its
// bundle.
func isSumsFile(name string) bool {
	return name == SumsName || strings.HasPrefix(name, SumsName+".")
}

// Encode returns s in the form that [ParseSums] reads.
func (s Sums) Encode() []byte {
	var b bytes.Buffer
	for name, digest := range s.All() {
		fmt.Fprintf(&b, "%s  %s\n", digest, name)
	}
	return b.Bytes()
}

// Digest returns the digest of the asset name and whether s lists it.
func (s Sums) Digest(name string) (Digest, bool) {
	d, ok := s.digests[name]
	return d, ok
}

// Len returns the number of assets in s.
func (s Sums) Len() int { return len(s.digests) }

// All yields the assets with their digests, in ascending order of names.
func (s Sums) All() iter.Seq2[string, Digest] {
	return func(yield func(string, Digest) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.digests)) {
			if !yield(name, s.digests[name]) {
				return
			}
		}
	}
}
