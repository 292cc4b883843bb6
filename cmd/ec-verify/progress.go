package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// sample is one look at work under way.
type sample struct {
	what        string // what is being done, a word or two
	done, total int64  // bytes; total is 0 while unknown
	detail      string // e.g. how many paths
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
				s := look()
				amount := ""
				if s.total > 0 {
					amount = fmt.Sprintf("%s of %s ", humanize.IBytes(uint64(s.done)), humanize.IBytes(uint64(s.total)))
				}
				fmt.Fprintf(a.stderr, "ec-verify: %s: %s%s\n", s.what, amount, s.detail)
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
	b := container.AddBar(0,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return fmt.Sprintf("%-9s", look().what) })),
		mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f / % .1f"),
			decor.AverageSpeed(decor.SizeB1024(0), "  % .1f"),
			decor.Any(func(decor.Statistics) string { return "  " + look().detail + "  " }),
			decor.AverageETA(decor.ET_STYLE_GO),
		),
	)
	started := false
	show = func() {
		s := look()
		if s.total == 0 {
			return
		}
		if !started {
			started = true
			b.DecoratorAverageAdjust(time.Now())
		}
		// Never complete from here: that would take the bar away before the end.
		b.SetTotal(max(s.total, s.done+1), false)
		b.SetCurrent(s.done)
	}
	return show, func() {
		b.Abort(true)
		container.Wait()
	}
}
