package report

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for _, tc := range []struct{ s, want string }{
		{"", ""},
		{"/nix/store/x-y/bin/z", "/nix/store/x-y/bin/z"},
		{`"quoted" and 'single'`, `"quoted" and 'single'`},
		{"Grüße, 世界 🙂", "Grüße, 世界 🙂"},
		{"a b", "a b"},
		{`C:\x1b`, `C:\\x1b`}, // not what the next one gives
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"one\ntwo\r\n\tthree", `one\ntwo\r\n\tthree`},
		{"\x00\x07\x7f", `\x00\a\x7f`},
		{"caf\xe9", `caf\xe9`},
		{"\xed\xa0\x80", `\xed\xa0\x80`}, // half a surrogate pair
		{"\xc0\xaf", `\xc0\xaf`},         // a slash in two bytes
		{"\ufffd", "\ufffd"},             // the character itself is printable
		{"\u009b31m", `\u009b31m`},       // the one-character form of ESC [
		{"\u2028\u2029\u0085", `\u2028\u2029\u0085`},
		{"exe.\u202efdp", `exe.\u202efdp`}, // reads "exe.pdf"
		{"\u2066\u2069\u200f\u061c", `\u2066\u2069\u200f\u061c`},
		{"\u200b\u200d\ufeff\u00ad", `\u200b\u200d\ufeff\u00ad`},
		{"\u00a0\u3000", `\u00a0\u3000`}, // blanks that are no space
		{"\u3164\u115f\u2800", `\u3164\u115f\u2800`},
		{"a\ufe0f\U000e0100", `a\ufe0f\U000e0100`},
		{"\U000e0041", `\U000e0041`}, // an invisible letter
		{"\ue000", `\ue000`},         // whatever a font makes of it
	} {
		if got := Escape(tc.s); got != tc.want {
			t.Errorf("Escape(%+q) = %s, want %s", tc.s, got, tc.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"plain", `back\slash`, "\x1b[31m", "caf\xe9", "\u202e", `"`, "\xff\xfe\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("Escape(%+q) = %+q holds %+q", s, got, r)
			}
		}
		if !utf8.ValidString(got) {
			t.Errorf("Escape(%+q) = %+q is not UTF-8", s, got)
		}
		// Nothing else escapes to the same.
		back, err := strconv.Unquote(`"` + strings.ReplaceAll(got, `"`, `\"`) + `"`)
		if err != nil || back != s {
			t.Errorf("Escape(%+q) = %s, which stands for %+q, %v", s, got, back, err)
		}
	})
}

func TestEscapeBounded(t *testing.T) {
	for _, tc := range []struct {
		s     string
		limit int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"aé", 2, "a…"}, // not half of a character
		{"a世", 3, "a…"},
		{"a世b", 4, "a世…"},
		{"\xff\xff\xff", 2, `\xff\xff…`},
		{"a\x80\x80\x80\x80\x80", 5, `a\x80\x80\x80\x80…`}, // no character to cut
	} {
		if got := escapeBounded(tc.s, tc.limit); got != tc.want {
			t.Errorf("escapeBounded(%+q, %d) = %s, want %s", tc.s, tc.limit, got, tc.want)
		}
	}
}

func TestPrintableJSON(t *testing.T) {
	in := "{\n  \"a\": \"\u00e9\u4e16 <b>&\u202e\u009b31m\x7f\u200b\U000e0001\U0001f600\"\n}"
	want := "{\n  \"a\": \"\u00e9\u4e16 \\u003cb\\u003e\\u0026\\u202e\\u009b31m\\u007f\\u200b\\udb40\\udc01\U0001f600\"\n}"
	got := PrintableJSON([]byte(in))
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var a, b map[string]string
	if err := errors.Join(json.Unmarshal([]byte(in), &a), json.Unmarshal(got, &b)); err != nil || a["a"] != b["a"] {
		t.Errorf("%v: %q is read as %q", err, a, b)
	}
}
