package systemd

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"golang.org/x/sys/unix"
)

// TimerState is the state of a timer.
type TimerState string

// The states of a timer.
const (
	TimerWaiting  TimerState = "waiting"  // it fires at Next
	TimerRunning  TimerState = "running"  // what it starts is under way
	TimerElapsed  TimerState = "elapsed"  // it is started, and never fires again
	TimerInactive TimerState = "inactive" // it is not started
	TimerAbsent   TimerState = "absent"   // there is no such unit
	TimerUnknown  TimerState = "unknown"  // systemd could not be asked
)

// Timer is a timer unit as systemd sees it.
type Timer struct {
	State TimerState
	// Next is when it fires, to the second; zero if unknown.
	Next time.Time
}

// timerWait limits the wait for systemd.
const timerWait = 5 * time.Second

// Timers asks systemd for timer units by name. If it can't be asked, as on a machine
// without it, all of them are unknown, and the error says why.
func Timers(ctx context.Context, names ...string) ([]Timer, error) {
	timers := make([]Timer, len(names))
	for i := range timers {
		timers[i].State = TimerUnknown
	}
	return timers, askFor(ctx, names, func(ctx context.Context, conn *dbus.Conn, i int) (err error) {
		timers[i], err = timer(ctx, conn, names[i])
		return err
	})
}

// askFor calls ask for each of names, by its index, until one fails.
func askFor(ctx context.Context, names []string, ask func(ctx context.Context, conn *dbus.Conn, i int) error) error {
	ctx, cancel := context.WithTimeout(ctx, timerWait)
	defer cancel()
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("ask systemd: %w", err)
	}
	defer conn.Close()
	for i, name := range names {
		if err := ask(ctx, conn, i); err != nil {
			return fmt.Errorf("ask systemd for %s: %w", name, err)
		}
	}
	return nil
}

// connect uses the system bus, which serves everybody, or else systemd's own socket,
// which serves root.
func connect(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err == nil {
		return conn, nil
	}
	if direct, err := dbus.NewSystemdConnectionContext(ctx); err == nil {
		return direct, nil
	}
	return nil, err
}

// timer reads a timer's properties; see org.freedesktop.systemd1(5).
func timer(ctx context.Context, conn *dbus.Conn, name string) (Timer, error) {
	unknown := Timer{State: TimerUnknown}
	unit, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return unknown, err
	}
	if unit["LoadState"] == "not-found" {
		return Timer{State: TimerAbsent}, nil
	}
	if unit["ActiveState"] != "active" {
		return Timer{State: TimerInactive}, nil
	}
	props, err := conn.GetUnitTypePropertiesContext(ctx, name, "Timer")
	if err != nil {
		return unknown, err
	}
	realtime, _ := props["NextElapseUSecRealtime"].(uint64)
	monotonic, _ := props["NextElapseUSecMonotonic"].(uint64)
	return active(unit["SubState"], next(realtime, monotonic, time.Now(), sinceBoot())), nil
}

// active returns a started timer, by its SubState. systemd logs and ignores an
// OnCalendar= line that it does not understand: such a timer is elapsed once all other
// lines have fired.
func active(sub any, next time.Time) Timer {
	switch sub {
	case "running":
		return Timer{State: TimerRunning, Next: next}
	case "elapsed":
		return Timer{State: TimerElapsed}
	}
	return Timer{State: TimerWaiting, Next: next}
}

// next returns the earlier of two times in microseconds, one since 1970 and one since the
// boot, where now is boot since then. 0 and the largest number mean never; it returns the
// zero time if both are.
func next(realtime, monotonic uint64, now time.Time, boot time.Duration) time.Time {
	var at time.Time
	if realtime != 0 && realtime < math.MaxInt64 {
		at = time.UnixMicro(int64(realtime))
	}
	if monotonic != 0 && monotonic < math.MaxInt64/1000 {
		m := now.Add(time.Duration(monotonic)*time.Microsecond - boot)
		if at.IsZero() || m.Before(at) {
			at = m
		}
	}
	if at.IsZero() {
		return at
	}
	return at.UTC().Truncate(time.Second)
}

// sinceBoot returns systemd's clock for timers without a calendar.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
