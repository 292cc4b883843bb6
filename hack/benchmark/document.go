package main

import (
	"fmt"
	"strings"
	"time"
)

// goal is a ratio and what it is to be at most.
type goal struct {
	what  string
	ratio float64
	most  float64
}

func (r *results) goals() []goal {
	wall := func(a, b cost) float64 { return float64(a.Wall) / float64(b.Wall) }
	return []goal{
		{"warm: wall time, of nix store verify's", wall(r.ECWarm, r.NixWarm), 0.8},
		{"warm: CPU time, of hashing the same bytes from memory", float64(r.ECWarm.CPU) / float64(r.Memory.CPU), 1.3},
		{"warm: peak memory, of 64 MiB", float64(r.ECWarm.RSS) / (64 << 20), 1},
		{"cold: wall time, of cat's with as many readers", wall(r.ECCold, r.CatCold), 1.1},
	}
}

func (r *results) table() string { return goalTable(r.goals()) }

func goalTable(goals []goal) string {
	var b strings.Builder
	b.WriteString("| | ratio | at most | |\n|---|---|---|---|\n")
	for _, g := range goals {
		met := "met"
		if g.ratio > g.most {
			met = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %s |\n", g.what, g.ratio, g.most, met)
	}
	return b.String()
}

func (r *results) document() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Written by `+"`make bench`"+`, which makes a store of %d files and %.1f GB and
measures the contents tier of ec-verify on it beside
`+"`nix store verify --no-trust --recursive`"+`, in turns, in one run. Wall and CPU time
are medians (%d rounds warm, %d cold), memory is the highest of all rounds.
Absolute times depend on the machine; the ratios are what is to hold.

`, r.Files, float64(r.Bytes)/1e9, warmRounds, coldRounds)
	for _, line := range r.Machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "\n## Ratios\n\n%s\n## Times\n\n| | wall | CPU | peak memory |\n|---|---|---|---|\n", r.table())
	for _, row := range []struct {
		name string
		cost cost
	}{
		{"warm: ec-verify", r.ECWarm},
		{"warm: nix store verify", r.NixWarm},
		{"warm: SHA-256 of as many bytes from memory, one thread", r.Memory},
		{"cold: ec-verify", r.ECCold},
		{"cold: ec-verify --read disk", r.ECDisk},
		{"cold: nix store verify", r.NixCold},
		{"cold: cat", r.CatCold},
	} {
		fmt.Fprintf(&b, "| %s | %s | %s | %d MiB |\n", row.name, row.cost.Wall.Round(10*time.Millisecond), row.cost.CPU.Round(10*time.Millisecond), row.cost.RSS>>20)
	}
	b.WriteString(`
Peak memory is that of one process; cat's is that of the largest of several.
`)
	return b.String()
}
