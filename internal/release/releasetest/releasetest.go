// Package releasetest writes small but whole releases for tests.
package releasetest

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Names that the releases of this package have unless told otherwise.
const (
	Tag           = release.Tag("boot-v2026.02.28")
	Configuration = "ec-runner-x86_64"
	Commit        = "0123456789abcdef0123456789abcdef01234567"
)

// Created is when the releases of this package were made unless told
// otherwise, and Now a time at which they are fresh.
var (
	Created = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	Now     = Created.AddDate(0, 0, 10)
)

// Spec says how a release differs from the usual one. The zero value is the
// usual one: tag [Tag], created at [Created], best before 90 days later, one
// configuration with a listing, and a small image.
type Spec struct {
	Tag            release.Tag
	Created        time.Time
	BestBefore     time.Time
	Configurations []string
	// ImageSize is the size in bytes of the asset "image.iso".
	ImageSize int
}

// Write writes the files of the release s, without a signature, into dir,
// which it makes.
func Write(t testing.TB, dir string, s Spec) {
	t.Helper()
	if s.Tag == "" {
		s.Tag = Tag
	}
	if s.Created.IsZero() {
		s.Created = Created
	}
	if s.BestBefore.IsZero() {
		s.BestBefore = s.Created.AddDate(0, 0, 90)
	}
	if len(s.Configurations) == 0 {
		s.Configurations = []string{Configuration}
	}
	if s.ImageSize == 0 {
		s.ImageSize = 4096
	}
	must(t, os.MkdirAll(dir, 0o755))
	for _, c := range s.Configurations {
		File(t, dir, release.ManifestName(c), Manifest(t, c))
		File(t, dir, release.ListingName(c), Listing(t, c))
	}
	File(t, dir, "image.iso", image(string(s.Tag), s.ImageSize))
	must(t, release.WriteInfo(dir, release.Info{Tag: s.Tag, Commit: Commit, CreatedAt: s.Created, BestBefore: s.BestBefore}))
	must(t, release.WriteSums(t.Context(), dir))
}

// File writes one file of a release.
func File(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
}

// Read returns one file of a release.
func Read(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	must(t, err)
	return data
}

// Manifest returns the manifest of a closure of two paths.
func Manifest(t testing.TB, configuration string) []byte {
	t.Helper()
	lib, top := Path("b", "lib"), Path("a", "nixos-system")
	m := closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: configuration, System: "x86_64-linux", StoreDir: "/nix/store",
		Source:   closure.Source{NarHash: nar.Hash(sha256.Sum256([]byte("source"))), LockNarHash: nar.Hash(sha256.Sum256([]byte("lock")))},
		Toplevel: closure.Toplevel{DrvPath: Path("d", "nixos-system.drv"), OutPath: top},
		Paths: []closure.PathInfo{
			{Path: lib, NarHash: nar.Hash(sha256.Sum256([]byte("lib"))), NarSize: 120, References: []closure.StorePath{}},
			{Path: top, NarHash: nar.Hash(sha256.Sum256([]byte("top"))), NarSize: 240, References: []closure.StorePath{lib}},
		},
		Unreproducible: []closure.Unreproducible{},
	}
	data, err := m.Encode()
	must(t, err)
	return data
}

// Listing returns the listing that goes with [Manifest].
func Listing(t testing.TB, configuration string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := closure.NewListingWriter(&b, configuration)
	must(t, err)
	for _, p := range []closure.StorePath{Path("a", "nixos-system"), Path("b", "lib")} {
		must(t, w.Add(closure.PathFiles{Path: p, NarHash: nar.Hash(sha256.Sum256([]byte(p))), Files: []nar.Entry{
			{Type: nar.Directory},
			{Path: "file", Type: nar.Regular, Size: 3, SHA256: nar.Hash(sha256.Sum256([]byte("abc")))},
		}}))
	}
	must(t, w.Close())
	return b.Bytes()
}

// Path returns a store path whose hash part repeats letter.
func Path(letter, name string) closure.StorePath {
	return closure.StorePath("/nix/store/" + strings.Repeat(letter, 32) + "-" + name)
}

// image returns n bytes that compress badly and depend on seed only.
func image(seed string, n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	for block := sha256.Sum256([]byte(seed)); len(out) < n; block = sha256.Sum256(block[:]) {
		out = append(out, block[:]...)
	}
	return out[:n]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
