package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Exit is how a service ended last.
type Exit struct {
	Unit  string
	Began time.Time
	Ended time.Time
	// Result is systemd's word for it: success, exit-code, signal, timeout, …;
	// see systemctl(1).
	Result string
	// Status is the exit code, or the number of the signal.
	Status int
}

// Exits asks systemd how services ended last, by their names. One that is not
// known to have ended since the machine was booted, or is under way, is left out.
func Exits(ctx context.Context, names ...string) ([]Exit, error) {
	ctx, cancel := context.WithTimeout(ctx, timerWait)
	defer cancel()
	conn, err := connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask systemd: %w", err)
	}
	defer conn.Close()
	var exits []Exit
	for _, name := range names {
		e, err := exit(ctx, conn, name)
		if err != nil {
			return exits, fmt.Errorf("ask systemd for %s: %w", name, err)
		}
		if !e.Ended.IsZero() {
			exits = append(exits, e)
		}
	}
	return exits, nil
}

// exit reads what org.freedesktop.systemd1(5) says of a service.
func exit(ctx context.Context, conn *dbus.Conn, name string) (Exit, error) {
	props, err := conn.GetUnitTypePropertiesContext(ctx, name, "Service")
	if err != nil {
		return Exit{}, err
	}
	began, _ := props["ExecMainStartTimestamp"].(uint64)
	ended, _ := props["ExecMainExitTimestamp"].(uint64)
	result, _ := props["Result"].(string)
	status, _ := props["ExecMainStatus"].(int32)
	e := Exit{Unit: name, Result: result, Status: int(status), Began: next(began, 0, time.Time{}, 0)}
	if began != 0 {
		e.Ended = next(ended, 0, time.Time{}, 0)
	}
	return e, nil
}
