package verify

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// noLedger remembers nothing; a plan asks only whether there is a ledger.
type noLedger struct{}

func (noLedger) Begin(context.Context, string) (Recorder, error) { return nil, os.ErrInvalid }

// A plan with a budget doesn't promise to hash everything, unless there is
// nobody to answer for the rest.
func TestPlanContents(t *testing.T) {
	m := &closure.Manifest{Paths: []closure.PathInfo{{Path: "/nix/store/a", NarSize: 1 << 20}}}
	c := &candidate{manifest: m}
	const part = "as many as 10m0s allow"
	for _, test := range []struct {
		v    Verifier
		want bool
	}{
		{Verifier{}, false},
		{Verifier{ContentsBudget: 10 * time.Minute}, false},
		{Verifier{ContentsBudget: 10 * time.Minute, Ledger: noLedger{}}, true},
	} {
		got := planContents(&run{Verifier: &test.v, compared: compared{chosen: c, manifest: m}})
		if !strings.HasPrefix(got, "hash 1 store path, 1.0 MiB") || strings.Contains(got, part) != test.want {
			t.Errorf("%v: %s", test.v.ContentsBudget, got)
		}
	}
}

// tierNames returns the tiers in the order of a run.
func tierNames() []report.TierName {
	var out []report.TierName
	for _, t := range tiers() {
		out = append(out, t.name)
	}
	return out
}

// What everything is compared with can't be left out, nor what nobody asked for.
func TestCheckSkip(t *testing.T) {
	never := []report.TierName{report.TierRelease, report.TierRebuild, "", "all"}
	for _, tier := range append(tierNames(), "", "all") {
		if got := CheckSkip(tier) == nil; got == slices.Contains(never, tier) {
			t.Errorf("CheckSkip(%q) allows it: %v", tier, got)
		}
	}
}

// TestTiersAreDocumented: docs/design.md lists the tiers of a run in their order.
func TestTiersAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []report.TierName
	section := regexp.MustCompile(`(?s)\n## A run\n.*?\n## `).Find(data)
	for _, m := range regexp.MustCompile(`(?m)^\d+\. \*\*(\w+)\*\*`).FindAllSubmatch(section, -1) {
		got = append(got, report.TierName(m[1]))
	}
	if want := tierNames(); !slices.Equal(got, want) {
		t.Errorf("docs/design.md lists the tiers %s, there are %s", got, want)
	}
}
