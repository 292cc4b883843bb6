package release

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const aHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseSums(t *testing.T) {
	good := aHash + "  a\n" + aHash + "  b.iso\n"
	s, err := ParseSums([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 2 || string(s.Encode()) != good {
		t.Errorf("Encode() = %q", s.Encode())
	}
	if d, ok := s.Digest("b.iso"); !ok || d.String() != aHash {
		t.Errorf("Digest = %v, %v", d, ok)
	}
	if _, ok := s.Digest("c"); ok {
		t.Error("has an asset that is not listed")
	}
}

func TestParseSumsRefuses(t *testing.T) {
	line := func(name string) string { return aHash + "  " + name + "\n" }
	var many strings.Builder
	for i := range MaxAssets + 1 {
		many.WriteString(line(fmt.Sprintf("a%06d", i)))
	}
	for _, c := range []struct{ name, data, want string }{
		{"empty", "", "empty"},
		{"slash", line("a/b"), "no directory"},
		{"parent", line("../a"), "not beginning with '.'"},
		{"dots", line(".."), "not beginning with '.'"},
		{"absolute", line("/etc/passwd"), "no directory"},
		{"dash", line("-rf"), "not beginning with '.' or '-'"},
		{"empty name", line(""), "asset name"},
		{"control", line("a\x1b[2J"), "asset name"},
		{"twice", line("a") + line("a"), "listed twice"},
		{"unsorted", line("b") + line("a"), "does not come after"},
		{"crlf", aHash + "  a\r\n", "CR LF"},
		{"short", aHash[1:] + "  a\n", "63 characters, want 64"},
		{"long", aHash + "0  a\n", "65 characters, want 64"},
		{"upper", strings.ToUpper(aHash) + "  a\n", "lower-case"},
		{"not hex", strings.Repeat("g", 64) + "  a\n", "lower-case"},
		{"binary mode", aHash + " *a\n", "two spaces"},
		{"one space", aHash + " a\n", "two spaces"},
		{"three spaces", aHash + "   a\n", "asset name"},
		{"escaped", `\` + aHash + "  a\n", "escaped"},
		{"no newline", aHash + "  a", "newline"},
		{"blank line", line("a") + "\n", "not a digest"},
		{"bsd", "SHA256 (a) = " + aHash + "\n", "6 characters, want 64"},
		{"itself", line(SumsName), "after the sums"},
		{"bundle", line(BundleName), "after the sums"},
		{"nul", line("a\x00"), "asset name"},
		{"many", many.String(), "more than 4096"},
		{"large", strings.Repeat("x", MaxSumsSize+1), "at most 1048576"},
	} {
		s, err := ParseSums([]byte(c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		} else if strings.ContainsAny(err.Error(), "\n\r\x00\x1b") {
			t.Errorf("%s: the error has control characters: %q", c.name, err)
		}
		if s.Len() != 0 {
			t.Errorf("%s: an error and a value", c.name)
		}
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(aHash + "  a\n" + aHash + "  b\n"))
	f.Add([]byte(aHash + "  ../a\n"))
	f.Add([]byte(`\` + aHash + "  a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSums(data)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), data) {
			t.Errorf("%q is accepted, but its one form is %q", data, s.Encode())
		}
		for name := range s.All() {
			if strings.ContainsAny(name, "/\\\x00") || name == "." || name == ".." {
				t.Errorf("accepts the name %q", name)
			}
		}
	})
}
