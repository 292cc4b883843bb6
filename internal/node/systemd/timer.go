package systemd

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"golang.org/x/sys/unix"
)

// TimerState is what becomes of a timer.
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
	// Next is when it fires, to the second; zero where that is not known.
	Next time.Time
}

// timerWait bounds how long systemd is waited for.
const timerWait = 5 * time.Second

// Timers asks systemd for timer units by their names. Where it can't be asked, as
// on a machine that has none, all of them are unknown, and the error says why.
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

// connect goes over the system's bus, where anybody may ask, or else to systemd's
// own socket, where root may.
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

// timer reads what org.freedesktop.systemd1(5) says of a timer.
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

// active is a timer that is started, by its SubState. One with a line OnCalendar=
// that systemd does not understand is in order for systemd, which logs the line
// and passes it over, and elapsed once all other lines have had their turn.
func active(sub any, next time.Time) Timer {
	switch sub {
	case "running":
		return Timer{State: TimerRunning, Next: next}
	case "elapsed":
		return Timer{State: TimerElapsed}
	}
	return Timer{State: TimerWaiting, Next: next}
}

// next returns the earlier of two times in microseconds, one since 1970 and one
// since the machine was booted, where now is boot since then. 0 and the largest
// number stand for none; the zero time is returned where both are.
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

// sinceBoot is systemd's clock for what does not go by the calendar.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
