package publish

import (
	"context"
	"errors"
	"fmt"

	"every.channel/ec-verify/internal/flakelock"
	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// tryEvaluation evaluates the flake as a machine will: in a sandbox, with the inputs
// in the closure. It fails if that is impossible or gives another system, because
// then no machine could verify the release. If a sandbox can't be created here, it
// returns why.
func (c *creation) tryEvaluation(ctx context.Context, m *closure.Manifest) (untried string, err error) {
	paths := m.Closure()
	got, err := c.Evaluate(ctx, nix.EvalRequest{
		StoreDir: m.StoreDir, Configuration: m.Configuration, Dir: m.Source.Dir,
		Flake: evalSource(c.store, paths[c.src.Path]), Inputs: evalInputs(c.store, paths, c.inputs),
	})
	switch {
	case errors.Is(err, nix.ErrConfinement):
		return err.Error(), nil
	case errors.As(err, new(*nix.EvaluationError)):
		return "", fmt.Errorf("no machine could verify this release, since a machine evaluates the flake with nothing but the paths of its system: %w; add the inputs that the evaluation uses to system.extraDependencies", err)
	case err != nil:
		return "", err
	case got.DrvPath != m.Toplevel.DrvPath || got.OutPath != m.Toplevel.OutPath:
		return "", fmt.Errorf("no machine could verify this release: a machine evaluates the flake to %s, and Nix evaluates it to %s here", got.DrvPath, m.Toplevel.DrvPath)
	}
	return "", nil
}

// evalInputs returns the locked inputs that the closure contains.
func evalInputs(store *nixstore.Store, paths closure.Closure, inputs []flakelock.Input) []nix.EvalSource {
	var sources []nix.EvalSource
	for _, in := range inputs {
		if info, ok := paths[in.Path]; ok && info.NarHash == in.Hash {
			sources = append(sources, evalSource(store, info))
		}
	}
	return sources
}

func evalSource(store *nixstore.Store, info closure.PathInfo) nix.EvalSource {
	return nix.EvalSource{Store: store.File(), Name: info.Path.Base(), NarHash: info.NarHash, NarSize: info.NarSize}
}
