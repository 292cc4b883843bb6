package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	keptFile    = "hack/benchmark/ratios.json"
	quickRounds = 5
	// worse is by how much a ratio may exceed the one that is kept: what two runs of
	// the same program differ by on a busy machine, and some more.
	worse = 1.15
)

// kept are ratios of an earlier run. They are of processor time, which neighbours of
// a machine disturb the least.
type kept struct {
	// Processor is the name of the processor that they were measured on.
	Processor string `json:"processor"`
	// Gain is how much faster two hashes at once are there than one after the other.
	Gain   float64            `json:"gain"`
	Ratios map[string]float64 `json:"ratios"`
}

// quick measures a little of everything and compares it with the kept ratios, or keeps
// the new ones.
func quick(ctx context.Context, keep bool) error {
	f := measureFloor()
	now := kept{Gain: f.gain(), Ratios: make(map[string]float64)}
	for _, s := range []struct {
		shape       string
		paths       int
		title, cold string
	}{
		{"real", 100, "realistic store", "cold: processor time, of that with neighbour.dropBehind off"},
		{"tiny", 1000, "tiny paths", ""},
	} {
		if err := now.measure(ctx, s.shape, s.paths, s.title, s.cold); err != nil {
			return err
		}
	}
	if keep {
		text, err := json.MarshalIndent(now, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(keptFile, append(text, '\n'), 0o644)
	}
	text, err := os.ReadFile(keptFile)
	if err != nil {
		return err
	}
	var then kept
	if err := json.Unmarshal(text, &then); err != nil {
		return fmt.Errorf("%s: %w", keptFile, err)
	}
	return now.against(then)
}

// measure adds the ratios of one store.
func (k *kept) measure(ctx context.Context, shape string, paths int, title, cold string) error {
	b, done, err := prepare(ctx, shape, paths)
	if err != nil {
		return err
	}
	defer done()
	machine, err := b.machine()
	if err != nil {
		return err
	}
	k.Processor = machine[0]
	if err := os.WriteFile(filepath.Join(b.root, "etc", "keep.json"), []byte(keepCache), 0o644); err != nil {
		return err
	}
	before, err := b.warm()
	if err != nil {
		return err
	}
	got, err := b.rounds(quickRounds, before, []entry{{ec, ecVerify}, {nix, nixVerify}})
	if err != nil {
		return err
	}
	k.Ratios[title+", warm: processor time, of nix store verify's"] = best(got[ec]) / best(got[nix])
	k.Ratios[title+", warm: peak memory, of 64 MiB"] = float64(peak(got[ec])) / (64 << 20)
	if cold == "" {
		return nil
	}
	got, err = b.rounds(quickRounds, dropCaches, []entry{{ec, ecVerify}, {ecKeep, with(ecVerify, "--config", "/etc/keep.json")}})
	if err != nil {
		return err
	}
	k.Ratios[title+", "+cold] = best(got[ec]) / best(got[ecKeep])
	return nil
}

// best is the least processor time of all rounds, in seconds.
func best(all []cost) float64 { return sorted(all, cpu)[0].Seconds() }

// against prints both, and fails where one became worse.
func (k kept) against(then kept) error {
	fmt.Printf("%s; two hashes at once %.2f times as fast as one after the other\n", k.Processor, k.Gain)
	fmt.Printf("kept: %s; %.2f\n\n", then.Processor, then.Gain)
	fmt.Print("| | kept | now | |\n|---|---|---|---|\n")
	var bad []string
	for _, what := range slices.Sorted(maps.Keys(then.Ratios)) {
		verdict := "as good"
		if k.Ratios[what] > worse*then.Ratios[what] {
			verdict = "**worse**"
			bad = append(bad, what)
		}
		fmt.Printf("| %s | %.2f | %.2f | %s |\n", what, then.Ratios[what], k.Ratios[what], verdict)
	}
	if len(bad) == 0 {
		return nil
	}
	if k.Gain < 0.9*then.Gain {
		fmt.Println("\nThis processor gains less by hashing two at once: the figures that are kept do not hold for it.")
		return nil
	}
	return fmt.Errorf("worse than the ratios in %s: %s", keptFile, strings.Join(bad, "; "))
}
