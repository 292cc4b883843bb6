package main

import (
	"testing"
	"time"
)

// What is not known is left out, and items are not shown as bytes.
func TestSampleWords(t *testing.T) {
	for _, c := range []struct {
		name string
		s    sample
		want string
	}{
		{"nothing counted", sample{what: "eval"}, ""},
		{"none yet", sample{what: "contents", total: 4 << 20, detail: "0/4 paths"}, "0 B of 4.0 MiB  0/4 paths"},
		{"bytes", sample{what: "contents", done: 1 << 20, total: 4 << 20, detail: "1/4 paths"}, "1.0 MiB of 4.0 MiB  1/4 paths  512 KiB/s  6s left"},
		{"items", sample{what: "rebuild", done: 1, total: 4, items: true, detail: "1/4 derivations"}, "1/4 derivations  6s left"},
		{"more than announced", sample{what: "fetch", done: 2 << 20, total: 1 << 20}, "2.0 MiB of 1.0 MiB  1.0 MiB/s  0s left"},
	} {
		if got := words(c.s.amount(), c.s.detail, c.s.pace(2*time.Second)); got != c.want {
			t.Errorf("%s: %q; want %q", c.name, got, c.want)
		}
	}
}
