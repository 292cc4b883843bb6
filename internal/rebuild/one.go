package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"every.channel/ec-verify/pkg/closure"
)

// One builds the derivation drv alone, whatever the policy is, and calls look with the
// root of the scratch store that has its outputs, before they are removed. If nothing was
// built, the error says why. Other errors are those of [Rebuilder.Rebuild] and of look.
func (r *Rebuilder) One(ctx context.Context, req Request, drv closure.StorePath, look func(ctx context.Context, root string) error) error {
	run, err := r.begin(ctx, req, new(Progress))
	if run == nil {
		return classify(ctx, err)
	}
	if want := req.Manifest.Toplevel.DrvPath; err == nil && run.toplevel != want {
		err = &DriftError{Want: want, Got: run.toplevel}
	}
	if err != nil {
		return classify(ctx, errors.Join(err, run.close()))
	}
	return errors.Join(run.one(ctx, drv, look), run.close())
}

func (r *run) one(ctx context.Context, drv closure.StorePath, look func(ctx context.Context, root string) error) error {
	candidates, _ := Candidates(r.graph, r.req.Manifest)
	at := slices.IndexFunc(candidates, func(c Candidate) bool { return c.Derivation == drv })
	switch {
	case at < 0:
		return fmt.Errorf("%s is no derivation of the system whose output paths are known before it is built", drv)
	case candidates[at].Fixed:
		return fmt.Errorf("%s is fixed-output: its hash is known and it only fetches, so that there is nothing to rebuild", drv)
	}
	var looked error
	r.built = func(ctx context.Context, root string) error {
		looked = look(ctx, root)
		return looked
	}
	result := r.step(ctx, 0, Step{Candidate: candidates[at]})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case looked != nil:
		return looked
	case result.Status == Reproduced, result.Status == Differs:
		return nil
	case result.Input.Path != "":
		return fmt.Errorf("%s was not built, because its input %s differs from the release's (%s): %s", drv, result.Input.Path, result.Status, result.Detail)
	}
	return fmt.Errorf("%s was not built (%s): %s", drv, result.Status, result.Detail)
}
