package terminal

import (
	"strings"
	"testing"
	"time"
)

// What is not known is left out, and items are not shown as bytes.
func TestSampleWords(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Sample
		want string
	}{
		{"nothing counted", Sample{What: "eval"}, ""},
		{"none yet", Sample{What: "contents", Total: 4 << 20, Detail: "0/4 paths"}, "0 B of 4.0 MiB  0/4 paths"},
		{"bytes", Sample{What: "contents", Done: 1 << 20, Total: 4 << 20, Detail: "1/4 paths"}, "1.0 MiB of 4.0 MiB  1/4 paths  512 KiB/s  6s left"},
		{"items", Sample{What: "rebuild", Done: 1, Total: 4, Items: true, Detail: "1/4 derivations"}, "1/4 derivations  6s left"},
		{"more than announced", Sample{What: "fetch", Done: 2 << 20, Total: 1 << 20}, "2.0 MiB of 1.0 MiB  1.0 MiB/s  0s left"},
	} {
		if got := words(c.s.amount(), c.s.Detail, c.s.pace(2*time.Second)); got != c.want {
			t.Errorf("%s: %q; want %q", c.name, got, c.want)
		}
	}
}

// Two that are hashed at once have a line each, which no terminal breaks.
func TestSampleAt(t *testing.T) {
	look := Sample{At: []string{"linux-6.12", "systemd-257.10-with-a-long-name"}}
	var b strings.Builder
	if err := look.writeAt(&b, 20); err != nil || b.String() != "  linux-6.12\n  systemd-257.10-wi…\n" {
		t.Errorf("%v, %q", err, b.String())
	}
}
