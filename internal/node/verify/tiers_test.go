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
	const part = "as many as 10m0s allow"
	for _, test := range []struct {
		v    Verifier
		want bool
	}{
		{Verifier{}, false},
		{Verifier{ContentsBudget: 10 * time.Minute}, false},
		{Verifier{ContentsBudget: 10 * time.Minute, Ledger: noLedger{}}, true},
	} {
		got := planContents(&test.v, m)
		if !strings.HasPrefix(got, "hash 1 store paths, 1.0 MiB") || strings.Contains(got, part) != test.want {
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

// A new tier cannot be left out unseen.
func TestCheckSkip(t *testing.T) {
	want := []report.TierName{report.TierSource, report.TierEval, report.TierLive, report.TierContents, tierMachine}
	for _, tier := range append(tierNames(), "", "all") {
		if got := CheckSkip(tier) == nil; got != slices.Contains(want, tier) {
			t.Errorf("CheckSkip(%q) allows it: %v", tier, got)
		}
	}
}

// TestTiersAreDocumented: the documents list the tiers of a run in their order,
// and those that can be left out.
func TestTiersAreDocumented(t *testing.T) {
	names := func(words []report.TierName) string {
		var b strings.Builder
		for _, w := range words {
			b.WriteString(string(w) + " ")
		}
		return b.String()
	}
	listed := func(file, pattern, part string) string {
		data, err := os.ReadFile("../../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		var out []report.TierName
		section := regexp.MustCompile(part).FindString(string(data))
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(section, -1) {
			out = append(out, report.TierName(m[1]))
		}
		return names(out)
	}
	all := names(tierNames())
	if got := listed("README.md", `(?m)^\| (\w+) \|`, `(?s)\|---\|---\|\n\| release \|.*?\n\n`); got != all {
		t.Errorf("README.md lists the tiers %s, there are %s", got, all)
	}
	if got := listed("docs/design.md", `(?m)^\d+\. \*\*(\w+)\*\*`, `(?s)\n## A run\n.*?\n## `); got != all {
		t.Errorf("docs/design.md lists the tiers %s, there are %s", got, all)
	}
	var skippable []report.TierName
	for _, name := range Skippable() {
		skippable = append(skippable, report.TierName(name))
	}
	if got := listed("docs/configuration.md", "`(\\w+)`", "tiers that are left out: .*"); got != names(skippable) {
		t.Errorf("docs/configuration.md lists as left out %s, there are %s", got, names(skippable))
	}
}
