package node

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Long work names what it is at.
func TestLongWorkNamesItself(t *testing.T) {
	for _, tc := range []struct {
		s    terminal.Sample
		want string
	}{
		{hashed(nar.Counts{Files: 3, Bytes: 5 << 20}, []string{"/nix/store/x-one"}, 0), "hash: 5.0 MiB in 3 files  x-one"},
		{hashed(nar.Counts{Files: 1, Bytes: 7}, []string{"/a", "/b\x1b[2J"}, 1), `hash: 1/2 paths  7 B in 1 file  b\x1b[2J`},
		{
			lookAt(verify.Snapshot{Tier: report.TierRebuild, Rebuild: rebuild.ProgressSnapshot{
				Done: 3, Total: 41, Current: "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-etc.drv",
			}}), "rebuild: 3/41 derivations  etc",
		},
		{lookAt(verify.Snapshot{Tier: report.TierRebuild, Rebuild: rebuild.ProgressSnapshot{Total: 41}}), "rebuild: 0/41 derivations"},
		{lookAt(verify.Snapshot{Tier: "machine", Parts: 2, PartsTotal: 5}), "machine: 2/5 parts"},
	} {
		if got := tc.s.String(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// What is hashed is named, each by itself.
func TestHashingIsNamed(t *testing.T) {
	look := lookAt(verify.Snapshot{
		Tier: report.TierContents, PathsTotal: 3, BytesTotal: 1,
		Hashing: [2]closure.StorePath{"", "/nix/store/00000000000000000000000000000000-linux-6.12"},
	})
	if !slices.Equal(look.At, []string{"linux-6.12"}) {
		t.Errorf("%q", look.At)
	}
}

// A run that waits for a source names it each time, and says once that --offline avoids it.
func TestWaits(t *testing.T) {
	for _, offline := range []bool{false, true} {
		var stderr bytes.Buffer
		say := (&app{terminal.New(nil, &stderr)}).waits(offline)
		say("SHA256SUMS.txt: timeout from https://forge.example; asking again (1 of 4)")
		say("SHA256SUMS.txt: timeout from https://forge.example\x1b; asking again (2 of 4)")
		if got := stderr.String(); strings.Count(got, "asking again") != 2 || strings.Count(got, "--offline") != map[bool]int{false: 1, true: 0}[offline] || strings.Contains(got, "\x1b") {
			t.Errorf("offline %v: %s", offline, got)
		}
	}
}
