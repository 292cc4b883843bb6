package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/verify"
	"every.channel/ec-verify/pkg/closure"
)

// plan says what a run would check. It opens the release, so that what it says
// is true, and touches nothing else.
func (a *app) plan(ctx context.Context, v *verify.Verifier) error {
	manifest, r := v.Manifest(ctx)
	if manifest == nil {
		if err := a.render(r, true); err != nil {
			return err
		}
		return verdictError{r.Verdict()}
	}
	where := "this machine"
	if v.Root != "" {
		where = "the disk at " + v.Root
	}
	fmt.Fprintf(a.stdout, "would compare %s with release %s (%s), from %s\n", report.Escape(where), r.Release.Tag, r.Configuration, report.Escape(r.Release.Source))
	for _, tier := range []struct {
		name report.TierName
		what string
	}{
		{report.TierSource, "hash the flake at " + v.Flake + " and its lock file"},
		{report.TierEval, "evaluate it offline, for " + string(manifest.Toplevel.DrvPath)},
		{report.TierLive, "compare what runs, booted and will boot with " + string(manifest.Toplevel.OutPath)},
		{report.TierContents, planContents(v, manifest)},
		{report.TierRebuild, planRebuild(v)},
	} {
		note := ""
		if slices.Contains(v.Skip, tier.name) {
			note = " (left out on request)"
		}
		fmt.Fprintf(a.stdout, "  %-9s %s%s\n", tier.name, report.Escape(tier.what), note)
	}
	return nil
}

func planContents(v *verify.Verifier, m *closure.Manifest) string {
	what := fmt.Sprintf("hash %d store paths, %s, and compare what Nix registered", len(m.Paths), humanize.IBytes(uint64(m.Closure().NarSize())))
	if v.ContentsBudget > 0 && v.Ledger != nil {
		what += fmt.Sprintf("; of these as many as %s allow, if earlier runs answer for the others", v.ContentsBudget)
	}
	return what
}

func planRebuild(v *verify.Verifier) string {
	if v.Rebuilder == nil {
		return "nothing (--rebuild none)"
	}
	return "build afresh what the policy chooses, in a scratch store, and compare it with the release"
}
