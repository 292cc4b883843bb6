package main

import (
	"context"
	"time"

	"every.channel/ec-verify/internal/config"
	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func newNix(c config.Config) *nix.Nix {
	return nix.New(nix.Config{BinDir: c.Nix.BinDir, Timeout: time.Duration(c.Nix.EvalTimeout)})
}

// evaluator is nix as the verifier sees it.
type evaluator struct {
	nix  *nix.Nix
	root string
}

func newEvaluator(c config.Config) evaluator { return evaluator{newNix(c), c.StoreRoot} }

func (e evaluator) Evaluate(ctx context.Context, source closure.StorePath, hash nar.Hash, configuration string) (closure.Toplevel, error) {
	got, err := e.nix.Evaluate(ctx, nix.EvalRequest{Root: e.root, Source: source, NarHash: hash, Configuration: configuration})
	return closure.Toplevel{DrvPath: got.DrvPath, OutPath: got.OutPath}, err
}

func (e evaluator) Version(ctx context.Context) (string, error) {
	v, err := e.nix.Version(ctx)
	if err != nil {
		return "", err
	}
	return v.String(), nil
}
