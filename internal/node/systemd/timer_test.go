package systemd

import (
	"context"
	"math"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) uint64 { return uint64(now.Add(d).UnixMicro()) }
	boot := 10 * time.Hour
	up := func(d time.Duration) uint64 { return uint64((boot + d).Microseconds()) }
	for _, c := range []struct {
		name                string
		realtime, monotonic uint64
		want                time.Time
	}{
		{"none", 0, 0, time.Time{}},
		{"none, as systemd says infinity", math.MaxUint64, math.MaxUint64, time.Time{}},
		{"by the calendar", at(time.Hour), math.MaxUint64, now.Add(time.Hour)},
		{"since boot", math.MaxUint64, up(time.Minute), now.Add(time.Minute)},
		{"the earlier", at(time.Hour), up(time.Minute), now.Add(time.Minute)},
		{"the other", at(time.Second), up(time.Minute), now.Add(time.Second)},
	} {
		if got := next(c.realtime, c.monotonic, now, boot); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestActive(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for sub, want := range map[any]Timer{
		"waiting": {TimerWaiting, at},
		"running": {TimerRunning, at},
		// The time is that of the last run.
		"elapsed": {TimerElapsed, time.Time{}},
		nil:       {TimerWaiting, at},
	} {
		if got := active(sub, at); got != want {
			t.Errorf("%v: %v, want %v", sub, got, want)
		}
	}
}

// TestTimersEnd: whatever machine this is, an answer comes, and one for each.
func TestTimersEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	timers, err := Timers(ctx, "a.timer", "b.timer")
	if err == nil || len(timers) != 2 || timers[0].State != TimerUnknown || timers[1].State != TimerUnknown {
		t.Errorf("Timers = %v, %v; want two unknown ones and why", timers, err)
	}
}
