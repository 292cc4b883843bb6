package release

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// What a release consists of is known to others from docs/trust.md.
func TestAssetsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/trust.md")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the documents are no part of this source (nix/source.nix)")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		SumsName, BundleName, InfoName, ManifestName("NAME"), ListingName("NAME"), DerivationsName("NAME"),
	} {
		if !strings.Contains(string(data), "\n| `"+name+"` | ") {
			t.Errorf("docs/trust.md has nothing about %s", name)
		}
	}
}
