package closure

import (
	"strings"
	"testing"

	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/nix-community/go-nix/pkg/storepath"
)

// digest is a valid one: 32 characters of Nix's base-32.
const digest = "0123456789abcdfghijklmnpqrsvwxyz"

func TestParseStoreDir(t *testing.T) {
	for _, tc := range []struct {
		s  string
		ok bool
	}{
		{"/nix/store", true},
		{"/s", true},
		{"/home/me/.local/share/nix/root/nix/store", true},
		{"/" + strings.Repeat("d", maxDirLen-1), true},
		{"/" + strings.Repeat("d", maxDirLen), false},
		{"", false},
		{"/", false},
		{"nix/store", false},
		{"./nix/store", false},
		{"/nix/store/", false},
		{"//nix/store", false},
		{"/nix//store", false},
		{"/nix/./store", false},
		{"/nix/../store", false},
		{"/nix/..", false},
		{"/nix/store\n", false},
		{"/nix/sto\x00re", false},
		{"/nix/\x1b[31mstore", false},
		{"/nix/store\x7f", false},
		{"/nix/my store", false},    // would split a list of paths
		{`/nix/"store"`, false},     // would end a JSON string
		{`/nix\store`, false},       // would begin an escape
		{"/nix/störe", false},       // a StorePath is ASCII
		{"/nix/\u202estore", false}, // reads backwards
		{"/nix/\xff", false},
	} {
		got, err := ParseStoreDir(tc.s)
		if ok := err == nil; ok != tc.ok {
			t.Errorf("ParseStoreDir(%.60q) = %v, want ok %v", tc.s, err, tc.ok)
		}
		if want := map[bool]string{true: tc.s}[tc.ok]; string(got) != want {
			t.Errorf("ParseStoreDir(%.60q) = %.60q, want %.60q", tc.s, got, want)
		}
	}
}

// bases are last components of paths, and why they are no store path, or "".
// The ones marked (go-nix) are what go-nix's parser takes.
var bases = []struct{ base, why string }{
	{digest + "-name", ""},
	{digest + "-x", ""},
	{digest + "-A.b+c-d_e?f=0", ""},
	{digest + "-.hidden", ""},
	{digest + "-...", ""},
	{digest + "-..x", ""},
	{digest + "--", ""},
	{digest + "-" + strings.Repeat("n", 211), ""},
	{digest + "-" + strings.Repeat("n", 212), "has 212 characters"}, // (go-nix)
	{"", "shorter than"},
	{digest, "shorter than"},
	{digest + "-", "shorter than"}, // (go-nix)
	{digest[1:] + "-name", "digest of 32"},
	{digest + "0-name", "no dash"},
	{digest + "xname", "no dash"},                                 // (go-nix)
	{strings.Replace(digest, "a", "e", 1) + "-name", "digest of"}, // e, o, t and u are none
	{strings.Replace(digest, "a", "A", 1) + "-name", "digest of"},
	{strings.Replace(digest, "a", "\xff", 1) + "-name", "digest of"},
	{digest + "-.", `begins with "."`},     // (go-nix)
	{digest + "-..", `begins with ".."`},   // (go-nix)
	{digest + "-.-x", `begins with "."`},   // (go-nix)
	{digest + "-..-x", `begins with ".."`}, // (go-nix)
	{digest + "-na/me", `character '/'`},
	{digest + "-name/", `character '/'`},                      // (go-nix)
	{digest + "-name/.", `character '/'`},                     // (go-nix)
	{digest + "-x/../" + digest[1:] + "0-y", `character '/'`}, // (go-nix)
	{digest + "-na\x00me", `character '\x00'`},
	{digest + "-name\n", `character '\n'`},
	{digest + "-\x1b[31mname", `character '\x1b'`},
	{digest + "-na me", `character ' '`},
	{digest + "-na~me", `character '~'`},
	{digest + "-naïve", "is not allowed"},
	{digest + "-\u202ename", "is not allowed"},
	{digest + "-\xff", "is not allowed"},
}

func TestParseBase(t *testing.T) {
	for _, tc := range bases {
		p, err := DefaultStoreDir.ParseBase(tc.base)
		checkParse(t, "ParseBase", tc.base, "/nix/store/"+tc.base, tc.why, p, err)
	}
}

func TestParse(t *testing.T) {
	for _, tc := range bases {
		s := "/nix/store/" + tc.base
		p, err := DefaultStoreDir.Parse(s)
		checkParse(t, "Parse", s, s, tc.why, p, err)
	}
	for _, s := range []string{
		"", "/", "/nix/store", digest + "-name", "nix/store/" + digest + "-name",
		"/nix/storex/" + digest + "-name", "/gnu/store/" + digest + "-name", // (go-nix)
		"/nix/store//" + digest + "-name", "/nix/store/../store/" + digest + "-name",
	} {
		p, err := DefaultStoreDir.Parse(s)
		if err == nil || p != "" {
			t.Errorf("Parse(%q) = %q, %v, want an error", s, p, err)
		}
	}
	if p, err := StoreDir("/gnu/store").Parse("/gnu/store/" + digest + "-name"); err != nil || p.Dir() != "/gnu/store" {
		t.Errorf("Parse in another store = %q, %v", p, err)
	}
}

func TestParseStorePath(t *testing.T) {
	for _, tc := range bases {
		if strings.Contains(tc.base, "/") {
			continue // another directory, and so another question
		}
		s := "/nix/store/" + tc.base
		p, err := ParseStorePath(s)
		checkParse(t, "ParseStorePath", s, s, tc.why, p, err)
	}
	for s, why := range map[string]string{
		"":                                  "not an absolute path",
		digest + "-name":                    "not an absolute path",
		"/" + digest + "-name":              "not in a store directory",
		"store/" + digest + "-name":         "not in a store directory",
		"/nix/../" + digest + "-name":       "not in a store directory",
		"/nix/store/" + digest + "-name/":   "shorter than",
		"/nix/store/" + digest + "-x/.":     "shorter than",
		"/nix/\u202estore/" + digest + "-x": "not in a store directory",
	} {
		p, err := ParseStorePath(s)
		checkParse(t, "ParseStorePath", s, s, why, p, err)
	}
}

// checkParse holds what a parser returned of s to what it should: the path
// want, or no path and an error that says why, in one line.
func checkParse(t *testing.T, parser, s, want, why string, got StorePath, err error) {
	t.Helper()
	switch {
	case why == "" && (err != nil || string(got) != want):
		t.Errorf("%s(%q) = %q, %v, want %q", parser, s, got, err, want)
	case why == "":
	case err == nil || got != "":
		t.Errorf("%s(%q) = %q, %v, want the error %q", parser, s, got, err, why)
	case !strings.Contains(err.Error(), why) || strings.ContainsAny(err.Error(), "\n\x1b\u202e"):
		t.Errorf("%s(%q): error %q, want one line with %q", parser, s, err, why)
	}
}

func TestParseErrorIsShort(t *testing.T) {
	_, err := DefaultStoreDir.Parse("/nix/store/" + strings.Repeat("\xff", 1<<20))
	if err == nil || len(err.Error()) > 2000 {
		t.Errorf("got an error of %d bytes, want some hundred", len(err.Error()))
	}
}

func TestWithin(t *testing.T) {
	top := "/nix/store/" + digest + "-top"
	for _, tc := range []struct {
		s, path, rest string // an empty path is for an error
	}{
		{top, top, ""},
		{top + "/", top, "/"},
		{top + "/bin/../init", top, "/bin/../init"}, // the rest is as it stands
		{"/nix/store/" + digest + "-..", "", ""},
		{"/nix/store/" + digest + "/x", "", ""},
		{"/nix/store//" + digest + "-top", "", ""},
		{"/nix/store", "", ""},
		{"/nix/store/", "", ""},
		{"/etc/passwd", "", ""},
		{"", "", ""},
	} {
		p, rest, err := DefaultStoreDir.Within(tc.s)
		if (err != nil) != (tc.path == "") || string(p) != tc.path || err == nil && rest != tc.rest {
			t.Errorf("Within(%q) = %q, %q, %v, want %q, %q", tc.s, p, rest, err, tc.path, tc.rest)
		}
	}
}

func TestStorePathParts(t *testing.T) {
	p := StorePath("/nix/store/" + digest + "-linux-6.12.drv")
	if p.Dir() != DefaultStoreDir || p.Digest() != digest || p.Name() != "linux-6.12.drv" || p.Base() != digest+"-linux-6.12.drv" {
		t.Errorf("parts of %s: dir %q, digest %q, name %q, base %q", p, p.Dir(), p.Digest(), p.Name(), p.Base())
	}
	for name, want := range map[string]bool{"x.drv": true, ".drv": true, "drv": false, "x.drv.chroot": false, "x-drv": false} {
		if got := StorePath("/nix/store/" + digest + "-" + name).IsDerivation(); got != want {
			t.Errorf("IsDerivation of %q = %v, want %v", name, got, want)
		}
	}
}

func TestStorePathUnmarshalText(t *testing.T) {
	p := StorePath("/nix/store/" + digest + "-before")
	if err := p.UnmarshalText([]byte("/nix/store/" + digest + "-..")); err == nil {
		t.Error("UnmarshalText of a malformed path succeeds")
	}
	if p.Name() != "before" {
		t.Errorf("after an error the path is %q, want it as it was", p)
	}
	if err := p.UnmarshalText([]byte("/nix/store/" + digest + "-after")); err != nil || p.Name() != "after" {
		t.Errorf("UnmarshalText = %v, and the path is %q", err, p)
	}
}

// Whatever we take, go-nix takes and reads the same; the opposite is not so.
func TestParseBaseAgreesWithGoNix(t *testing.T) {
	for _, tc := range bases {
		p, err := DefaultStoreDir.ParseBase(tc.base)
		if err != nil {
			continue
		}
		theirs, err := storepath.FromString(tc.base)
		if err != nil || theirs.Absolute() != string(p) || theirs.Name != p.Name() {
			t.Errorf("ParseBase(%q) = %q, go-nix has %v, %v", tc.base, p, theirs, err)
		}
	}
}

// TestDigestBytes: a digest may have what go-nix's base-32 decodes, at any place.
func TestDigestBytes(t *testing.T) {
	for c := range 256 {
		for i := range digestLen {
			digest := []byte(strings.Repeat("0", digestLen))
			digest[i] = byte(c)
			want := nixbase32.ValidateString(string(digest)) == nil
			if _, err := DefaultStoreDir.ParseBase(string(digest) + "-x"); (err == nil) != want {
				t.Errorf("%q: %v, want valid %t", digest, err, want)
			}
		}
	}
}
