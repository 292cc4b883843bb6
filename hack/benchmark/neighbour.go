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
	rounds   int           // in real time
	realTime time.Duration // of one encoder there
	turns    int           // as fast as it goes
	turn     time.Duration // of each kind in a turn
	paths    int           // of the store
}

var (
	fullSpan  = span{rounds: 3, realTime: 45 * time.Second, turns: 9, turn: 8 * time.Second, paths: uniformPaths}
	quickSpan = span{rounds: 1, realTime: 15 * time.Second, turns: 2, turn: 5 * time.Second, paths: uniformPaths / 10}
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
	// By round: encoding in real time, alone and beside verifications.
	LiveAlone, LiveBeside []encoded
	// By turn: encoding as fast as it goes; the last with verifications of ordinary
	// priority.
	FastAlone, FastBeside, FastOrdinary []encoded
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
	b, done, err := prepare(ctx, "uniform", s.paths)
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
	if err := n.pageCache(b); err != nil {
		return err
	}
	for i := range s.rounds {
		say("in real time, round %d of %d", i+1, s.rounds)
		if err := n.live(b, i); err != nil {
			return err
		}
	}
	say("as fast as it goes, %d turns", s.turns)
	if err := n.fast(b); err != nil {
		return err
	}
	fmt.Print(n.table())
	if s != fullSpan {
		fmt.Print("\n", n.document())
		say("a quick run: docs/benchmarks.md stays as it is")
		return nil
	}
	return writePart(neighbourHeading, n.document())
}

// priorities are how a verification is run.
var (
	asUnit   = []string{"chrt", "--idle", "0", "ionice", "--class", "3"}
	ordinary = []string{}
)

// live measures encoders in real time, one alone and one with verifications
// beside it; every second round in the other order, so that a slow change of the machine
// favours neither.
func (n *neighbourResults) live(b bench, i int) error {
	steps := []func() error{
		func() error {
			return n.encode(b, func(e *encoder) error {
				begin := time.Now()
				if err := sleep(b.ctx, n.span.realTime); err != nil {
					return err
				}
				return e.add(&n.LiveAlone, begin)
			})
		},
		func() error {
			return n.encode(b, func(e *encoder) error {
				begin := time.Now()
				for time.Since(begin) < n.span.realTime {
					took, err := verifyBeside(b, asUnit, verifyTimeout)
					if err != nil {
						return err
					}
					n.Verified = append(n.Verified, took)
				}
				return e.add(&n.LiveBeside, begin)
			})
		},
	}
	if i%2 == 1 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// encode does something beside an encoder in real time, from a cold cache.
func (n *neighbourResults) encode(b bench, do func(*encoder) error) error {
	if err := dropCaches(); err != nil {
		return err
	}
	e, err := startEncoder(b.ctx, n.Preset, true)
	if err != nil {
		return err
	}
	defer e.stop()
	return do(e)
}

// fast measures one encoder that goes as fast as it can, in turns: alone, beside
// a verification in the idle class, beside one at ordinary priority. The turns
// are short and each is compared with its neighbours in time, since the speed of
// a shared machine may change twofold within minutes.
func (n *neighbourResults) fast(b bench) error {
	e, err := startEncoder(b.ctx, n.Preset, false)
	if err != nil {
		return err
	}
	defer e.stop()
	kinds := []struct {
		to       *[]encoded
		priority []string // nil for no verification
	}{{&n.FastAlone, nil}, {&n.FastBeside, asUnit}, {&n.FastOrdinary, ordinary}}
	for i := range n.span.turns {
		for k := range kinds {
			kind := kinds[(i+k)%len(kinds)]
			if err := dropCaches(); err != nil {
				return err
			}
			if err := sleep(b.ctx, time.Second); err != nil {
				return err
			}
			begin := time.Now()
			for left := n.span.turn; left > 0; left = n.span.turn - time.Since(begin) {
				if kind.priority == nil {
					err = sleep(b.ctx, left)
				} else {
					_, err = verifyBeside(b, kind.priority, left)
				}
				if err != nil && (b.ctx.Err() != nil || time.Since(begin) < n.span.turn) {
					return err
				}
			}
			if err := e.add(kind.to, begin); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyBeside runs a verification and returns how long it took. One that does
// not end within the limit is an error.
func verifyBeside(b bench, priority []string, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	begin := time.Now()
	if _, err := (bench{ctx, b.root}).output(slices.Concat(priority, ecVerify)...); err != nil {
		return 0, fmt.Errorf("a verification beside an encoder: %w", err)
	}
	return time.Since(begin), nil
}

// pageCache measures what verifications do to the page cache.
func (n *neighbourResults) pageCache(b bench) error {
	published := filepath.Join(filepath.Dir(b.root), "published")
	if err := os.WriteFile(published, make([]byte, publishedSize), 0o644); err != nil {
		return err
	}
	defer os.Remove(published)
	keep := filepath.Join(b.root, "keep.json")
	if err := os.WriteFile(keep, []byte(keepCache), 0o644); err != nil {
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

// cachedBytes returns how many bytes of files are in the page cache.
func cachedBytes(ctx context.Context, what string) (int64, error) {
	const sum = `find "$0" -type f -print0 | xargs -0 fincore --bytes --noheadings --output RES | awk '{ n += $1 } END { printf "%.0f", n }'`
	out, err := exec.CommandContext(ctx, "sh", "-c", sum, what).Output()
	if err != nil {
		return 0, fmt.Errorf("fincore: %w", err)
	}
	return strconv.ParseInt(string(out), 10, 64)
}

func middle(all []encoded) float64 {
	fps := make([]float64, 0, len(all))
	for _, e := range all {
		fps = append(fps, e.FPS)
	}
	slices.Sort(fps)
	return fps[len(fps)/2]
}

// against returns how many times as many frames a second one kind has as another:
// the median of their turns.
func against(one, other []encoded) float64 {
	ratios := make([]float64, 0, len(one))
	for i := range one {
		ratios = append(ratios, one[i].FPS/other[i].FPS)
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
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
		plain("in real time: frames a second alone, of those beside verifications", against(n.LiveAlone, n.LiveBeside), 1.03),
		plain("in real time: frames dropped beside verifications", float64(dropped(n.LiveBeside)), 0),
		plain("as fast as it goes: frames a second alone, of those beside a verification", against(n.FastAlone, n.FastBeside), 1.03),
		plain("the store in the page cache after a verification, of its size", float64(n.Left)/float64(n.Bytes), 0.01),
		plain("the publisher's file out of the page cache, of its size", 1-n.Published, 0),
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
has %d files and %.1f GB. Medians of %d rounds; as fast as it goes, of %d turns
of %s each.

`, frameRate, n.Preset, n.Speed, runtime.NumCPU(), n.Files, float64(n.Bytes)/1e9, n.span.rounds, n.span.turns, n.span.turn)
	b.WriteString(list(n.Machine))
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
