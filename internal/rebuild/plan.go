package rebuild

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// Step is one derivation to rebuild.
type Step struct {
	Derivation closure.StorePath
	// Outputs are the names of the outputs that the manifest holds, ascending;
	// there is at least one.
	Outputs []string
	// Fixed says that the outputs are stated by the derivation beforehand, so
	// that they are compared with that and not built.
	Fixed bool
	// Last is when the derivation was last rebuilt; zero for never, or unknown.
	Last time.Time
	// Reason says in a few words why it is rebuilt, and why now.
	Reason string
}

// Ages says when a derivation was last rebuilt with any result, the zero time
// for never. A nil Ages is that of somebody who does not remember.
type Ages func(closure.StorePath) time.Time

// Planned is what [Plan] gives.
type Planned struct {
	// Steps are the derivations to rebuild, in the order to do so: those never
	// rebuilt first, then those rebuilt longest ago.
	Steps []Step
	// Candidates is how many derivations the choice was made from.
	Candidates int
	// Uncomparable are the paths of the manifest that have a deriver, but whose
	// place the derivations do not tell beforehand, in ascending order.
	// (Content-addressed derivations are so.) No rebuild can say anything of
	// them.
	Uncomparable []closure.StorePath
}

// Plan chooses from the derivations that make paths of the manifest those to
// rebuild, and their order. The graph is that of the manifest's toplevel.
//
// A sample takes those that stand first in that order. For somebody who does
// not remember, turn moves its beginning, so that Policy.Share consecutive turns
// take every derivation once.
func Plan(graph nixstore.Graph, m *closure.Manifest, policy Policy, ages Ages, turn int) Planned {
	derivers := graph.Derivers()
	outputs := make(map[closure.StorePath]map[closure.StorePath]bool)
	var planned Planned
	for _, info := range m.Paths {
		drv, ok := derivers[info.Path]
		if !ok {
			if info.Deriver != "" {
				planned.Uncomparable = append(planned.Uncomparable, info.Path)
			}
			continue
		}
		if outputs[drv] == nil {
			outputs[drv] = make(map[closure.StorePath]bool)
		}
		outputs[drv][info.Path] = true
	}
	planned.Candidates = len(outputs)
	for drv, wanted := range outputs {
		d := graph[drv]
		why, ok := policy.chooses(d)
		if !ok {
			continue
		}
		step := Step{Derivation: drv, Reason: why}
		for name, out := range d.Outputs {
			if wanted[out.Path] {
				step.Outputs = append(step.Outputs, name)
				step.Fixed = step.Fixed || out.Hash != ""
			}
		}
		slices.Sort(step.Outputs)
		if ages != nil {
			step.Last = ages(drv)
			if step.Last.IsZero() {
				step.Reason += "; never rebuilt"
			} else {
				step.Reason += fmt.Sprintf("; last rebuilt %s", step.Last.UTC().Format(time.DateOnly))
			}
		}
		planned.Steps = append(planned.Steps, step)
	}
	slices.SortFunc(planned.Steps, func(a, b Step) int {
		return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.Derivation, b.Derivation))
	})
	if policy.Choice == Sample {
		planned.Steps = policy.sample(planned.Steps, ages != nil, turn)
	}
	return planned
}

// chooses reports whether d is among what the policy names, and by what.
func (p Policy) chooses(d *nixstore.Derivation) (why string, ok bool) {
	switch p.Choice {
	case All:
		return "all are rebuilt", true
	case Sample:
		return "in the sample", true
	case Config:
		return "it is built where it is used", isLocal(d)
	case FirstParty:
		for _, pattern := range p.FirstParty {
			if pattern.Matches(d) {
				return fmt.Sprintf("first-party by %q", string(pattern)), true
			}
		}
	}
	return "", false
}

// sample returns the share of steps whose turn it is.
func (p Policy) sample(steps []Step, remembered bool, turn int) []Step {
	share := p.Share
	if share <= 0 {
		share = DefaultShare
	}
	size := (len(steps) + share - 1) / share
	if size == 0 || remembered {
		return steps[:size]
	}
	begin := (turn%share + share) % share * size
	if begin >= len(steps) {
		begin %= len(steps)
	}
	return slices.Concat(steps[begin:], steps[:begin])[:size]
}
