package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// span says how much of everything there is to be.
type span struct {
	rounds           int
	packages         int // of the store
	realTime, asFast time.Duration
}

var (
	fullSpan  = span{rounds: 3, packages: storePackages, realTime: time.Minute, asFast: 30 * time.Second}
	quickSpan = span{rounds: 1, packages: storePackages / 10, realTime: 15 * time.Second, asFast: 10 * time.Second}
)

// verifyTimeout bounds a verification beside an encoder.
const verifyTimeout = 30 * time.Minute

// publishedSize is the size of the publisher's file in bytes.
const publishedSize = 256 << 20

// neighbourResults are what one run of everything gave.
type neighbourResults struct {
	span    span
	Machine []string
	Files   int
	Bytes   int64
	Preset  string
	Speed   float64 // of the preset, of real time, alone
	// By round: encoding alone and beside verifications, in real time and as fast
	// as it goes; the last with verifications of ordinary priority.
	LiveAlone, LiveBeside, FastAlone, FastBeside, FastOrdinary []encoded
	// Verified are the verifications that ended beside an encoder in real time,
	// Alone is one beside nothing.
	Verified []time.Duration
	Alone    time.Duration
	// Of the page cache: how much of the publisher's file is in it afterwards, and
	// how many bytes of the store, by a verification that leaves it as it was and
	// by one that does not.
	Published   float64
	Left, Taken int64
}

// driveNeighbour measures what an encoder notices of verifications.
func driveNeighbour(ctx context.Context, s span) error {
	if err := needEncoder(ctx); err != nil {
		return err
	}
	b, done, err := prepare(ctx, s.packages)
	if err != nil {
		return err
	}
	defer done()
	n := &neighbourResults{span: s}
	if n.Files, n.Bytes, err = b.storeSize(); err != nil {
		return err
	}
	if n.Machine, err = b.machine(); err != nil {
		return err
	}
	if n.Preset, n.Speed, err = choosePreset(ctx); err != nil {
		return err
	}
	for i := range s.rounds {
		say("round %d of %d", i+1, s.rounds)
		if err := n.round(b, i); err != nil {
			return err
		}
	}
	if err := n.pageCache(b); err != nil {
		return err
	}
	fmt.Print(n.table())
	if s != fullSpan {
		fmt.Print("\n", n.document())
		say("a quick run: docs/benchmarks.md stays as it is")
		return nil
	}
	return writeDocument(func(own, _ string) (string, string) { return own, n.document() })
}

// priorities are how a verification is run.
var (
	asUnit   = []string{"chrt", "--idle", "0", "ionice", "--class", "3"}
	ordinary = []string{}
)

// round measures everything once; every second round the other way round, so
// that what a machine does in the course of time favours nobody.
func (n *neighbourResults) round(b bench, i int) error {
	steps := []struct {
		to       *[]encoded
		realTime bool
		priority []string // nil for no verification
	}{
		{&n.LiveAlone, true, nil}, {&n.LiveBeside, true, asUnit},
		{&n.FastAlone, false, nil}, {&n.FastBeside, false, asUnit}, {&n.FastOrdinary, false, ordinary},
	}
	if i%2 == 1 {
		slices.Reverse(steps)
	}
	for _, s := range steps {
		if err := dropCaches(); err != nil {
			return err
		}
		got, err := n.encode(b, s.realTime, s.priority)
		if err != nil {
			return err
		}
		*s.to = append(*s.to, got)
	}
	return nil
}

// encode measures an encoder, with verifications beside it if there is a
// priority for them. In real time it lasts until one of them has ended.
func (n *neighbourResults) encode(b bench, realTime bool, priority []string) (encoded, error) {
	e, err := startEncoder(b.ctx, n.Preset, realTime)
	if err != nil {
		return encoded{}, err
	}
	defer e.stop()
	lasts := n.span.asFast
	if realTime {
		lasts = n.span.realTime
	}
	begin := time.Now()
	if priority == nil {
		if err := sleep(b.ctx, lasts); err != nil {
			return encoded{}, err
		}
		return e.between(begin, time.Now())
	}
	// One after the other until the time is up. As fast as it goes an encoder
	// leaves nothing, and the verification is given up then.
	limit := lasts
	if realTime {
		limit = verifyTimeout
	}
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	beside := bench{ctx, b.root}
	for time.Since(begin) < lasts {
		start := time.Now()
		_, err := beside.output(slices.Concat(priority, ecVerify)...)
		if ctx.Err() != nil && b.ctx.Err() == nil && !realTime {
			break
		}
		if err != nil {
			return encoded{}, fmt.Errorf("a verification beside an encoder: %w", err)
		}
		if realTime {
			n.Verified = append(n.Verified, time.Since(start))
		}
	}
	return e.between(begin, time.Now())
}

// pageCache measures what verifications do to the page cache.
func (n *neighbourResults) pageCache(b bench) error {
	published := filepath.Join(filepath.Dir(b.root), "published")
	if err := os.WriteFile(published, make([]byte, publishedSize), 0o644); err != nil {
		return err
	}
	defer os.Remove(published)
	keep := filepath.Join(b.root, "keep.json")
	if err := os.WriteFile(keep, []byte(`{"neighbour":{"dropBehind":false}}`), 0o644); err != nil {
		return err
	}
	for _, c := range []struct {
		left   *int64
		config []string
	}{{&n.Left, nil}, {&n.Taken, []string{"--config", "/keep.json"}}} {
		if err := dropCaches(); err != nil {
			return err
		}
		if _, err := os.ReadFile(published); err != nil {
			return err
		}
		begin := time.Now()
		if _, err := b.output(slices.Concat(ecVerify, c.config)...); err != nil {
			return err
		}
		took := time.Since(begin)
		cached, err := cachedBytes(b.ctx, filepath.Join(b.root, "nix/store"))
		if err != nil {
			return err
		}
		*c.left = cached
		if c.config != nil {
			continue
		}
		n.Alone = took
		resident, err := cachedBytes(b.ctx, published)
		if err != nil {
			return err
		}
		n.Published = float64(resident) / publishedSize
	}
	return nil
}

// cachedBytes returns how many bytes of files the page cache holds.
func cachedBytes(ctx context.Context, what string) (int64, error) {
	const sum = `find "$0" -type f -print0 | xargs -0 fincore --bytes --noheadings --output RES | awk '{ n += $1 } END { print n + 0 }'`
	out, err := exec.CommandContext(ctx, "sh", "-c", sum, what).Output()
	if err != nil {
		return 0, fmt.Errorf("fincore: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

func middle(all []encoded) float64 {
	fps := make([]float64, 0, len(all))
	for _, e := range all {
		fps = append(fps, e.FPS)
	}
	slices.Sort(fps)
	return fps[len(fps)/2]
}

func dropped(all []encoded) (n int64) {
	for _, e := range all {
		n += e.Dropped
	}
	return n
}

func latest(all []encoded) (d time.Duration) {
	for _, e := range all {
		d = max(d, e.Late)
	}
	return d
}

func (n *neighbourResults) goals() []goal {
	return []goal{
		{"in real time: frames a second alone, of those beside verifications", middle(n.LiveAlone) / middle(n.LiveBeside), 1.03},
		{"in real time: frames dropped beside verifications", float64(dropped(n.LiveBeside)), 0},
		{"as fast as it goes: frames a second alone, of those beside a verification", middle(n.FastAlone) / middle(n.FastBeside), 1.03},
		{"the store in the page cache after a verification, of its size", float64(n.Left) / float64(n.Bytes), 0.01},
		{"the publisher's file out of the page cache, of its size", 1 - n.Published, 0},
	}
}

func (n *neighbourResults) table() string { return goalTable(n.goals()) }

func (n *neighbourResults) document() string {
	var b strings.Builder
	fmt.Fprintf(&b, neighbourHeading+`

Written by `+"`make bench-neighbour`"+`: ffmpeg encodes 720p at %d frames a second with
x264 (preset %s, the slowest that this machine does %.1f times as fast as it has
to) on all %d processors, alone and with verifications beside it, one after the
other from a cold cache, as the unit runs them: idle CPU and I/O class. The store
has %d files and %.1f GB. Medians of %d rounds.

`, frameRate, n.Preset, n.Speed, runtime.NumCPU(), n.Files, float64(n.Bytes)/1e9, n.span.rounds)
	for _, line := range n.Machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "\n%s\n| | frames a second | dropped | latest frame |\n|---|---|---|---|\n", n.table())
	for _, row := range []struct {
		name string
		all  []encoded
		live bool
	}{
		{"in real time, alone", n.LiveAlone, true},
		{"in real time, beside verifications", n.LiveBeside, true},
		{"as fast as it goes, alone", n.FastAlone, false},
		{"as fast as it goes, beside a verification", n.FastBeside, false},
		{"the same, the verification at ordinary priority", n.FastOrdinary, false},
	} {
		late := ""
		if row.live {
			late = latest(row.all).Round(time.Millisecond).String()
		}
		fmt.Fprintf(&b, "| %s | %.2f | %d | %s |\n", row.name, middle(row.all), dropped(row.all), late)
	}
	slices.Sort(n.Verified)
	fmt.Fprintf(&b, `
Beside the encoder in real time %d verifications ended, in %s each (median); one
beside nothing takes %s. After one the page cache holds %d MiB of the store, and
%d MiB with `+"`neighbour.dropBehind`"+` off; %.0f %% of a file of %d MiB that was in it
before is in it still.
`, len(n.Verified), n.Verified[len(n.Verified)/2].Round(100*time.Millisecond), n.Alone.Round(100*time.Millisecond),
		n.Left>>20, n.Taken>>20, 100*n.Published, publishedSize>>20)
	return b.String()
}
