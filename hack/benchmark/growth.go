package main

import (
	"context"
	"fmt"
)

// growthRounds is how often each size is measured; the least counts.
const growthRounds = 3

// growing are the sizes by which a store can grow, each with the unit of one more.
var growing = []struct {
	shape string
	paths int // of the smallest store
	unit  string
	of    func(paths int, files int, bytes int64) float64
}{
	{"tiny", 500, "path", func(paths, _ int, _ int64) float64 { return float64(paths) }},
	{"files", 4, "file", func(_, files int, _ int64) float64 { return float64(files) }},
	{"bytes", 4, "GB", func(_, _ int, bytes int64) float64 { return float64(bytes) / 1e9 }},
}

// growth measures stores of 1, 4, 16 and 64 times the paths, the files and the bytes,
// warm, and prints the cost of one more of each, without the cost of a run over a store of
// one path.
func growth(ctx context.Context) error {
	least, _, err := grow(ctx, "tiny", 1)
	if err != nil {
		return err
	}
	fmt.Print("| store | times | of it | wall | CPU | CPU for each | peak memory |\n|---|---|---|---|---|---|---|\n")
	for _, g := range growing {
		for times := 1; times <= 64; times *= 4 {
			c, size, err := grow(ctx, g.shape, times*g.paths)
			if err != nil {
				return err
			}
			n := g.of(times*g.paths, size.files, size.bytes)
			fmt.Printf("| %s | %d | %.4g × %s | %s | %s | %.1f µs | %d MiB |\n", g.shape, times, n, g.unit,
				seconds(c.Wall), seconds(c.CPU), float64((c.CPU-least.CPU).Nanoseconds())/1e3/n, c.RSS>>20)
		}
	}
	return nil
}

type storeSize struct {
	files int
	bytes int64
}

// grow makes a store, measures a run on it and removes it.
func grow(ctx context.Context, shape string, paths int) (c cost, size storeSize, err error) {
	b, done, err := prepare(ctx, shape, paths)
	if err != nil {
		return c, size, err
	}
	defer done()
	if size.files, size.bytes, err = b.storeSize(); err != nil {
		return c, size, err
	}
	before, err := b.warm()
	if err != nil {
		return c, size, err
	}
	got, err := b.rounds(growthRounds, before, []entry{{ec, ecVerify}})
	if err != nil {
		return c, size, err
	}
	all := got[ec]
	return cost{sorted(all, wall)[0], sorted(all, cpu)[0], peak(all)}, size, nil
}
