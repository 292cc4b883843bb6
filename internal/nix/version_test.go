package nix

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Version // zero: an error
	}{
		{"nix (Nix) 2.26.3\n", Version{"Nix", 2, 26, 3}},
		{"nix (Nix) 2.18\n", Version{"Nix", 2, 18, 0}},
		{"nix (Nix) 2.35.0pre20260101_0123abc\n", Version{"Nix", 2, 35, 0}},
		{"nix (Nix) 2.28.0-dirty\n", Version{"Nix", 2, 28, 0}},
		{"nix (Lix, like Nix) 2.93.0\n", Version{"Lix, like Nix", 2, 93, 0}},
		{"nix (Determinate Nix 3.6.1) 2.29.0\n", Version{"Determinate Nix 3.6.1", 2, 29, 0}},
		{"nix 2.26.3\n", Version{}},
		{"", Version{}},
		{"nix (Nix) two\n", Version{}},
		{"nix (Nix) 2.26.3\nmore\n", Version{}},
		{"nix (\x1b[31mNix) 2.26.3\n", Version{}},
		{"nix (Nix) 99999999999999999999.1\n", Version{}},
	} {
		got, err := parseVersion(tc.in)
		if got != tc.want || (err != nil) != (tc.want == Version{}) {
			t.Errorf("parseVersion(%q) = %v, %v, want %v", tc.in, got, err, tc.want)
		}
	}
}

func TestVersionTooOld(t *testing.T) {
	for _, old := range []string{"nix (Nix) 2.8.0\n", "nix (Nix) 2.17.1\n", "nix (Nix) 1.11.16\n"} {
		f := newFake(t, Config{}, old, fake{})
		var ve *VersionError
		if _, err := f.Version(t.Context()); !errors.As(err, &ve) {
			t.Errorf("%q: %v, want a VersionError", old, err)
		}
		// Nothing else is run with it.
		if _, err := f.FlakeSource(t.Context(), "path:/x"); !errors.As(err, &ve) {
			t.Errorf("FlakeSource with %q: %v, want a VersionError", old, err)
		}
		if f.called() {
			t.Errorf("%q was run for more than its version", old)
		}
	}
}

func TestVersionIsAskedOnce(t *testing.T) {
	f := recorded(t, "2.26.3", "metadata")
	for range 3 {
		if _, err := f.Version(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if data, _ := os.ReadFile(filepath.Join(f.dir, "version-calls")); string(data) != "x\n" {
		t.Errorf("asked %d times", len(data)/2)
	}
	f.checkNothingLeft()
}
