package running

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	// managerSocket is where the service manager itself answers, to root.
	managerSocket = FirstRoot + "/run/systemd/private"
	// managerTimeout limits all requests of one look.
	managerTimeout = time.Minute
	maxUnits       = 50_000
)

// SystemdLoaded asks the service manager when it last began to load units.
func SystemdLoaded(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) { return dialManager(ctx) })
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the service manager: %w", err)
	}
	defer conn.Close()
	return moment(conn, "UnitsLoadTimestamp")
}

// SystemdUnits asks the service manager, the machine's first process, for its loaded
// units.
func SystemdUnits(ctx context.Context) (*Units, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) { return dialManager(ctx) })
	if err != nil {
		return nil, fmt.Errorf("ask the service manager: %w", err)
	}
	defer conn.Close()
	listed, err := conn.ListUnitsContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the units: %w", err)
	}
	if len(listed) > maxUnits {
		return nil, fmt.Errorf("more than %d units are loaded", maxUnits)
	}
	out := new(Units)
	for _, at := range []struct {
		to   *time.Time
		name string
	}{{&out.Begun, "GeneratorsStartTimestamp"}, {&out.Done, "GeneratorsFinishTimestamp"}, {&out.Loaded, "UnitsLoadTimestamp"}} {
		if *at.to, err = moment(conn, at.name); err != nil {
			return nil, err
		}
	}
	sinceBoot, err := moment(conn, "UnitsLoadTimestampMonotonic")
	if err != nil {
		return nil, err
	}
	if out.Set, err = clockSet(out.Loaded, time.Duration(sinceBoot.UnixNano())); err != nil {
		return nil, err
	}
	if out.Environment, err = variables(conn); err != nil {
		return nil, err
	}
	// A unit has hundreds of properties, and these few are asked for at once.
	bus, err := dialManager(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the service manager: %w", err)
	}
	defer bus.Close()
	for _, u := range listed {
		properties, err := propertiesOf(ctx, bus, u.Path, "Unit", unitProperties)
		if err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("ask for unit %s: %w", u.Name, ctx.Err())
			}
			continue // unloaded meanwhile
		}
		unit := Unit{Name: u.Name}
		unit.Fragment, _ = properties["FragmentPath"].(string)
		unit.DropIns, _ = properties["DropInPaths"].([]string)
		unit.Stale, _ = properties["NeedDaemonReload"].(bool)
		unit.Gone = isGone(u)
		unit.Active = slices.Contains([]string{"active", "activating", "reloading"}, u.ActiveState)
		if strings.HasSuffix(u.Name, ".service") && unit.Fragment != "" {
			service, err := propertiesOf(ctx, bus, u.Path, "Service", slices.Concat(commandProperties, []string{"Environment", "EnvironmentFiles", "User", "Group"}))
			if err != nil {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("ask for unit %s: %w", u.Name, ctx.Err())
				}
				continue // unloaded meanwhile
			}
			unit.effect(service)
		}
		out.Units = append(out.Units, unit)
	}
	return out, nil
}

var (
	unitProperties    = []string{"FragmentPath", "DropInPaths", "NeedDaemonReload"}
	commandProperties = []string{"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}
)

// propertiesOf asks for some properties of a unit: those of a kind, such as "Service".
func propertiesOf(ctx context.Context, bus *dbus.Conn, unit dbus.ObjectPath, kind string, names []string) (map[string]any, error) {
	object := bus.Object("org.freedesktop.systemd1", unit)
	calls := make([]*dbus.Call, len(names))
	for i, name := range names {
		calls[i] = object.GoWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, make(chan *dbus.Call, 1), "org.freedesktop.systemd1."+kind, name)
	}
	out := make(map[string]any, len(names))
	var failed error
	for i, call := range calls {
		var value dbus.Variant
		if err := (<-call.Done).Store(&value); err != nil {
			failed = fmt.Errorf("property %s of %s: %w", names[i], unit, err)
		}
		out[names[i]] = value.Value()
	}
	return out, failed
}

// isGone reports whether a unit that starts something is active, and of no file.
func isGone(u systemd.UnitStatus) bool {
	return u.LoadState == "not-found" && u.ActiveState == "active" &&
		slices.Contains([]string{".service", ".socket", ".timer", ".path"}, path.Ext(u.Name))
}

// effect reads what a service runs: arrays of structures of a program, its arguments, and
// more.
func (u *Unit) effect(properties map[string]any) {
	for _, key := range commandProperties {
		entries, _ := properties[key].([][]any)
		for _, entry := range entries {
			if len(entry) < 2 {
				continue
			}
			var c Command
			c.Program, _ = entry[0].(string)
			c.Arguments, _ = entry[1].([]string)
			u.Commands = append(u.Commands, c)
		}
	}
	u.Environment, _ = properties["Environment"].([]string)
	for _, key := range []string{"User", "Group"} {
		if value, _ := properties[key].(string); value != "" {
			u.Settings = append(u.Settings, key+"="+value)
		}
	}
	files, _ := properties["EnvironmentFiles"].([][]any)
	for _, file := range files {
		if name, ok := file[0].(string); ok {
			u.Settings = append(u.Settings, "EnvironmentFile="+name)
		}
	}
}

// variables returns the environment that the service manager gives to what it starts.
func variables(conn *systemd.Conn) ([]string, error) {
	text, err := conn.GetManagerProperty("Environment")
	if err != nil {
		return nil, fmt.Errorf("ask for its environment: %w", err)
	}
	value, err := dbus.ParseVariant(text, dbus.ParseSignatureMust("as"))
	if err != nil {
		return nil, fmt.Errorf("its environment is %.100q: %w", text, err)
	}
	out, _ := value.Value().([]string)
	return out, nil
}

// moment returns a time of the service manager, which it sends in microseconds, as "@t
// 7".
func moment(conn *systemd.Conn, name string) (time.Time, error) {
	text, err := conn.GetManagerProperty(name)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for %s: %w", name, err)
	}
	microseconds, err := strconv.ParseInt(text[strings.LastIndexByte(text, ' ')+1:], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is %q", name, text)
	}
	return time.UnixMicro(microseconds), nil
}

// clockSet returns by how much the clock was set since it said then, which was sinceBoot
// after the boot. A clock that NTP makes faster or slower is not set.
func clockSet(then time.Time, sinceBoot time.Duration) (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the time since the boot: %w", err)
	}
	return time.Since(then) - (time.Duration(now.Nano()) - sinceBoot), nil
}

// dialManager connects to the first process, and to nobody who took its place.
func dialManager(ctx context.Context) (*dbus.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", managerSocket)
	if err != nil {
		return nil, err
	}
	if err := isFirst(c.(*net.UnixConn)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	conn, err := dbus.NewConn(c, dbus.WithContext(ctx))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// isFirst reports whether the other end was opened by the machine's first process.
func isFirst(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if peer.Pid != 1 {
		return fmt.Errorf("%s: process %d answers, and not the first one", managerSocket, peer.Pid)
	}
	return nil
}
