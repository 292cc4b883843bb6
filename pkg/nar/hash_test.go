package nar

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nix-community/go-nix/pkg/nixhash"
)

// The digest of nothing, in the forms that nix hash convert prints.
const (
	emptySRI    = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	emptyBase32 = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
	emptyBase16 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

var emptyHash = Hash(sha256.Sum256(nil))

func TestParseHash(t *testing.T) {
	for _, s := range []string{emptySRI, emptyBase32, emptyBase16} {
		if got, err := ParseHash(s); err != nil || got != emptyHash {
			t.Errorf("ParseHash(%q) = %v, %v; want %v", s, got, err, emptyHash)
		}
	}
	if got := emptyHash.String(); got != emptySRI {
		t.Errorf("String = %q; want %q", got, emptySRI)
	}
	if got := emptyHash.Base32(); got != emptyBase32 {
		t.Errorf("Base32 = %q; want %q", got, emptyBase32)
	}
}

// TestHashIsNixhash holds the forms that are written and read here to go-nix's.
func TestHashIsNixhash(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		var h Hash
		for j := range h {
			h[j] = byte(random.Uint32() >> (i % 9)) // with many zeroes at times
		}
		other := nixhash.MustNewHash(nixhash.SHA256, h[:])
		if got, want := h.String(), other.Format(nixhash.SRI, true); got != want && !h.IsZero() {
			t.Errorf("String = %q, want %q", got, want)
		}
		for _, form := range []nixhash.Encoding{nixhash.SRI, nixhash.Base16, nixhash.NixBase32} {
			text := other.Format(form, true)
			if got, err := ParseHash(text); err != nil || got != h {
				t.Errorf("ParseHash(%q) = %v, %v", text, got, err)
			}
			// Another letter or digit is another hash, or none.
			at := len("sha256:") + random.IntN(len(text)-len("sha256:"))
			changed := text[:at] + string("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=\n"[random.IntN(66)]) + text[at+1:]
			got, err := ParseHash(changed)
			if parsed, other := nixhash.ParseAny(changed, nil); changed != text && err == nil && (other != nil || string(parsed.Digest()) != string(got[:]) || got == h) {
				t.Errorf("ParseHash(%q) = %v", changed, got)
			}
		}
	}
}

func TestParseHashRefuses(t *testing.T) {
	tests := map[string]string{
		"empty":                  "",
		"no algorithm":           strings.TrimPrefix(emptyBase16, "sha256:"),
		"algorithm alone":        "sha256-",
		"other algorithm":        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"longer algorithm":       "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
		"upper-case hex":         strings.ToUpper(emptyBase16[7:]),
		"upper-case digits":      "sha256:" + strings.ToUpper(emptyBase16[7:]),
		"hex with a dash":        "sha256-" + emptyBase16[7:],
		"base64 with a colon":    "sha256:" + emptySRI[7:],
		"base-32 with a dash":    "sha256-" + emptyBase32[7:],
		"no padding":             strings.TrimSuffix(emptySRI, "="),
		"more padding":           emptySRI + "=",
		"bits behind the digest": strings.TrimSuffix(emptySRI, "U=") + "V=",
		"base64 of a URL":        strings.ReplaceAll(strings.ReplaceAll(emptySRI, "+", "-"), "/", "_"),
		"base-32 too large":      "sha256:z" + emptyBase32[8:],
		"letter not in base-32":  "sha256:0e" + emptyBase32[9:],
		"digit short":            emptyBase16[:len(emptyBase16)-1],
		"space":                  emptySRI + " ",
		"newline":                emptyBase16 + "\n",
		"long":                   "sha256-" + strings.Repeat("A", 10_000),
	}
	for name, s := range tests {
		got, err := ParseHash(s)
		if err == nil || got != (Hash{}) {
			t.Errorf("%s: ParseHash(%q) = %v, %v; want an error", name, s, got, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%s: the message has %d bytes", name, len(err.Error()))
		}
	}
}

func TestHashZero(t *testing.T) {
	var zero Hash
	if !zero.IsZero() || zero.String() != "" || emptyHash.IsZero() {
		t.Errorf("zero: IsZero %v, String %q; of nothing: IsZero %v", zero.IsZero(), zero, emptyHash.IsZero())
	}
}

func TestHashText(t *testing.T) {
	b, err := json.Marshal(map[Hash]Hash{emptyHash: emptyHash})
	if want := `{"` + emptySRI + `":"` + emptySRI + `"}`; err != nil || string(b) != want {
		t.Fatalf("Marshal = %s, %v; want %s", b, err, want)
	}
	var back map[Hash]Hash
	if err := json.Unmarshal(b, &back); err != nil || back[emptyHash] != emptyHash {
		t.Errorf("Unmarshal = %v, %v", back, err)
	}
	for _, s := range []string{"", emptyBase16, emptyBase32, emptySRI[:20]} {
		h := emptyHash
		if err := h.UnmarshalText([]byte(s)); err == nil || h != emptyHash {
			t.Errorf("UnmarshalText(%q) = %v, %v; want an error and no change", s, h, err)
		}
	}
}

func TestHashCompare(t *testing.T) {
	low, high := Hash{1, 255}, Hash{2}
	for _, tt := range []struct {
		a, b Hash
		want int
	}{{low, high, -1}, {high, low, 1}, {low, low, 0}, {Hash{}, low, -1}} {
		if got := tt.a.Compare(tt.b); cmp.Compare(got, 0) != tt.want {
			t.Errorf("%v.Compare(%v) = %d; want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	for _, s := range []string{emptySRI, emptyBase32, emptyBase16, "", "sha256:", "sha256-A="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err != nil {
			if !h.IsZero() {
				t.Errorf("ParseHash(%q) = %v with %v", s, h, err)
			}
			return
		}
		// One digest has one spelling in each form, so s is one of the three.
		hex := "sha256:" + hexOf(h)
		if h.IsZero() {
			return
		}
		if s != h.String() && s != h.Base32() && s != hex {
			t.Errorf("ParseHash(%q) = %v, which is spelled otherwise", s, h)
		}
		for _, form := range []string{h.String(), h.Base32(), hex} {
			if back, err := ParseHash(form); err != nil || back != h {
				t.Errorf("ParseHash(%q) = %v, %v; want %v", form, back, err, h)
			}
		}
	})
}

func hexOf(h Hash) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range h {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}
