package verify

import (
	"context"
	"errors"

	"every.channel/ec-verify/internal/report"
)

// checkEval evaluates the embedded flake as it lies there and compares the
// derivation and path of the system with the release's.
func (r *run) checkEval(ctx context.Context, t *report.Tier) error {
	version, err := r.Evaluator.Version(ctx)
	if err != nil {
		return &failure{cause: report.EvaluationFailed, err: err}
	}
	r.report.Nix = version
	src, err := r.findSource(ctx)
	var absent *failure
	if errors.As(err, &absent) {
		absent.consequence = r.explaining(absent.path, report.TierSource)
	}
	if err != nil {
		return err
	}
	got, err := r.Evaluator.Evaluate(ctx, src.path, src.hash, r.manifest.Configuration)
	if err != nil {
		return &failure{cause: report.EvaluationFailed, path: string(src.path), err: err}
	}
	t.Checked++
	want := r.manifest.Toplevel
	var consequence report.Cause
	if r.sourceDiff {
		consequence = report.SourceAltered
	}
	note := ""
	if got.DrvPath != want.DrvPath {
		var explained bool
		if explained, note = r.explainDrift(ctx, src, consequence); explained && consequence == "" {
			consequence = report.DerivationDiffers
		}
	}
	if got.DrvPath != want.DrvPath {
		r.find(report.Finding{
			Tier: report.TierEval, Cause: report.EvaluationDrift, Path: string(src.path), Field: "drvPath",
			Want: string(want.DrvPath), Got: string(got.DrvPath), Detail: note, ConsequenceOf: consequence,
		})
	}
	if got.OutPath != want.OutPath {
		r.find(report.Finding{
			Tier: report.TierEval, Cause: report.EvaluationDrift, Path: string(src.path), Field: "outPath",
			Want: string(want.OutPath), Got: string(got.OutPath), ConsequenceOf: consequence,
		})
	}
	return nil
}
