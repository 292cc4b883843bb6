package drvdiff

import (
	"slices"
	"strings"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// match pairs paths of two sides that have the same role: first those of the same name,
// then those whose names differ only in the version. If several qualify, the most similar
// are paired by the graphs, which are nil for sources. The remaining paths are returned
// ascending.
func match(want, got []closure.StorePath, wantGraph, gotGraph nixstore.Graph) (pairs []pair, restWant, restGot []closure.StorePath) {
	for _, key := range []func(closure.StorePath) string{closure.StorePath.Name, unversioned} {
		groups := make(map[string][2][]closure.StorePath)
		for side, paths := range [2][]closure.StorePath{want, got} {
			for _, p := range paths {
				g := groups[key(p)]
				g[side] = append(g[side], p)
				groups[key(p)] = g
			}
		}
		want, got = nil, nil
		for _, g := range groups {
			slices.Sort(g[0])
			slices.Sort(g[1])
			for len(g[0]) > 0 && len(g[1]) > 0 {
				w, best := g[0][0], 0
				for i := range g[1] {
					if likeness(wantGraph[w], gotGraph[g[1][i]]) > likeness(wantGraph[w], gotGraph[g[1][best]]) {
						best = i
					}
				}
				pairs = append(pairs, pair{w, g[1][best]})
				g[0], g[1] = g[0][1:], slices.Delete(g[1], best, best+1)
			}
			want, got = append(want, g[0]...), append(got, g[1]...)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	return pairs, want, got
}

// unversioned returns the name of p without the part that Nix takes as the version: from
// the first dash that no letter follows. The suffix ".drv" is left out.
func unversioned(p closure.StorePath) string {
	name := strings.TrimSuffix(p.Name(), ".drv")
	for i := 0; i+1 < len(name); i++ {
		if name[i] == '-' && (name[i+1] < 'A' || name[i+1] > 'Z') && (name[i+1] < 'a' || name[i+1] > 'z') {
			return name[:i]
		}
	}
	return name
}

// likeness counts what two derivations have in common.
func likeness(a, b *nixstore.Derivation) int {
	if a == nil || b == nil {
		return 0
	}
	n := 0
	for key, value := range a.Env {
		if b.Env[key] == value {
			n++
		}
	}
	for in := range a.InputDerivations {
		if _, ok := b.InputDerivations[in]; ok {
			n++
		}
	}
	if slices.Equal(a.Args, b.Args) {
		n++
	}
	return n
}
