package verify

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"every.channel/ec-verify/internal/flakelock"
	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func planEval(r *run) string {
	return "evaluate it offline, for " + string(r.manifest.Toplevel.DrvPath)
}

// checkEval evaluates the embedded flake and compares the derivation and path of the
// system with the release's.
func (r *run) checkEval(ctx context.Context, t *report.Tier) error {
	version, err := r.Evaluator.Version(ctx)
	if err != nil {
		return &failure{cause: report.EvaluationFailed, err: err}
	}
	r.report.Nix = version.String()
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
		return err
	}
	t.Checked++
	want := r.manifest.Toplevel
	consequence := r.explaining(string(src.path), report.TierSource)
	if got.DrvPath != want.DrvPath {
		explained, note := r.explainDrift(ctx, src, consequence)
		if explained && consequence == "" {
			consequence = report.DerivationDiffers
		}
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

// evaluate evaluates the source with those of its locked inputs that the store has. It
// evaluates only what was hashed; of another machine's disk or a candidate it evaluates
// only the release's source. An altered flake is evaluated only on its own machine, to
// explain what it changes.
func (r *run) evaluate(ctx context.Context, src source) (nix.Evaluation, error) {
	fail := &failure{cause: report.EvaluationFailed, path: string(src.path)}
	if (r.outside() || r.System != "") && src.sum.Hash != r.manifest.Source.NarHash {
		fail.consequence = report.SourceAltered
		fail.err = errors.New("it is not the release's source, and a source of another machine, or of a candidate, is not evaluated")
		return nix.Evaluation{}, fail
	}
	inputs, bad, err := r.lockedInputs(ctx, src)
	if err != nil {
		return nix.Evaluation{}, err
	}
	got, err := r.Evaluator.Evaluate(ctx, nix.EvalRequest{
		StoreDir: r.StoreDir, Configuration: r.manifest.Configuration, Dir: r.manifest.Source.Dir,
		Flake: r.evalSource(src.path, src.sum), Inputs: inputs, Used: r.progress.evaluated,
	})
	var unfit *nix.EvaluationError
	if errors.As(err, &unfit) && bad != nil {
		// Without that input there is nothing else to be said of the evaluation.
		return nix.Evaluation{}, bad
	}
	if err != nil {
		fail.err = err
		return nix.Evaluation{}, fail
	}
	return got, nil
}

func (r *run) evalSource(p closure.StorePath, sum nar.Sum) nix.EvalSource {
	return nix.EvalSource{Store: r.store.File(), Name: p.Base(), NarHash: sum.Hash, NarSize: sum.Size}
}

// lockedInputs returns the inputs in the flake's lock file that the store has, if they
// are what the lock file says. A differing input is left out; bad describes the first
// one, in case the evaluation fails without it.
func (r *run) lockedInputs(ctx context.Context, src source) (inputs []nix.EvalSource, bad *failure, err error) {
	lock, err := r.store.ReadFile(src.path, r.manifest.Source.LockFile(), flakelock.MaxSize)
	if isAbsent(err) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, &failure{cause: report.SourceUnreadable, path: string(src.path) + "/" + r.manifest.Source.LockFile(), err: err}
	}
	locked, err := flakelock.Parse(r.StoreDir, lock)
	if err != nil {
		return nil, nil, &failure{cause: report.EvaluationFailed, path: string(src.path) + "/" + r.manifest.Source.LockFile(), err: err}
	}
	seen := map[closure.StorePath]bool{src.path: true}
	for _, in := range locked {
		p := in.Path
		if seen[p] {
			continue // many nodes may lock one source, which is hashed once
		}
		seen[p] = true
		sum, err := r.hashSourceTree(ctx, p)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case isAbsent(err):
			continue // not every input is needed; the evaluation names the missing one
		case err == nil && sum.Hash == in.Hash:
			inputs = append(inputs, r.evalSource(p, sum))
			continue
		case err == nil:
			err = fmt.Errorf("the flake's input has the NAR hash %s, and the lock file states %s", sum.Hash, in.Hash)
		}
		if bad == nil {
			bad = &failure{cause: report.EvaluationFailed, path: string(p), err: err}
			if _, ours := r.manifest.Closure()[p]; ours {
				bad.consequence = closure.DiskAltered
			}
		}
	}
	return inputs, bad, nil
}
