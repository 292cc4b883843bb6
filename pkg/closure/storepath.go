package closure

import (
	"fmt"
	"path"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"every.channel/ec-verify/pkg/excerpt"
)

// DefaultStoreDir is the store directory of every ordinary Nix installation.
const DefaultStoreDir StoreDir = "/nix/store"

const (
	digestLen  = 32  // characters of Nix's base-32, 160 bits
	maxNameLen = 211 // Nix's own limit, so that "<name>.drv.chroot" and the like fit in 255
	maxDirLen  = 1024
)

// StoreDir is the parent directory in store paths: absolute, clean, without a
// trailing slash, of printable ASCII without spaces, quotes and backslashes. It is
// part of the hashed data and so does not depend on where the store is mounted. The
// zero value is invalid.
type StoreDir string

// ParseStoreDir checks s and returns it as a store directory.
func ParseStoreDir(s string) (StoreDir, error) {
	if len(s) > maxDirLen || !path.IsAbs(s) || path.Clean(s) != s || s == "/" || strings.ContainsFunc(s, isUnfitForDir) {
		return "", fmt.Errorf("parse store directory %q: want a clean absolute path such as %s", clip(s), DefaultStoreDir)
	}
	return StoreDir(s), nil
}

// Parse checks that s is a store path in d, exactly as Nix writes it, and returns it.
// Nothing is cleaned or completed: "d/x/../y", a trailing slash or a file below a
// store path are errors.
func (d StoreDir) Parse(s string) (StorePath, error) {
	base, ok := strings.CutPrefix(s, string(d)+"/")
	if !ok {
		return "", fmt.Errorf("parse store path %q: not in %s", clip(s), d)
	}
	if err := checkBase(base); err != nil {
		return "", fmt.Errorf("parse store path %q: %v", clip(s), err)
	}
	return StorePath(s), nil
}

// ParseBase checks that s is the last component of a store path ("<digest>-<name>")
// and returns that store path in d.
func (d StoreDir) ParseBase(s string) (StorePath, error) {
	if err := checkBase(s); err != nil {
		return "", fmt.Errorf("parse store path %q: %v", clip(s), err)
	}
	return StorePath(string(d) + "/" + s), nil
}

// Within splits s, a path at or below a store path in d, into that store path
// and the rest ("" or "/…"), as in the target of a link into the store.
func (d StoreDir) Within(s string) (p StorePath, rest string, err error) {
	base, ok := strings.CutPrefix(s, string(d)+"/")
	if !ok {
		return "", "", fmt.Errorf("parse store path %q: not in %s", clip(s), d)
	}
	if i := strings.IndexByte(base, '/'); i >= 0 {
		base, rest = base[:i], base[i:]
	}
	p, err = d.ParseBase(base)
	return p, rest, err
}

// StorePath is the absolute path of a store object, "<store dir>/<digest>-<name>".
// Only [StoreDir.Parse] and its siblings create one, so a StorePath never contains
// "..", an extra slash, a control character or a byte outside ASCII, and is safe to
// print, log and join. The zero value is no path.
type StorePath string

// ParseStorePath is [StoreDir.Parse] for a path whose store directory is its
// own parent.
func ParseStorePath(s string) (StorePath, error) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", fmt.Errorf("parse store path %q: not an absolute path", clip(s))
	}
	dir, err := ParseStoreDir(s[:i])
	if err != nil {
		return "", fmt.Errorf("parse store path %q: not in a store directory", clip(s))
	}
	return dir.Parse(s)
}

// Dir returns the store directory of p.
func (p StorePath) Dir() StoreDir { return StoreDir(path.Dir(string(p))) }

// Base returns the last component of p, "<digest>-<name>".
func (p StorePath) Base() string { return path.Base(string(p)) }

// Digest returns the 32 base-32 characters that begin the base name of p.
func (p StorePath) Digest() string { return p.Base()[:digestLen] }

// Name returns the base name of p without the digest and its dash.
func (p StorePath) Name() string { return p.Base()[digestLen+1:] }

// IsDerivation reports whether p names a derivation file.
func (p StorePath) IsDerivation() bool { return strings.HasSuffix(string(p), ".drv") }

// UnmarshalText implements [encoding.TextUnmarshaler] through [ParseStorePath].
func (p *StorePath) UnmarshalText(text []byte) error {
	parsed, err := ParseStorePath(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// checkBase applies the rules of libstore's StorePath: go-nix's parser accepts
// several malformed names (no dash, "..", a name that is too long).
func checkBase(base string) error {
	if len(base) < digestLen+2 {
		return fmt.Errorf("shorter than a digest, a dash and a name")
	}
	for i := range digestLen {
		// 160 bits are whole characters, so that any of them may stand anywhere.
		if !digestBytes[base[i]] {
			return fmt.Errorf("does not begin with a digest of %d base-32 characters", digestLen)
		}
	}
	if base[digestLen] != '-' {
		return fmt.Errorf("no dash after the digest")
	}
	name := base[digestLen+1:]
	if len(name) > maxNameLen {
		return fmt.Errorf("the name has %d characters, at most %d are allowed", len(name), maxNameLen)
	}
	for i := range len(name) {
		if !nameBytes[name[i]] {
			return fmt.Errorf("character %q is not allowed in a name", name[i])
		}
	}
	// ".", "..", ".-x" and "..-x" would make a path that walks upwards once the
	// digest is cut off.
	first, _, _ := strings.Cut(name, "-")
	if first == "." || first == ".." {
		return fmt.Errorf("the name begins with %q", first)
	}
	return nil
}

// A path is checked some times for each reference to it, which is most of what
// reading a manifest takes; to look for a byte in a string takes ten times as long.
var (
	digestBytes = bytesOf(nixbase32.Alphabet)
	nameBytes   = bytesOf("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-._?=")
)

func bytesOf(s string) (set [256]bool) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}

// isUnfitForDir reports whether r would have to be escaped in a message, a list or a
// JSON string; see [StorePath].
func isUnfitForDir(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\'' || r == '\\' }

// clip shortens untrusted text for a message.
func clip(s string) string { return excerpt.Of(s, 300) }
