package release

import (
	"slices"
	"strings"
	"testing"
)

func TestParseTag(t *testing.T) {
	for _, s := range []string{"boot-v2026.02.28", "v1", "1.0+build_3", strings.Repeat("a", 128)} {
		if got, err := ParseTag(s); err != nil || string(got) != s {
			t.Errorf("ParseTag(%q) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".", "..", "-v", ".hidden", "a/b", "a\\b", "a b", "a\n", "a\x1b[0m", "a%2f", "ä", "a?b", "a#b", "a:b", strings.Repeat("a", 129)} {
		if got, err := ParseTag(s); err == nil || got != "" {
			t.Errorf("ParseTag(%q) = %q, want an error", s, got)
		} else if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("ParseTag(%q): the error has control characters", s)
		}
	}
}

func TestCompareTags(t *testing.T) {
	want := []Tag{"boot-v2026.2.9", "boot-v2026.02.28-beta.2", "boot-v2026.02.28-rc1", "boot-v2026.02.28-rc2", "boot-v2026.02.28", "boot-v2026.02.28+b", "boot-v2026.02.28-a", "boot-v2026.02.28-prefix", "boot-v2026.02.28.1", "boot-v2026.2.100", "boot-v2026.10.1", "boot-v2027.1.1", "other"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareTags)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if compareTags("1.0", "1.00") == 0 {
		t.Error("two tags compare equal")
	}
}

func TestLatestForm(t *testing.T) {
	for tag, want := range map[Tag]bool{"boot-v2026.02.28": true, "boot-v1": true, "boot-v": false, "boot-vx": false, "v1": false, "xboot-v1": false} {
		if got := tag.MayBeLatest(); got != want {
			t.Errorf("%s: %v, want %v", tag, got, want)
		}
	}
}
