package verify

import (
	"testing"

	"every.channel/ec-verify/internal/report"
)

// A mount in a store path is found by two tiers, of which one says what it is.
func TestFindOnce(t *testing.T) {
	r := &run{Verifier: &Verifier{}, report: &report.Report{}}
	over := func(path, got, detail string) report.Finding {
		return report.Finding{Cause: report.MountedOver, Path: path, Got: got, Detail: detail}
	}
	r.find(over("/nix/store/x/bin/y", "", ""))
	r.find(over("/nix/store", "", "no list of mounts"))
	for _, c := range []struct {
		f    report.Finding
		want int
	}{
		{over("/nix/store/x/bin/y", "ext4", ""), 2},
		{over("/nix/store", "tmpfs", ""), 3},
		{over("/nix/store", "tmpfs", ""), 3},
		{over("/nix/store", "overlay", ""), 4},
		{report.Finding{Cause: report.ForeignMount, Path: "/nix/store/x/bin/y", Got: "ext4"}, 5},
	} {
		if r.findOnce(c.f); len(r.report.Findings) != c.want {
			t.Errorf("after %+v: %d findings, want %d", c.f, len(r.report.Findings), c.want)
		}
	}
}
