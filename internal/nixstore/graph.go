package nixstore

import (
	"context"
	"fmt"

	"every.channel/ec-verify/pkg/closure"
)

// Limits of a graph of derivations. A desktop system has some 20,000 with 100 MB; the
// largest single ones embed a configuration of some MB.
const (
	maxDerivations    = 500_000
	maxDerivationSize = 64 << 20
	maxGraphSize      = 2 << 30
)

// Graph is a set of derivations by the store paths of their .drv files.
type Graph map[closure.StorePath]*Derivation

// ReadDerivations reads root and all derivations that it is built from, at any depth,
// from the store. The name of each must be the hash of its contents, so that root
// authenticates the whole graph. The error wraps [fs.ErrNotExist] if a .drv file is
// missing, as on most machines that obtained their system ready-made, and is a
// [*DerivationError] if the contents of one do not match its name.
func ReadDerivations(ctx context.Context, store *Store, root closure.StorePath) (Graph, error) {
	graph := make(Graph)
	var size int64
	for todo := []closure.StorePath{root}; len(todo) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := graph[p]; ok {
			continue
		}
		data, err := store.ReadFile(p, "", maxDerivationSize)
		if err != nil {
			return nil, fmt.Errorf("read derivation: %w", err)
		}
		if size += int64(len(data)); size > maxGraphSize {
			return nil, fmt.Errorf("read derivations of %s: more than %d bytes", root, int64(maxGraphSize))
		}
		d, err := ParseDerivation(p, data)
		if err != nil {
			return nil, err
		}
		graph[p] = d
		if len(graph) > maxDerivations {
			return nil, fmt.Errorf("read derivations of %s: more than %d", root, maxDerivations)
		}
		for in := range d.InputDerivations {
			todo = append(todo, in)
		}
	}
	return graph, nil
}

// Derivers returns the derivation of each output in the graph. Several derivations may
// have the same output, such as a download that is described twice; the first by name is
// taken, so that the answer depends on the source alone, whatever happened to be built or
// fetched. Outputs whose path is not known beforehand are left out.
func (g Graph) Derivers() map[closure.StorePath]closure.StorePath {
	derivers := make(map[closure.StorePath]closure.StorePath)
	for p, d := range g {
		for _, out := range d.Outputs {
			if out.Path == "" {
				continue
			}
			if first, ok := derivers[out.Path]; !ok || p < first {
				derivers[out.Path] = p
			}
		}
	}
	return derivers
}

// ContentAddresses returns the content address of each fixed output of the
// graph, in Nix's form; see [Output.ContentAddress].
func (g Graph) ContentAddresses() (map[closure.StorePath]string, error) {
	addresses := make(map[closure.StorePath]string)
	for p, d := range g {
		for _, out := range d.Outputs {
			ca, err := out.ContentAddress()
			if err != nil {
				return nil, &DerivationError{Path: p, Reason: err.Error()}
			}
			if ca == "" || out.Path == "" {
				continue
			}
			if other, ok := addresses[out.Path]; ok && other != ca {
				return nil, &DerivationError{Path: p, Reason: fmt.Sprintf("output %s is also said to be %s", out.Path, other)}
			}
			addresses[out.Path] = ca
		}
	}
	return addresses, nil
}
