package verify

import (
	"context"
	"fmt"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// Explainer returns the derivations to which the embedded flake evaluates.
type Explainer interface {
	// Derivations evaluates the source, whose NAR hash is that of the manifest
	// in the request, and returns all derivations, and that of the system.
	Derivations(ctx context.Context, req rebuild.Request) (nixstore.Graph, closure.StorePath, error)
}

// maxDifferences limits the findings that explain one drift.
const maxDifferences = 100

// explainDrift adds a finding for each derivation that differs from the release's by
// itself, and reports whether there is any. The note is for the finding about the drift:
// a comment on the explanation, or why there is none.
func (r *run) explainDrift(ctx context.Context, src source, consequence report.Cause) (explained bool, note string) {
	if r.Explainer == nil {
		return false, ""
	}
	differences, all, err := r.compareDerivations(ctx, src)
	switch {
	case ctx.Err() != nil:
		return false, ""
	case err != nil:
		return false, fmt.Sprintf("the reason is unknown: %v", err)
	}
	for _, d := range differences[:min(len(differences), maxDifferences)] {
		f := report.Finding{
			Tier: report.TierEval, Cause: report.DerivationDiffers, Path: string(d.Got), Field: d.Field,
			Want: d.WantValue, Got: d.GotValue, ConsequenceOf: consequence,
			Detail: "the release has " + string(d.Want),
		}
		if d.Derivations > 1 {
			f.Detail = "and of " + report.Quantity(d.Derivations-1, "derivation") + " more"
		}
		r.find(f)
	}
	note = fmt.Sprintf("other derivations: %d; differences that make them so: %d", all, len(differences))
	if len(differences) > maxDifferences {
		note += fmt.Sprintf(", of which %d are listed", maxDifferences)
	}
	return len(differences) > 0, note
}

// compareDerivations compares the release's derivations with the flake's.
func (r *run) compareDerivations(ctx context.Context, src source) (differences []drvdiff.Difference, all int, err error) {
	configuration, toplevel := r.manifest.Configuration, r.manifest.Toplevel.DrvPath
	asset, err := r.chosen.Release.Asset(ctx, release.DerivationsName(configuration))
	if err != nil {
		return nil, 0, err
	}
	defer asset.Close()
	want, err := drvdiff.Read(asset, configuration, toplevel)
	if err != nil {
		return nil, 0, err
	}
	// The source on this machine, which need not be the release's.
	manifest := *r.manifest
	manifest.Source.NarHash = src.sum.Hash
	got, gotToplevel, err := r.Explainer.Derivations(ctx, rebuild.Request{Root: r.Root, Manifest: &manifest, Source: src.path})
	if err != nil {
		return nil, 0, err
	}
	differences, all = drvdiff.Compare(want, got, toplevel, gotToplevel)
	return differences, all, nil
}
