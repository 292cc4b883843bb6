package verify

import (
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// A rebuild explains what was found of the release that was rebuilt, and not what the
// same path is to another one.
func TestRebuildExplainsItsOwnRelease(t *testing.T) {
	const p closure.StorePath = "/nix/store/a"
	released, found := nar.Hash{1}, nar.Hash{2}
	for _, test := range []struct {
		rebuilt nar.Hash
		want    report.Cause
	}{
		{nar.Hash{}, closure.ReplacedUnexplained},
		{released, closure.CoverUp},
		{found, closure.OtherBuild},
		{nar.Hash{3}, closure.ReplacedUnexplained},
	} {
		finding := report.Finding{Tier: report.TierContents, Cause: closure.ReplacedUnexplained, Path: string(p)}
		other := finding
		other.Release = "another"
		r := &run{
			report:   &report.Report{Findings: []report.Finding{finding, other}},
			contents: contentsResult{witnesses: map[closure.StorePath]closure.Witnesses{p: {Manifest: released, Disk: found, Database: found}}},
			rebuilt:  map[closure.StorePath]nar.Hash{p: test.rebuilt},
		}
		r.explainReplaced()
		if got := r.report.Findings; got[0].Cause != test.want || got[1].Cause != closure.ReplacedUnexplained {
			t.Errorf("rebuilt as %v: %s, and of another release %s; want %s", test.rebuilt, got[0].Cause, got[1].Cause, test.want)
		}
	}
}
