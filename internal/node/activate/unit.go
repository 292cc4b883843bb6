package activate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	// Unit is the transient service that a system's script runs in. Its name is a
	// lock as well: systemd runs it once at a time.
	Unit = "ec-verify-switch.service"

	askWait = 30 * time.Second // for one answer of systemd
	// scriptWait is how long a script is waited for. One that takes longer goes on.
	scriptWait = time.Hour
	// silence is how long systemd may be gone, as while it executes itself anew.
	silence = 5 * time.Minute
	look    = 200 * time.Millisecond
	// maxLog is the size, in bytes, at which the log of the script's output starts anew.
	maxLog = 16 << 20
	// leastLog is how much room on the disk it has, in bytes.
	leastLog = 1 << 20
)

// ScriptError is the failure of a system's script.
type ScriptError struct {
	Program, Action string
	// Result is systemd's word for it: "exit-code", "signal", "timeout" …
	Result string
	Status int32
}

func (e *ScriptError) Error() string {
	return fmt.Sprintf("%s %s failed: %s %d", e.Program, e.Action, e.Result, e.Status)
}

// GoesOnError says that a script was not waited for, and goes on.
type GoesOnError struct{ Why error }

func (e *GoesOnError) Error() string {
	return fmt.Sprintf("the switch continues in %s, but waiting for it failed: %v", Unit, e.Why)
}

func (e *GoesOnError) Unwrap() error { return e.Why }

// unitScript runs scripts in a service of systemd's, so that no end of this process,
// of its terminal or of its own unit leaves a system half activated, and with the
// environment of a service. Its output goes to a file, which no reader has to keep up
// with.
type unitScript struct {
	log   string
	relay func([]byte)
}

// Busy implements [Script].
func (u *unitScript) Busy(ctx context.Context) error {
	s, err := unitState(ctx)
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", Unit, err)
	}
	if s.job || s.active == "activating" || s.active == "deactivating" {
		return &HeldError{Lock: Unit}
	}
	return nil
}

// Prepare implements [Script].
func (u *unitScript) Prepare(ctx context.Context) error {
	if err := unchanged(ctx); err != nil {
		return err
	}
	return u.beginLog()
}

// beginLog starts the log of the script's output anew, with reserved disk space: a script
// that can't write its output ends, or waits, halfway.
func (u *unitScript) beginLog() error {
	log, err := os.OpenFile(u.log, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.Truncate(0); err != nil {
		return fmt.Errorf("%s: %w", u.log, err) // e.g. a pipe
	}
	err = unix.Fallocate(int(log.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, leastLog)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: %w", u.log, err)
	}
	return nil
}

// Run implements [Script].
func (u *unitScript) Run(ctx context.Context, program, action string) error {
	log, err := os.OpenFile(u.log, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := clearUnit(ctx); err != nil {
		return err
	}
	if err := startUnit(ctx, program, action, u.log); err != nil {
		return fmt.Errorf("start %s: %w", Unit, err)
	}
	out := output{file: log, relay: u.relay}
	defer out.drain()
	heard := time.Now()
	for deadline := heard.Add(scriptWait); ; {
		out.drain()
		// Not by ctx: its end must not be taken for the unit's.
		s, err := unitState(context.WithoutCancel(ctx))
		switch {
		case err != nil && time.Since(heard) > silence:
			return &GoesOnError{err}
		case err != nil:
		case s.job: // also before it begins
			heard = time.Now()
		case s.active == "active":
			return clearUnit(context.WithoutCancel(ctx))
		case s.active == "failed", s.active == "inactive":
			_ = clearUnit(context.WithoutCancel(ctx)) // so does the next switch
			return &ScriptError{program, action, s.result, s.status}
		default:
			heard = time.Now()
		}
		if time.Now().After(deadline) {
			return &GoesOnError{fmt.Errorf("it takes more than %s", scriptWait)}
		}
		select {
		case <-ctx.Done():
			return &GoesOnError{ctx.Err()}
		case <-time.After(look):
		}
	}
}

// output forwards what is written to a file.
type output struct {
	file   *os.File
	relay  func([]byte)
	offset int64
}

// drain forwards what was written since the last call.
func (o *output) drain() {
	buf := make([]byte, 32<<10)
	for {
		n, err := o.file.ReadAt(buf, o.offset)
		if n > 0 {
			o.offset += int64(n)
			o.relay(buf[:n])
		}
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			break
		}
	}
	if o.offset > maxLog && o.file.Truncate(0) == nil {
		o.offset = 0 // the writer appends
	}
}

type unitNow struct {
	active, result string
	status         int32
	job            bool // it is being started or stopped
}

// asked connects to systemd by its own socket, which works for root without the bus, or
// else by the bus.
func asked(ctx context.Context, do func(context.Context, *dbus.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		if conn, err = dbus.NewSystemConnectionContext(ctx); err != nil {
			return err
		}
	}
	defer conn.Close()
	return do(ctx, conn)
}

func unitState(ctx context.Context) (s unitNow, err error) {
	err = asked(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		props, err := conn.GetAllPropertiesContext(ctx, Unit)
		if err != nil {
			return err
		}
		s.active, _ = props["ActiveState"].(string)
		s.result, _ = props["Result"].(string)
		s.status, _ = props["ExecMainStatus"].(int32)
		if job, _ := props["Job"].([]any); len(job) > 0 {
			id, _ := job[0].(uint32)
			s.job = id != 0
		}
		return nil
	})
	return s, err
}

// clearUnit removes the rest of an earlier run of the unit.
func clearUnit(ctx context.Context) error {
	return asked(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		_ = conn.ResetFailedUnitContext(ctx, Unit) // that it has not failed is no error
		done := make(chan string, 1)
		if _, err := conn.StopUnitContext(ctx, Unit, "replace", done); err != nil {
			return nil //nolint:nilerr // there is none
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	})
}

func startUnit(ctx context.Context, program, action, log string) error {
	property := func(name string, value any) dbus.Property {
		return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
	}
	return asked(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		_, err := conn.StartTransientUnitContext(ctx, Unit, "fail", []dbus.Property{
			dbus.PropDescription("Switch to a verified system"),
			dbus.PropType("oneshot"),
			// The last member of ExecStart= is whether a failure is ignored.
			dbus.PropExecStart([]string{program, action}, false),
			// Keeps the result of the run available.
			dbus.PropRemainAfterExit(true),
			// The switch must not end the one who does it.
			property("StandardInput", "null"),
			property("StandardOutputFileToAppend", log),
			property("StandardErrorFileToAppend", log),
			property("TimeoutStartUSec", ^uint64(0)),
		}, nil)
		return err
	})
}
