package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	rounds       = 9
	realPaths    = 2000
	tinyPaths    = 8000
	uniformPaths = 400
)

// The names of the measurements.
const (
	ec        = "ec-verify"
	nix       = "nix store verify"
	ecNoSHA   = "ec-verify, GODEBUG=cpu.sha=off"
	ecAgain   = "ec-verify, all of it remembered"
	ecOne     = "ec-verify, one processor"
	nixOne    = "nix store verify, one processor"
	ecKeep    = "ec-verify, neighbour.dropBehind off"
	ecDisk    = "ec-verify --read disk"
	cats      = "cat"
	status    = "ec-verify status"
	version   = "ec-verify --version"
	nixExpect = "nix --version"
)

// part has the measurements of one store, warm or cold.
type part struct {
	title string
	got   measured
	order []entry
}

// results are all of it.
type results struct {
	machine []string
	floor   floor
	stores  []string // a line of each
	parts   []part
}

func (r *results) of(title string) measured {
	for _, p := range r.parts {
		if p.title == title {
			return p.got
		}
	}
	return nil
}

const (
	realWarm    = "realistic store, warm"
	realCold    = "realistic store, cold"
	uniformWarm = "uniform store, warm"
	uniformCold = "uniform store, cold"
	tinyWarm    = "tiny paths, warm"
	oneWarm     = "one path of one small file, warm"
)

// keepCache is a configuration that keeps the page cache.
const keepCache = `{"neighbour":{"dropBehind":false}}`

// remembered is a configuration with which a run trusts the ledger: it hashes one path
// and nothing more.
const remembered = `{"contents":{"budget":"1ms"}}`

func drive(ctx context.Context) error {
	r := &results{floor: measureFloor()}
	say("SHA-256 from the second-level cache: one hash %.2f GB/s, two at once %.2f", r.floor.One/1e9, r.floor.Two/1e9)
	keep, again := []string{"--config", "/etc/keep.json"}, []string{"--config", "/etc/remembered.json"}
	for _, s := range []struct {
		shape string
		paths int
		name  string
		run   func(b bench) error
	}{
		{"real", realPaths, "realistic", func(b bench) error {
			warm := []entry{{ec, ecVerify}, {nix, nixVerify}, {ecOne, onOne(ecVerify)}, {nixOne, onOne(nixVerify)}, {ecNoSHA, with([]string{"env", "GODEBUG=cpu.sha=off"}, ecVerify...)}, {ecAgain, with(ecVerify, again...)}}
			cold := []entry{{ec, ecVerify}, {nix, nixVerify}, {cats, cat()}, {ecKeep, with(ecVerify, keep...)}, {ecDisk, with(ecVerify, "--read", "disk")}}
			return r.both(b, realWarm, warm, realCold, cold)
		}},
		{"uniform", uniformPaths, "uniform", func(b bench) error {
			plain := []entry{{ec, ecVerify}, {nix, nixVerify}}
			return r.both(b, uniformWarm, plain, uniformCold, plain)
		}},
		{"tiny", tinyPaths, "tiny paths", func(b bench) error {
			return r.both(b, tinyWarm, []entry{{ec, ecVerify}, {nix, nixVerify}, {status, []string{inRoot + "ec-verify", "status"}}}, "", nil)
		}},
		{"tiny", 1, "one path", func(b bench) error {
			return r.both(b, oneWarm, []entry{{ec, ecVerify}, {nix, nixVerify}, {version, []string{inRoot + "ec-verify", "--version"}}, {nixExpect, []string{"nix", "--version"}}}, "", nil)
		}},
	} {
		if err := r.store(ctx, s.shape, s.paths, s.name, s.run); err != nil {
			return err
		}
	}
	fmt.Print(goalTable(r.goals()))
	return writeOwn(r.document())
}

// store makes a store, measures it and removes it.
func (r *results) store(ctx context.Context, shape string, paths int, name string, run func(b bench) error) error {
	b, done, err := prepare(ctx, shape, paths)
	if err != nil {
		return err
	}
	defer done()
	files, bytes, err := b.storeSize()
	if err != nil {
		return err
	}
	r.stores = append(r.stores, fmt.Sprintf("%s: %d paths, %d files, %.1f GB", name, paths, files, float64(bytes)/1e9))
	if r.machine, err = b.machine(); err != nil {
		return err
	}
	for file, text := range map[string]string{"keep.json": keepCache, "remembered.json": remembered} {
		if err := os.WriteFile(filepath.Join(b.root, "etc", file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return run(b)
}

// both measures a store warm, and cold where there are entries for that.
func (r *results) both(b bench, warmTitle string, warm []entry, coldTitle string, cold []entry) error {
	before, err := b.warm()
	if err != nil {
		return err
	}
	for _, m := range []struct {
		title   string
		entries []entry
		before  func() error
	}{{warmTitle, warm, before}, {coldTitle, cold, dropCaches}} {
		if len(m.entries) == 0 {
			continue
		}
		say("%s", m.title)
		got, err := b.rounds(rounds, m.before, m.entries)
		if err != nil {
			return err
		}
		r.parts = append(r.parts, part{m.title, got, m.entries})
	}
	return nil
}

// goals are the limits of the ratios.
func (r *results) goals() []goal {
	most := 0.6
	if r.floor.gain() < 1.8 {
		most = 0.8
	}
	var all []cost
	for _, p := range r.parts {
		for name, costs := range p.got {
			if name == ec || name == ecKeep || name == ecDisk || name == ecAgain {
				all = append(all, costs...)
			}
		}
	}
	real, cold, tiny, one := r.of(realWarm), r.of(realCold), r.of(tinyWarm), r.of(oneWarm)
	return []goal{
		ratio(realWarm+": wall time, of nix store verify's", real[ec], real[nix], wall, most),
		ratio(realWarm+": CPU time, of nix store verify's", real[ec], real[nix], cpu, most),
		ratio(realWarm+", one processor: wall time, of nix store verify's", real[ecOne], real[nixOne], wall, most),
		ratio(realWarm+": a run with all of it remembered, wall time, of a full one's", real[ecAgain], real[ec], wall, 0.05),
		ratio(uniformWarm+": wall time, of nix store verify's", r.of(uniformWarm)[ec], r.of(uniformWarm)[nix], wall, most),
		ratio(tinyWarm+": CPU time, of nix store verify's", tiny[ec], tiny[nix], cpu, 1),
		ratio(oneWarm+": CPU time, of nix store verify's", one[ec], one[nix], cpu, 1),
		ratio(realCold+": wall time, of nix store verify's", cold[ec], cold[nix], wall, 0.9),
		ratio(realCold+": wall time, of cat's with as many readers", cold[ec], cold[cats], wall, 1.05),
		ratio(realCold+": wall time, of that with neighbour.dropBehind off", cold[ec], cold[ecKeep], wall, 1.05),
		ratio(realCold+": --read disk, wall time, of an ordinary run's", cold[ecDisk], cold[ec], wall, 1.05),
		ratio(uniformCold+": wall time, of nix store verify's", r.of(uniformCold)[ec], r.of(uniformCold)[nix], wall, 0.9),
		plain("peak memory of all runs, of 64 MiB", float64(peak(all))/(64<<20), 1),
		plain("ec-verify status of 8,000 paths, CPU time, of 0.05 s", sorted(tiny[status], cpu)[rounds/2].Seconds()/0.05, 1),
		plain("SHA-256 from the second-level cache: one hash at a time, of two at once", 1/r.floor.gain(), 1/1.9),
	}
}

// times returns rows of absolute figures.
func (p part) times() [][]string {
	var rows [][]string
	for _, e := range slices.Clone(p.order) {
		all := p.got[e.name]
		row := []string{e.name}
		for _, of := range []func(cost) time.Duration{wall, cpu} {
			values := sorted(all, of)
			row = append(row, seconds(values[len(values)/2]), seconds(values[0]))
		}
		rows = append(rows, append(row, fmt.Sprintf("%d MiB", peak(all)>>20)))
	}
	return rows
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
