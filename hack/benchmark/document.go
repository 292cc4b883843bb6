package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// goal is a ratio and its upper limit.
type goal struct {
	what  string
	ratio float64
	// least is the ratio of the best rounds, which the rest of the machine disturbs the
	// least; 0 if there is none.
	least float64
	most  float64
}

// ratio compares two commands by their medians and their minima.
func ratio(what string, a, b []cost, of func(cost) time.Duration, most float64) goal {
	x, y := sorted(a, of), sorted(b, of)
	return goal{
		what: what, most: most,
		ratio: float64(x[len(x)/2]) / float64(y[len(y)/2]),
		least: float64(x[0]) / float64(y[0]),
	}
}

// paired returns the median of the ratios of two commands in each round.
func paired(a, b []cost, of func(cost) time.Duration) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = float64(of(a[i])) / float64(of(b[i]))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func plain(what string, ratio, most float64) goal { return goal{what: what, ratio: ratio, most: most} }

func goalTable(goals []goal) string {
	var b strings.Builder
	b.WriteString("| | ratio | of minima | at most | |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		met, least := "met", ""
		if g.ratio > g.most {
			met = "**missed**"
		}
		if g.least > 0 {
			least = fmt.Sprintf("%.2f", g.least)
		}
		fmt.Fprintf(&b, "| %s | %.2f | %s | %.2f | %s |\n", g.what, g.ratio, least, g.most, met)
	}
	return b.String()
}

// list returns a list in Markdown.
func list(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	return b.String()
}

func (r *results) document() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Written by `+"`make bench`"+`, which makes stores and measures the contents tier of
ec-verify on them beside `+"`nix store verify --no-trust --recursive`"+`, in turns, in
one run of %d rounds. A ratio is that of the medians; that of the minima stands beside
it. Memory is the highest of all rounds. Absolute times depend on the machine; the
ratios are what is to hold.

`, rounds)
	b.WriteString(list(r.machine) + list(r.stores))
	fmt.Fprintf(&b, `- SHA-256 from the second-level cache, one core: %.2f GB/s one hash at a time, %.2f
  two at once, %.2f times as much. Where that is below 1.8, 0.80 of Nix is aimed at.

## Ratios

%s
## Times

`, r.floor.One/1e9, r.floor.Two/1e9, r.floor.gain(), goalTable(r.goals()))
	for i, p := range r.parts {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "| %s | wall | least | CPU | least | peak memory |\n|---|---|---|---|---|---|\n", p.title)
		for _, row := range p.times() {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	b.WriteString(`
Peak memory is that of one process; cat's is that of the largest of several. Cold,
the caches are dropped before each command. cat reads the files that find lists meanwhile;
it asks for no attributes, hashes nothing, and leaves its pages in the cache.
`)
	return b.String()
}
