package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// tryEvaluation evaluates the flake as a machine will: in a sandbox, with the
// inputs that the closure has. It fails where that is not possible or gives
// another system, since no machine could verify the release then. Where a
// sandbox cannot be made here, it returns why.
func tryEvaluation(ctx context.Context, n *nix.Nix, store *nixstore.Store, m *closure.Manifest, src closure.StorePath) (untried string, err error) {
	sources, err := evalSources(store, m, src)
	if err != nil {
		return "", err
	}
	got, err := n.Evaluate(ctx, nix.EvalRequest{
		StoreDir: m.StoreDir, Configuration: m.Configuration, Flake: sources[0], Inputs: sources[1:],
	})
	var unfit *nix.EvaluationError
	switch {
	case errors.Is(err, nix.ErrConfinement):
		return err.Error(), nil
	case errors.As(err, &unfit):
		return "", fmt.Errorf("no machine could verify this release, since a machine evaluates the flake with nothing but the paths of its system: %w; add the inputs that the evaluation uses to system.extraDependencies", err)
	case err != nil:
		return "", err
	case got.DrvPath != m.Toplevel.DrvPath || got.OutPath != m.Toplevel.OutPath:
		return "", fmt.Errorf("no machine could verify this release: a machine evaluates the flake to %s, and Nix evaluates it to %s here", got.DrvPath, m.Toplevel.DrvPath)
	}
	return "", nil
}

// evalSources returns the flake's source, and those of its locked inputs that the
// closure has.
func evalSources(store *nixstore.Store, m *closure.Manifest, src closure.StorePath) ([]nix.EvalSource, error) {
	paths := m.Closure()
	source := func(p closure.StorePath) nix.EvalSource {
		info := paths[p]
		return nix.EvalSource{Store: store.File(), Name: p.Base(), NarHash: info.NarHash, NarSize: info.NarSize}
	}
	sources := []nix.EvalSource{source(src)}
	lock, err := store.ReadFile(src, "flake.lock", closure.MaxLockFile)
	if m.Source.LockNarHash.IsZero() {
		return sources, nil // it has none
	}
	if err != nil {
		return nil, fmt.Errorf("read the flake's lock file: %w", err)
	}
	locked, err := m.StoreDir.LockedSources(lock)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(locked)) {
		if info, ok := paths[p]; ok && info.NarHash == locked[p] && p != src {
			sources = append(sources, source(p))
		}
	}
	return sources, nil
}
