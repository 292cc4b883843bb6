package main

import (
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
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

// Two that are hashed at once have a line each, which no terminal breaks.
func TestSampleAt(t *testing.T) {
	look := lookAt(verify.Snapshot{
		Tier: report.TierContents, PathsTotal: 3, BytesTotal: 1,
		Hashing: [2]closure.StorePath{"/nix/store/00000000000000000000000000000000-linux-6.12", "/nix/store/11111111111111111111111111111111-systemd-257.10-with-a-long-name"},
	})
	var b strings.Builder
	if err := look.writeAt(&b, 20); err != nil || b.String() != "  linux-6.12\n  systemd-257.10-wi…\n" {
		t.Errorf("%v, %q", err, b.String())
	}
}
