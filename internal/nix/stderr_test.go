package nix

import (
	"slices"
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain äöü", "plain äöü"},
		{"\x1b[31;1merror:\x1b[0m x", "error: x"},
		{"a\tb\rc\x00d\x7fe\u0085f", "a bcdef"},
		{"\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "link"},
		{"\x1b]never ends", ""},
		{"\x1b[31", ""},
		{"\x1b", ""},
		{"\x1bcx", "x"},
		{"a\xffb", "a\ufffdb"},
		{"a\u202eb", "ab"},
	} {
		if got := printable(tc.in); got != tc.want {
			t.Errorf("printable(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{line: func(s string) { got = append(got, s) }}
	long := strings.Repeat("x", maxLine+10)
	for _, piece := range []string{"a", "b\nc\n", "\n", long[:maxLine-1], long[maxLine-1:], "\nlast"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	w.close()
	w.close()
	if want := []string{"ab", "c", "", long[:maxLine], "last"}; !slices.Equal(got, want) {
		t.Errorf("lines differ: %d of them", len(got))
	}
}

func TestTail(t *testing.T) {
	var kept tail
	for range 10_000 {
		kept.add(strings.Repeat("x", 100))
	}
	kept.add("last")
	if s := kept.String(); len(s) > maxTail || len(s) < maxTail/2 || !strings.HasSuffix(s, "x\nlast") {
		t.Errorf("kept %d bytes", len(s))
	}
	var one tail
	one.add(strings.Repeat("ä", maxTail))
	if s := one.String(); len(s) > maxTail || s == "" {
		t.Errorf("kept %d bytes of one long line", len(s))
	}
}

func TestErrorMessages(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"warning: x", nil},
		{"error:", nil},
		{"error: one", []string{"one"}},
		{"error:\n       … while\n\n       error: two\n       lines\n       at file:1:2:\n", []string{"two lines"}},
		{"error: one\nerror: two", []string{"one", "two"}},
		{"error: " + strings.Repeat("x", 10_000), []string{strings.Repeat("x", 600) + "…"}},
	} {
		if got := errorMessages(tc.in); !slices.Equal(got, tc.want) {
			t.Errorf("errorMessages(%.40q) = %.80q, want %q", tc.in, got, tc.want)
		}
	}
}
