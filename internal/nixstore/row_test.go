package nixstore

import (
	"strings"
	"testing"
)

// TestContentAddress is of each algorithm that Nix has: base 32 takes as many
// characters as there are here.
func TestContentAddress(t *testing.T) {
	for algo, digits := range map[string]int{"md5": 26, "sha1": 32, "sha256": 52, "sha512": 103, "blake3": 52} {
		for _, method := range []string{"fixed:", "fixed:r:", "fixed:git:", "text:"} {
			if ca := method + algo + ":" + strings.Repeat("0", digits); !contentAddress().MatchString(ca) {
				t.Errorf("%s is refused", ca)
			}
		}
	}
	for _, ca := range []string{"", "fixed:md5:", "fixed:sha256", "fixed:sha256:" + strings.Repeat("0", 25), "source:sha256:" + strings.Repeat("0", 52), "fixed:r:sha256:" + strings.Repeat("A", 52), "fixed:r:sha256:" + strings.Repeat("0", 52) + "\n"} {
		if contentAddress().MatchString(ca) {
			t.Errorf("%q is accepted", ca)
		}
	}
}
