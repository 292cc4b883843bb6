package systemd

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Exit is the last result of a service.
type Exit struct {
	Unit    string    `json:"unit"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Result is systemd's word for it: success, exit-code, signal, timeout, …; see
	// systemctl(1).
	Result string `json:"result"`
	// Status is the exit code, or the number of the signal.
	Status int `json:"status"`
}

// Exits asks systemd for the last results of services, by name. A service that is
// running, or has not ended since the boot, is left out.
func Exits(ctx context.Context, names ...string) ([]Exit, error) {
	var exits []Exit
	err := askFor(ctx, names, func(ctx context.Context, conn *dbus.Conn, i int) error {
		e, err := exit(ctx, conn, names[i])
		if err == nil && !e.Ended.IsZero() {
			exits = append(exits, e)
		}
		return err
	})
	return exits, err
}

// exit reads a service's properties; see org.freedesktop.systemd1(5).
func exit(ctx context.Context, conn *dbus.Conn, name string) (Exit, error) {
	props, err := conn.GetUnitTypePropertiesContext(ctx, name, "Service")
	if err != nil {
		return Exit{}, err
	}
	began, _ := props["ExecMainStartTimestamp"].(uint64)
	ended, _ := props["ExecMainExitTimestamp"].(uint64)
	result, _ := props["Result"].(string)
	status, _ := props["ExecMainStatus"].(int32)
	e := Exit{Unit: name, Result: result, Status: int(status), Started: next(began, 0, time.Time{}, 0)}
	if began != 0 {
		e.Ended = next(ended, 0, time.Time{}, 0)
	}
	return e, nil
}
