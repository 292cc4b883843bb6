package verify

import (
	"context"
	"errors"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
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
	got, err := r.evaluate(ctx, src)
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

// evaluate evaluates the source as it lies there. One that Nix knows by just
// this hash is read where it is. Any other one Nix would first copy into the
// store, so that it is evaluated in a scratch store instead.
func (r *run) evaluate(ctx context.Context, src source) (closure.Toplevel, error) {
	if r.outside() || r.isRegistered(ctx, src) {
		return r.Evaluator.Evaluate(ctx, src.path, src.hash, r.manifest.Configuration)
	}
	if r.Explainer == nil {
		return closure.Toplevel{}, errors.New("the source is not what Nix registered, and there is no scratch store to evaluate it in")
	}
	graph, drv, err := r.derivations(ctx, src)
	if err != nil {
		return closure.Toplevel{}, err
	}
	return closure.Toplevel{DrvPath: drv, OutPath: graph[drv].Outputs["out"].Path}, nil
}

// isRegistered reports whether Nix registered the source with the hash that it
// has on disk.
func (r *run) isRegistered(ctx context.Context, src source) bool {
	db, err := r.openDatabase(ctx)
	if err != nil {
		return false
	}
	info, err := db.PathInfo(ctx, src.path)
	return err == nil && info.NarHash == src.hash
}
