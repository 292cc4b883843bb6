package terminal

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

// Sample is a snapshot of work in progress.
type Sample struct {
	What        string // what is being done, a word or two
	Done, Total int64  // bytes, or items; total is 0 while unknown
	Items       bool   // done and total are items, and detail says how many
	Detail      string // e.g. how many paths
	// At are the parts in progress, if there are several at once; a line for each is
	// below the bar.
	At []string
}

// String words s in a line.
func (s Sample) String() string {
	return strings.TrimSuffix(s.What+": "+words(s.amount(), s.Detail), ": ")
}

// amount is how much is done, in words; "" while that is unknown, or where the
// detail says it.
func (s Sample) amount() string {
	if s.Total <= 0 || s.Items {
		return ""
	}
	return fmt.Sprintf("%s of %s", humanize.IBytes(uint64(s.Done)), humanize.IBytes(uint64(s.Total)))
}

// writeAt writes a line for each part being worked at, no wider than width cells.
func (s Sample) writeAt(w io.Writer, width int) error {
	for _, part := range s.At {
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
func (s Sample) pace(elapsed time.Duration) string {
	if s.Total <= 0 || s.Done <= 0 || elapsed < sampleEvery {
		return ""
	}
	left := time.Duration(float64(elapsed) / float64(s.Done) * float64(max(0, s.Total-s.Done))).Round(time.Second)
	if s.Items {
		return fmt.Sprintf("%s left", left)
	}
	return fmt.Sprintf("%s/s  %s left", humanize.IBytes(uint64(float64(s.Done)/elapsed.Seconds())), left)
}

// words joins those that are not empty.
func words(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "  ")
}

const sampleEvery = 200 * time.Millisecond

// Watch shows how work goes on: a bar on a terminal, and a line on stderr at
// each SIGUSR1 wherever it runs. The returned function ends it and leaves the
// terminal as it was.
func (t *Terminal) Watch(look func() Sample) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	show, clear := t.bar(look)
	wg.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show()
			case <-usr1:
				t.Note(look().String())
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
func (t *Terminal) bar(look func() Sample) (show, clear func()) {
	if !t.showsProgress() {
		return func() {}, func() {}
	}
	container := mpb.New(mpb.WithOutput(t.Stderr), mpb.WithWidth(40), mpb.WithAutoRefresh(), mpb.WithRefreshRate(sampleEvery))
	var (
		mu    sync.Mutex
		last  = look()
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
			return fmt.Sprintf("%-9s", last.What)
		})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			mu.Lock()
			defer mu.Unlock()
			return words(last.amount(), last.Detail, last.pace(time.Since(began)))
		})),
	)
	show = func() {
		s := look()
		mu.Lock()
		// Each kind of work has a bar and a pace of its own.
		if s.What != last.What || last.Total == 0 {
			began = time.Now()
		}
		last = s
		mu.Unlock()
		// Never complete from here: that would take the bar away before the end.
		b.SetTotal(max(s.Total, s.Done+1), false)
		b.SetCurrent(s.Done)
	}
	return show, func() {
		b.Abort(true)
		container.Wait()
	}
}
