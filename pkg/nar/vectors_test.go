package nar_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/vectors"
	"every.channel/ec-verify/pkg/nar"
)

// TestVectors uses the archives with which Nix tests its reader. This package only writes
// archives, so the test creates the tree of each archive. The NARs of the good ones must be
// equal byte for byte, and no tree may give the defects of the others.
func TestVectors(t *testing.T) {
	dir := vectors.Dir(t, "nix/nars")
	inDir := func(name string, executable bool) []nar.Entry {
		return []nar.Entry{{Type: nar.Directory}, {Path: name, Type: nar.Regular, Size: 5, Executable: executable}}
	}
	x := []nar.Entry{{Type: nar.Regular, Size: 1}}
	cases := map[string]struct {
		tree     []nar.Entry
		contents string
		// refused is what is said of such a tree, "" where there is one.
		refused string
		same    bool
	}{
		"dot.nar":                               {inDir(".", false), "hello", "not a name", false},
		"dotdot.nar":                            {inDir("..", false), "hello", "not a name", false},
		"empty.nar":                             {inDir("", false), "hello", "a second root", false},
		"nul-character.nar":                     {inDir("f\x00o", false), "hello", "not a name", false},
		"slash.nar":                             {inDir("x/y", false), "hello", "comes before its directory", false},
		"executable-after-contents.nar":         {inDir("foo", true), "hello", "", false},
		"name-after-node.nar":                   {inDir("foo", false), "hello", "", false},
		"invalid-tag-instead-of-contents.nar":   {[]nar.Entry{{Type: nar.Regular}}, "", "", false},
		"regular-one-byte-non-zero-padding.nar": {x, "x", "", false},
		"regular-one-byte-zero-padding.nar":     {x, "x", "", true},
		"regular-truncated-large-contents.nar":  {[]nar.Entry{{Type: nar.Regular, Size: 1 << 40}}, "x", "not complete", false},
		"regular-truncated-padding.nar":         {x, "x", "", false},
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.nar"))
	if err != nil || len(names) != len(cases) {
		t.Errorf("%d archives in %s, %v, want %d", len(names), dir, err, len(cases))
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		c, ok := cases[filepath.Base(name)]
		if !ok {
			t.Errorf("%s: not in this table", name)
			continue
		}
		sum, err := sumOf(c.tree, c.contents)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want %q", name, err, c.refused)
			}
			continue
		}
		same := sum.Hash == nar.Hash(sha256.Sum256(data)) && sum.Size == int64(len(data))
		if err != nil || same != c.same {
			t.Errorf("%s: %v, the tree's archive is the same: %v, want %v", name, err, same, c.same)
		}
	}
}

// sumOf returns the sum of a tree whose last node has these contents.
func sumOf(tree []nar.Entry, contents string) (nar.Sum, error) {
	b := nar.NewBuilder(nil)
	for _, e := range tree {
		if err := b.Add(e); err != nil {
			return nar.Sum{}, err
		}
	}
	if _, err := b.Write([]byte(contents)); err != nil {
		return nar.Sum{}, err
	}
	return b.Sum()
}
