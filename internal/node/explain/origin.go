package explain

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/flakelock"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// Origin says what a path comes from, according to the release's files.
type Origin struct {
	// Commit is the commit that the release was built from; "" if it names none.
	Commit string `json:"commit"`
	// Deriver is the derivation of the path; "" for a source.
	Deriver closure.StorePath `json:"deriver,omitzero"`
	// Builder is the program of the derivation, with its arguments.
	Builder []excerpt.Raw `json:"builder"`
	// Fetched are the URLs of a fixed output.
	Fetched []excerpt.Raw `json:"fetched"`
	// Sources are the files and directories that the derivation uses as they are.
	Sources []closure.StorePath `json:"sources"`
	// FlakeSource means that the path is the flake's own source, or that the derivation
	// uses it.
	FlakeSource bool `json:"flakeSource"`
	// Inputs are the locked inputs that the path is, or that the derivation uses.
	Inputs []flakelock.Input `json:"inputs"`
	// All are the locked inputs of the flake, any of which may have defined the
	// derivation.
	All []flakelock.Input `json:"allInputs"`
}

// origin finds the origin of the path. If the release lacks data for that, it adds a note.
func (x *Explainer) origin(ctx context.Context, e *Explanation, m *closure.Manifest) error {
	o := &e.Origin
	o.Commit = x.Release.Info().Commit
	o.Deriver = e.Want.Deriver
	if e.Want.Path == "" {
		return nil
	}
	all, err := x.inputs(m)
	if err != nil {
		e.Notes = append(e.Notes, "the inputs of the flake are not known: "+err.Error())
	}
	o.All = all
	source := m.StoreDir.SourcePath(m.Source.NarHash, "source")
	mentions := []string{string(e.Path)}
	if o.Deriver != "" {
		drv, err := x.derivation(ctx, m, o.Deriver)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if errors.As(err, new(*release.UntrustedError)) {
				return err
			}
			e.Notes = append(e.Notes, "the contents of the derivation are unknown: "+err.Error())
			return nil
		}
		mentions = o.take(drv)
	}
	has := func(p closure.StorePath) bool {
		return slices.ContainsFunc(mentions, func(s string) bool { return strings.Contains(s, string(p)) })
	}
	o.FlakeSource = has(source)
	for _, in := range all {
		if has(in.Path) {
			o.Inputs = append(o.Inputs, in)
		}
	}
	return nil
}

// take keeps the useful parts of a derivation, and returns all its texts that may name a
// source.
func (o *Origin) take(d *nixstore.Derivation) (mentions []string) {
	mentions = append([]string{d.Builder}, d.Args...)
	o.Builder = excerpt.NewRaws(mentions)
	o.Sources = d.InputSources
	for _, output := range d.Outputs {
		if output.Hash == "" {
			continue
		}
		for _, name := range []string{"url", "urls"} {
			o.Fetched = append(o.Fetched, excerpt.NewRaws(strings.Fields(d.Env[name]))...)
		}
	}
	for _, p := range d.InputSources {
		mentions = append(mentions, string(p))
	}
	return slices.AppendSeq(mentions, maps.Values(d.Env))
}

// derivation returns a derivation of the release.
func (x *Explainer) derivation(ctx context.Context, m *closure.Manifest, p closure.StorePath) (*nixstore.Derivation, error) {
	var graph nixstore.Graph
	err := x.asset(ctx, release.DerivationsName(x.Configuration), func(r io.Reader) error {
		var err error
		graph, err = drvdiff.Read(r, x.Configuration, m.Toplevel.DrvPath)
		return err
	})
	if err != nil {
		return nil, err
	}
	if d := graph[p]; d != nil {
		return d, nil
	}
	return nil, errors.New("the release's derivations do not have " + string(p))
}

// inputs returns the locked inputs of the release's flake, from the lock file in the
// store if that is the release's.
func (x *Explainer) inputs(m *closure.Manifest) ([]flakelock.Input, error) {
	if m.Source.LockNarHash.IsZero() {
		return nil, nil
	}
	lock, err := x.Store.ReadFile(m.StoreDir.SourcePath(m.Source.NarHash, "source"), m.Source.LockFile(), flakelock.MaxSize)
	if err != nil {
		return nil, err
	}
	b := nar.NewBuilder(nil)
	if err := b.Add(nar.Entry{Type: nar.Regular, Size: int64(len(lock))}); err != nil {
		return nil, err
	}
	if _, err := b.Write(lock); err != nil {
		return nil, err
	}
	sum, err := b.Sum()
	if err != nil {
		return nil, err
	}
	if sum.Hash != m.Source.LockNarHash {
		return nil, errors.New("the lock file in the store is not the release's")
	}
	return flakelock.Parse(m.StoreDir, lock)
}

func contentHash(data []byte) nar.Hash { return nar.Hash(sha256.Sum256(data)) }
