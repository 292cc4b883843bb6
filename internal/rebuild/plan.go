package rebuild

import (
	"cmp"
	"slices"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Candidate is a derivation that makes paths of a manifest.
type Candidate struct {
	Derivation closure.StorePath
	// Outputs are the outputs that are in the manifest, by name; there is at least one.
	Outputs map[string]Wanted
	// Fixed means that the derivation states the outputs' hashes beforehand: they are
	// compared with that and not built.
	Fixed bool
}

// Wanted is a manifest's statement about an output.
type Wanted struct {
	Path closure.StorePath
	Hash nar.Hash
}

// Candidates returns the derivations of the graph that make paths of the manifest, in
// ascending order. Uncomparable are the paths, also ascending, that have a deriver which
// does not state their store path beforehand, as content-addressed derivations do not: no
// rebuild can say anything about them. The graph is that of the manifest's toplevel.
func Candidates(graph nixstore.Graph, m *closure.Manifest) (candidates []Candidate, uncomparable []closure.StorePath) {
	derivers := graph.Derivers()
	found := make(map[closure.StorePath]*Candidate)
	for _, info := range m.Paths {
		drv, ok := derivers[info.Path]
		if !ok {
			if info.Deriver != "" {
				uncomparable = append(uncomparable, info.Path)
			}
			continue
		}
		c := found[drv]
		if c == nil {
			c = &Candidate{Derivation: drv, Outputs: make(map[string]Wanted)}
			found[drv] = c
		}
		for name, out := range graph[drv].Outputs {
			if out.Path == info.Path {
				c.Outputs[name] = Wanted{info.Path, info.NarHash}
				c.Fixed = c.Fixed || out.Hash != ""
			}
		}
	}
	for _, c := range found {
		candidates = append(candidates, *c)
	}
	slices.SortFunc(candidates, func(a, b Candidate) int { return cmp.Compare(a.Derivation, b.Derivation) })
	slices.Sort(uncomparable)
	return candidates, uncomparable
}

// Step is one derivation to rebuild.
type Step struct {
	Candidate
	// Last is when it was last rebuilt; zero for never or unknown.
	Last Last
}

// Last is when a derivation was last rebuilt, with any result. The zero value is never.
type Last struct {
	// Run is the number of that run; later runs have greater numbers. A time would not
	// do, because clocks jump.
	Run int64
	// Drifted means that the last completed build differed from the manifest.
	Drifted bool
}

// Choose returns the candidates that the policy selects; for a sample, all of them.
func (p Policy) Choose(graph nixstore.Graph, candidates []Candidate) []Step {
	var steps []Step
	for _, c := range candidates {
		if p.selects(&c, graph[c.Derivation]) {
			steps = append(steps, Step{Candidate: c})
		}
	}
	return steps
}

// Unmatched returns the policy's patterns, in its order, that match no candidate; none if
// the policy selects without patterns.
func (p Policy) Unmatched(graph nixstore.Graph, candidates []Candidate) []Pattern {
	if p.Choice != FirstParty {
		return nil
	}
	var out []Pattern
	for _, pattern := range p.FirstParty {
		if !slices.ContainsFunc(candidates, func(c Candidate) bool { return pattern.Matches(graph[c.Derivation]) }) {
			out = append(out, pattern)
		}
	}
	return out
}

// selects reports whether the policy selects c, whose derivation is d.
func (p Policy) selects(c *Candidate, d *nixstore.Derivation) bool {
	switch p.Choice {
	case All, Sample:
		return true
	case Config:
		return isCheap(c, d)
	case FirstParty:
		return slices.ContainsFunc(p.FirstParty, func(pattern Pattern) bool { return pattern.Matches(d) })
	}
	return false
}

// Plan puts steps into the order in which they are taken: first those whose last rebuild
// differed, then those never rebuilt, then those rebuilt longest ago. A sample is cut to
// its share; steps that differed do not count towards it.
//
// A caller without a memory passes a nil last; turn then moves the beginning of the
// sample, so that Policy.Share consecutive turns take every step once.
func (p Policy) Plan(steps []Step, last map[closure.StorePath]Last, turn int) []Step {
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].Last = last[steps[i].Derivation]
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.turn(), b.turn()), cmp.Compare(a.Derivation, b.Derivation))
	})
	if p.Choice != Sample || len(steps) == 0 {
		return steps
	}
	share := p.Share
	if share <= 0 {
		share = DefaultShare
	}
	size := (len(steps) + share - 1) / share
	if last == nil {
		begin := (turn%share + share) % share * size % len(steps)
		return slices.Concat(steps[begin:], steps[:begin])[:size]
	}
	drifted := 0
	for drifted < len(steps) && steps[drifted].Last.Drifted {
		drifted++
	}
	return steps[:min(drifted+size, len(steps))]
}

// turn returns the sort key of s: the steps with the least are taken first.
func (s *Step) turn() int64 {
	if s.Last.Drifted {
		return -1
	}
	return s.Last.Run
}
