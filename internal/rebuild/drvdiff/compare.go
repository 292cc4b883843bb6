package drvdiff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// Difference is one original difference between two graphs, not a consequence of another.
type Difference struct {
	// Want and Got are the two derivations; if several have the difference, the first two
	// by name.
	Want, Got closure.StorePath
	// Field is where they differ: "env.NAME" for an attribute, "args[N]", "builder",
	// "system", "outputs", "inputs" for derivations that only one is built from,
	// "sources" for sources, or "source NAME" for a source with the same name and other
	// contents.
	Field string
	// WantValue and GotValue are the field's values for people: at most 200 bytes around
	// the first difference.
	WantValue, GotValue string
	// Derivations is how many derivations have the difference: for a source those that
	// are built from it, else those of the same name with the same difference.
	Derivations int
}

// pair is a derivation of each graph with the same role.
type pair struct{ want, got closure.StorePath }

// Compare returns the smallest set of differences that explains why wantRoot is not
// gotRoot, ordered by the names of the derivations, and how many derivations differ in
// all. It starts at the roots and follows the inputs that differ; equal ones are not
// examined.
func Compare(want, got nixstore.Graph, wantRoot, gotRoot closure.StorePath) (differences []Difference, derivations int) {
	if wantRoot == gotRoot {
		return nil, 0
	}
	c := comparison{want: want, got: got, sources: make(map[pair]*Difference), same: make(map[reading]*Difference)}
	seen := map[pair]bool{}
	for todo := []pair{{wantRoot, gotRoot}}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[p] {
			continue
		}
		seen[p] = true
		todo = append(todo, c.compare(p)...)
	}
	for _, d := range c.sources {
		differences = append(differences, *d)
	}
	for _, d := range c.same {
		differences = append(differences, *d)
	}
	slices.SortFunc(differences, func(a, b Difference) int {
		return cmp.Or(byName(a.Want, b.Want), cmp.Compare(a.Got, b.Got), cmp.Compare(a.Field, b.Field))
	})
	return differences, len(seen)
}

func byName(a, b closure.StorePath) int {
	return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a, b))
}

type comparison struct {
	want, got nixstore.Graph
	sources   map[pair]*Difference // by the sources themselves
	same      map[reading]*Difference
}

// reading is the text of a difference in full. A change to something that is evaluated
// several times, such as a package for several kinds of machine, reads the same each time
// and counts once.
type reading struct{ want, got, field, wantValue, gotValue string }

// note records that p differs in field, with the values want and got.
func (c *comparison) note(p pair, field, want, got string) {
	key := reading{p.want.Name(), p.got.Name(), field, want, got}
	d := c.same[key]
	if d == nil {
		w, g := aroundDifference(want, got)
		d = &Difference{Want: p.want, Got: p.got, Field: field, WantValue: w, GotValue: g}
		c.same[key] = d
	}
	d.Derivations++
	if byName(p.want, d.Want) < 0 {
		d.Want, d.Got = p.want, p.got
	}
}

// compare records the differences of the pair itself, and returns the pairs of inputs
// that differ.
func (c *comparison) compare(p pair) []pair {
	want, got := c.want[p.want], c.got[p.got]
	if want == nil || got == nil {
		// Read accepts no such graph.
		return nil
	}
	wantText, gotText := newText(p.want.Dir()), newText(p.got.Dir())
	for name, out := range want.Outputs {
		wantText.mask(out.Path, "«output "+name+"»")
	}
	for name, out := range got.Outputs {
		gotText.mask(out.Path, "«output "+name+"»")
	}
	inputs := c.inputs(p, want, got, wantText, gotText)
	c.compareSources(p, want, got, wantText, gotText)

	note := func(field, w, g string) {
		if w, g = wantText.masked(w), gotText.masked(g); w != g {
			c.note(p, field, w, g)
		}
	}
	note("system", want.System, got.System)
	note("builder", want.Builder, got.Builder)
	for i := range max(len(want.Args), len(got.Args)) {
		note(fmt.Sprintf("args[%d]", i), at(want.Args, i), at(got.Args, i))
	}
	note("outputs", describeOutputs(want), describeOutputs(got))
	wantEnv, gotEnv := attributes(want), attributes(got)
	keys := slices.Concat(slices.Collect(maps.Keys(wantEnv)), slices.Collect(maps.Keys(gotEnv)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		w, inWant := wantEnv[key]
		g, inGot := gotEnv[key]
		switch {
		case inWant && inGot:
			note("env."+key, w, g)
		case inWant:
			c.note(p, "env."+key, wantText.masked(w), "")
		default:
			c.note(p, "env."+key, "", gotText.masked(g))
		}
	}
	return inputs
}

// inputs pairs the inputs of the two derivations, gives both members of a pair the same
// name in the texts, and records inputs without a counterpart.
func (c *comparison) inputs(p pair, want, got *nixstore.Derivation, wantText, gotText *text) []pair {
	var onlyWant, onlyGot []closure.StorePath
	for in, names := range want.InputDerivations {
		if other, ok := got.InputDerivations[in]; !ok || !slices.Equal(names, other) {
			onlyWant = append(onlyWant, in)
		}
	}
	for in, names := range got.InputDerivations {
		if other, ok := want.InputDerivations[in]; !ok || !slices.Equal(names, other) {
			onlyGot = append(onlyGot, in)
		}
	}
	pairs, onlyWant, onlyGot := match(onlyWant, onlyGot, c.want, c.got)
	for _, in := range pairs {
		for name, out := range c.want[in.want].Outputs {
			wantText.mask(out.Path, "«"+string(in.want)+" "+name+"»")
		}
		for name, out := range c.got[in.got].Outputs {
			gotText.mask(out.Path, "«"+string(in.want)+" "+name+"»")
		}
	}
	if len(onlyWant)+len(onlyGot) > 0 {
		c.note(p, "inputs", names(onlyWant), names(onlyGot))
	}
	// The same derivation with other outputs selected is no difference in itself.
	return slices.DeleteFunc(pairs, func(in pair) bool {
		if in.want != in.got {
			return false
		}
		w, g := want.InputDerivations[in.want], got.InputDerivations[in.got]
		c.note(p, "inputs", fmt.Sprintf("%s %v", in.want.Name(), w), fmt.Sprintf("%s %v", in.got.Name(), g))
		return true
	})
}

// compareSources does the same with sources. A source with other contents is recorded
// once for all derivations that are built from it.
func (c *comparison) compareSources(p pair, want, got *nixstore.Derivation, wantText, gotText *text) {
	onlyWant, onlyGot := without(want.InputSources, got.InputSources), without(got.InputSources, want.InputSources)
	pairs, onlyWant, onlyGot := match(onlyWant, onlyGot, nil, nil)
	for _, s := range pairs {
		wantText.mask(s.want, "«"+string(s.want)+"»")
		gotText.mask(s.got, "«"+string(s.want)+"»")
		d := c.sources[s]
		if d == nil {
			d = &Difference{Want: p.want, Got: p.got, Field: "source " + s.want.Name(), WantValue: string(s.want), GotValue: string(s.got)}
			c.sources[s] = d
		}
		d.Derivations++
		if byName(p.want, d.Want) < 0 {
			d.Want, d.Got = p.want, p.got
		}
	}
	if len(onlyWant)+len(onlyGot) > 0 {
		c.note(p, "sources", names(onlyWant), names(onlyGot))
	}
}

func without(all, other []closure.StorePath) []closure.StorePath {
	var out []closure.StorePath
	for _, p := range all {
		if _, ok := slices.BinarySearch(other, p); !ok {
			out = append(out, p)
		}
	}
	return out
}
