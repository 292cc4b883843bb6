package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// growthRounds is how often each size is measured; the least counts.
	growthRounds = 3
	// growthGoal limits the cost of one more in the largest store, of that in the
	// smallest.
	growthGoal = 1.10
	growthRSS  = 64 << 20 // bytes
)

// A grower is a way in which a store can grow, with the unit of one more.
type grower struct {
	what  string
	shape string
	paths int // of the smallest store
	unit  string
	of    func(paths int, size storeSize) float64
	// altered is what is measured after one file of each path was altered; empty for
	// nothing.
	altered string
}

var growers = []grower{
	{"paths", "tiny", 500, "path", func(paths int, _ storeSize) float64 { return float64(paths) }, ""},
	{"files", "files", 32, "file", filesOf, "files, one altered in each path"},
	{"files of one path", "one", 3125, "file", filesOf, "files of one path, one altered"},
	{"bytes", "bytes", 4, "GB", func(_ int, size storeSize) float64 { return float64(size.bytes) / 1e9 }, ""},
}

func filesOf(_ int, size storeSize) float64 { return float64(size.files) }

type storeSize struct {
	files int
	bytes int64
}

// grown is the cost of a run on a store that grew.
type grown struct {
	times int
	n     float64 // paths, files or GB
	cost
}

// each is the cost of one more, without the cost of a run over a store of one path.
func (g grown) each(least cost, of func(cost) time.Duration) float64 {
	return float64(of(g.cost)-of(least)) / g.n
}

// growth measures stores of 1, 4, 16 and 64 times the paths, the files and the bytes,
// warm, or only of one shape. If all were measured, it writes its part of the document.
func growth(ctx context.Context, only string) error {
	_, least, err := grow(ctx, growers[0], 1, 1)
	if err != nil {
		return err
	}
	var machine []string
	var rows strings.Builder
	var goals []goal
	most := int64(0)
	for _, g := range growers {
		if only != "" && g.shape != only {
			continue
		}
		var sound, altered []grown
		for times := 1; times <= 64; times *= 4 {
			say("%s, %d times", g.what, times)
			about, costs, err := grow(ctx, g, times*g.paths, times)
			if err != nil {
				return err
			}
			machine = about
			sound = append(sound, costs[0])
			altered = append(altered, costs[1:]...)
		}
		for _, series := range []struct {
			what string
			all  []grown
		}{{g.what, sound}, {g.altered, altered}} {
			if len(series.all) == 0 {
				continue
			}
			first, last := series.all[0], series.all[len(series.all)-1]
			for _, of := range []struct {
				what string
				of   func(cost) time.Duration
			}{{"CPU time", cpu}, {"wall time", wall}} {
				goals = append(goals, plain(fmt.Sprintf("%s: %s of one more, of that in the smallest store", series.what, of.what),
					last.each(least[0].cost, of.of)/first.each(least[0].cost, of.of), growthGoal))
			}
			for _, c := range series.all {
				most = max(most, c.RSS)
				fmt.Fprintf(&rows, "| %s | %d | %.4g × %s | %s | %s | %s | %d MiB |\n", series.what, c.times, c.n, g.unit,
					seconds(c.Wall), seconds(c.CPU), time.Duration(c.each(least[0].cost, cpu)).Round(100*time.Nanosecond), c.RSS>>20)
			}
		}
	}
	goals = append(goals, plain("peak memory of all, of 64 MiB", float64(most)/growthRSS, 1))
	text := fmt.Sprintf(growthHeading+`

Written by `+"`make bench-growth`"+`: runs on stores of 1, 4, 16 and 64 times the paths (of one
small file), the files (1,000 to a path, or all in one path) and the bytes (one file of 16
MiB to a path), warm, the least of %d rounds. The cost of one more leaves out that of a run
over one path. Where a file of each path is altered, the run reads these paths again and
names the file by the release's listing.

%s
| store grows by | times | of it | wall | CPU | CPU of one more | peak memory |
|---|---|---|---|---|---|---|
%s
%s`, growthRounds, list(machine), rows.String(), goalTable(goals))
	fmt.Print(text)
	if only != "" {
		return nil
	}
	return writePart(growthHeading, text)
}

// grow makes a store, measures a run on it, sound and altered if g says so, and removes
// it.
func grow(ctx context.Context, g grower, paths, times int) (machine []string, costs []grown, err error) {
	b, done, err := prepareAs(ctx, []string{"listed", g.shape, fmt.Sprint(paths)})
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if machine, err = b.machine(); err != nil {
		return nil, nil, err
	}
	var size storeSize
	if size.files, size.bytes, err = b.storeSize(); err != nil {
		return nil, nil, err
	}
	before, err := b.warm()
	if err != nil {
		return nil, nil, err
	}
	run := func(argv []string) error {
		got, err := b.rounds(growthRounds, before, []entry{{ec, argv}})
		if err != nil {
			return err
		}
		all := got[ec]
		c := cost{sorted(all, wall)[0], sorted(all, cpu)[0], peak(all)}
		say("%d %s, %d files: %s, CPU %s, %d MiB", paths, g.what, size.files, seconds(c.Wall), seconds(c.CPU), c.RSS>>20)
		costs = append(costs, grown{times, g.of(paths, size), c})
		return nil
	}
	if err := run(ecVerify); err != nil || g.altered == "" {
		return machine, costs, err
	}
	if _, err := b.output("benchmark", "alter"); err != nil {
		return nil, nil, err
	}
	return machine, costs, run(drifted(ecVerify))
}
