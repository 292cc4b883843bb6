package nar

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixhash"

	"every.channel/ec-verify/pkg/excerpt"
)

// HashSize is the length of a [Hash] in bytes.
const HashSize = sha256.Size

// Hash is a SHA-256 digest: of a NAR (a NAR hash) or, in an [Entry], of the contents
// of one regular file. It is comparable with == and usable as a map key. The zero
// value means no digest and prints as "".
type Hash [HashSize]byte

// ParseHash parses a SHA-256 digest in any form that Nix prints: SRI ("sha256-" and
// 44 characters of base64, as in nix path-info --json), "sha256:" with 52 characters
// of Nix's base-32 (nix-store --query --hash), or "sha256:" with 64 hexadecimal
// digits (the Hash column of the Nix database). A digest without its algorithm is an
// error, because it is ambiguous.
func ParseHash(s string) (Hash, error) {
	if h, ok := parseUsual(s); ok {
		return h, nil
	}
	var h Hash
	if !strings.HasPrefix(s, "sha256-") && !strings.HasPrefix(s, "sha256:") {
		return h, fmt.Errorf("parse hash %q: want sha256-<base64>, sha256:<base32> or sha256:<base16>", clip(s))
	}
	algo := nixhash.SHA256
	parsed, err := nixhash.ParseAny(s, &algo)
	if err != nil {
		return h, fmt.Errorf("parse hash %q: not a SHA-256 digest", clip(s))
	}
	// ParseAny accepts non-canonical base64 and base-32. With two spellings of one
	// digest, two manifests could differ although they agree.
	canonical := parsed.Format(nixhash.SRI, true)
	switch {
	case strings.HasPrefix(s, "sha256-"):
	case len(s) == len("sha256:")+hex.EncodedLen(HashSize):
		canonical = parsed.Format(nixhash.Base16, true)
	default:
		canonical = parsed.Format(nixhash.NixBase32, true)
	}
	if s != canonical || len(parsed.Digest()) != HashSize {
		return h, fmt.Errorf("parse hash %q: not in canonical form", clip(s))
	}
	copy(h[:], parsed.Digest())
	return h, nil
}

// parseUsual parses the two forms that manifests and the Nix database have thousands
// of. Text that it refuses may be another form, or no hash.
func parseUsual(s string) (h Hash, ok bool) {
	// A form is canonical if its digest, written again, gives the same text.
	var room [base16Size]byte
	switch {
	case len(s) == sriSize && strings.HasPrefix(s, sriPrefix):
		var digest [HashSize + 1]byte // as the padding may stand for one byte more
		copy(room[:], s[len(sriPrefix):])
		n, err := base64.StdEncoding.Decode(digest[:], room[:sriSize-len(sriPrefix)])
		if err != nil || n != HashSize {
			return Hash{}, false
		}
		h = Hash(digest[:HashSize])
		ok = string(h.appendSRI(room[:0])) == s
	case len(s) == base16Size && strings.HasPrefix(s, base16Prefix):
		copy(room[:], s)
		if _, err := hex.Decode(h[:], room[len(base16Prefix):]); err != nil {
			return Hash{}, false
		}
		ok = string(hex.AppendEncode(room[:len(base16Prefix)], h[:])) == s
	}
	if !ok {
		return Hash{}, false
	}
	return h, true
}

const (
	sriPrefix    = "sha256-"
	sriSize      = len(sriPrefix) + 44
	base16Prefix = "sha256:"
	base16Size   = len(base16Prefix) + 2*HashSize
)

func (h Hash) appendSRI(b []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(b, sriPrefix...), h[:])
}

// String returns h in SRI form, or "" for the zero value.
func (h Hash) String() string {
	if h.IsZero() {
		return ""
	}
	var room [sriSize]byte
	return string(h.appendSRI(room[:0]))
}

// Base32 returns h as "sha256:" and Nix's base-32, the form in Nix's messages.
func (h Hash) Base32() string {
	return nixhash.MustNewHash(nixhash.SHA256, h[:]).Format(nixhash.NixBase32, true)
}

// IsZero reports whether h is the zero value.
func (h Hash) IsZero() bool { return h == Hash{} }

// Compare orders hashes by their bytes; it returns -1, 0 or +1.
func (h Hash) Compare(other Hash) int { return bytes.Compare(h[:], other[:]) }

// MarshalText implements [encoding.TextMarshaler] with the SRI form.
func (h Hash) MarshalText() ([]byte, error) {
	if h.IsZero() {
		return []byte{}, nil
	}
	return h.appendSRI(nil), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]; it accepts SRI only, the form
// in this program's files.
func (h *Hash) UnmarshalText(text []byte) error {
	if !bytes.HasPrefix(text, []byte("sha256-")) {
		return fmt.Errorf("parse hash %q: want sha256-<base64>", clip(string(text)))
	}
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

// clip shortens untrusted text for a message.
func clip(s string) string { return excerpt.Of(s, 80) }
