package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"every.channel/ec-verify/internal/report"
)

// sample is one look at work under way.
type sample struct {
	what        string // what is being done, a word or two
	done, total int64  // bytes, or items; total is 0 while unknown
	items       bool   // done and total are items, and detail says how many
	detail      string // e.g. how many paths
	// at are the parts being worked at, where there are several at once; a line for
	// each stands below the bar.
	at []string
}

// String words s in a line.
func (s sample) String() string {
	return strings.TrimSuffix(s.what+": "+words(s.amount(), s.detail), ": ")
}

// amount is how much is done, in words; "" while that is unknown, or where the
// detail says it.
func (s sample) amount() string {
	if s.total <= 0 || s.items {
		return ""
	}
	return fmt.Sprintf("%s of %s", humanize.IBytes(uint64(s.done)), humanize.IBytes(uint64(s.total)))
}

// writeAt writes a line for each part being worked at, no wider than width cells.
func (s sample) writeAt(w io.Writer, width int) error {
	for _, part := range s.at {
		line := []rune("  " + report.Escape(part))
		if len(line) > width {
			line = append(line[:max(width-1, 0)], '…')
		}
		if _, err := fmt.Fprintln(w, string(line)); err != nil {
			return err
		}
	}
	return nil
}

// pace is how fast s came about in the time elapsed, and how long the rest takes
// at that; "" while neither is known.
func (s sample) pace(elapsed time.Duration) string {
	if s.total <= 0 || s.done <= 0 || elapsed < sampleEvery {
		return ""
	}
	left := time.Duration(float64(elapsed) / float64(s.done) * float64(max(0, s.total-s.done))).Round(time.Second)
	if s.items {
		return fmt.Sprintf("%s left", left)
	}
	return fmt.Sprintf("%s/s  %s left", humanize.IBytes(uint64(float64(s.done)/elapsed.Seconds())), left)
}

// words joins those that are not empty.
func words(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "  ")
}

const sampleEvery = 200 * time.Millisecond

// watch shows how work goes on: a bar on a terminal, and a line on stderr at
// each SIGUSR1 wherever it runs. The returned function ends it and leaves the
// terminal as it was.
func (a *app) watch(look func() sample) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	show, clear := a.bar(look)
	wg.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show()
			case <-usr1:
				fmt.Fprintf(a.stderr, "ec-verify: %s\n", look())
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(usr1)
		close(done)
		wg.Wait()
		clear()
	}
}

// bar returns what draws a progress bar and what takes it away again.
func (a *app) bar(look func() sample) (show, clear func()) {
	if !a.showsProgress() {
		return func() {}, func() {}
	}
	container := mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(40), mpb.WithAutoRefresh(), mpb.WithRefreshRate(sampleEvery))
	var (
		mu    sync.Mutex
		last  sample
		began time.Time // when the total of what is being done was first known
	)
	b := container.AddBar(0,
		mpb.BarRemoveOnComplete(),
		mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			mu.Lock()
			defer mu.Unlock()
			return last.writeAt(w, s.AvailableWidth)
		}), false),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprintf("%-9s", last.what)
		})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			mu.Lock()
			defer mu.Unlock()
			return words(last.amount(), last.detail, last.pace(time.Since(began)))
		})),
	)
	show = func() {
		s := look()
		mu.Lock()
		// Each kind of work has a bar and a pace of its own.
		if s.what != last.what || last.total == 0 {
			began = time.Now()
		}
		last = s
		mu.Unlock()
		// Never complete from here: that would take the bar away before the end.
		b.SetTotal(max(s.total, s.done+1), false)
		b.SetCurrent(s.done)
	}
	return show, func() {
		b.Abort(true)
		container.Wait()
	}
}
