package running

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// managerSocket is where the service manager itself answers, to root.
	managerSocket = FirstRoot + "/run/systemd/private"
	// managerTimeout limits all requests of one look.
	managerTimeout = time.Minute
	maxUnits       = 50_000
	// maxAsked limits the units that are asked for at a time.
	maxAsked = 16

	managerName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
)

// SystemdLoaded asks the service manager when it last began to load units.
func SystemdLoaded(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	bus, state, err := dialManager(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return state.Loaded, bus.Close()
}

// SystemdUnits asks the service manager, the machine's first process, for its loaded
// units.
func SystemdUnits(ctx context.Context) (*Units, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	bus, out, err := dialManager(ctx)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	var listed []systemd.UnitStatus
	if err := bus.Object(managerName, managerPath).CallWithContext(ctx, managerName+".Manager.ListUnits", 0).Store(&listed); err != nil {
		return nil, fmt.Errorf("list the units: %w", err)
	}
	if len(listed) > maxUnits {
		return nil, fmt.Errorf("more than %d units are loaded", maxUnits)
	}
	out.Units, err = askUnits(ctx, bus, listed)
	return out, err
}

// askUnits asks the service manager for units, but for those unloaded meanwhile.
func askUnits(ctx context.Context, bus *dbus.Conn, listed []systemd.UnitStatus) ([]Unit, error) {
	units := make([]*Unit, len(listed))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxAsked)
	for i := range listed {
		g.Go(func() error {
			unit, err := askUnit(ctx, bus, &listed[i])
			if isUnloaded(err) {
				return nil
			}
			units[i] = unit
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []Unit
	for _, unit := range units {
		if unit != nil {
			out = append(out, *unit)
		}
	}
	return out, nil
}

// isUnloaded reports whether the service manager answered that a unit is not there any
// more, and not that it can't answer.
func isUnloaded(err error) bool {
	answer := dbus.Error{}
	return errors.As(err, &answer) && (strings.HasPrefix(answer.Name, "org.freedesktop.DBus.Error.Unknown") || answer.Name == managerName+".NoSuchUnit")
}

// managerState asks the service manager for all of [Units] but the units.
func managerState(ctx context.Context, bus *dbus.Conn) (*Units, error) {
	const begun, done, loaded, sinceBoot, environment = "GeneratorsStartTimestamp", "GeneratorsFinishTimestamp", "UnitsLoadTimestamp", "UnitsLoadTimestampMonotonic", "Environment"
	properties, err := propertiesOf(ctx, bus, managerPath, "Manager", []string{begun, done, loaded, sinceBoot, environment})
	if err != nil {
		return nil, err
	}
	out := new(Units)
	var then time.Time // after the boot
	for _, at := range []struct {
		to   *time.Time
		name string
	}{{&out.Begun, begun}, {&out.Done, done}, {&out.Loaded, loaded}, {&then, sinceBoot}} {
		if *at.to, err = moment(properties, at.name); err != nil {
			return nil, err
		}
	}
	if out.Set, err = clockSet(out.Loaded, time.Duration(then.UnixNano())); err != nil {
		return nil, err
	}
	var ok bool
	if out.Environment, ok = properties[environment].([]string); !ok {
		return nil, fmt.Errorf("the service manager's environment is %.100q", fmt.Sprint(properties[environment]))
	}
	return out, nil
}

// askUnit asks the service manager for a unit.
func askUnit(ctx context.Context, bus *dbus.Conn, u *systemd.UnitStatus) (*Unit, error) {
	// A unit has hundreds of properties, and these few are asked for at once.
	properties, err := propertiesOf(ctx, bus, u.Path, "Unit", unitProperties)
	if err != nil {
		return nil, err
	}
	unit := &Unit{Name: u.Name, Gone: isGone(u)}
	unit.Fragment, _ = properties["FragmentPath"].(string)
	unit.DropIns, _ = properties["DropInPaths"].([]string)
	unit.Stale, _ = properties["NeedDaemonReload"].(bool)
	unit.Active = slices.Contains([]string{"active", "activating", "reloading"}, u.ActiveState)
	if !strings.HasSuffix(u.Name, ".service") || unit.Fragment == "" {
		return unit, nil
	}
	service, err := propertiesOf(ctx, bus, u.Path, "Service", slices.Concat(commandProperties, []string{"Environment", "EnvironmentFiles", "User", "Group"}))
	if err != nil {
		return nil, err
	}
	unit.effect(service)
	return unit, nil
}

var (
	unitProperties    = []string{"FragmentPath", "DropInPaths", "NeedDaemonReload"}
	commandProperties = []string{"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}
)

// propertiesOf asks for some properties of a unit, or of the service manager: those of a
// kind, such as "Service".
func propertiesOf(ctx context.Context, bus *dbus.Conn, at dbus.ObjectPath, kind string, names []string) (map[string]any, error) {
	object := bus.Object(managerName, at)
	calls := make([]*dbus.Call, len(names))
	for i, name := range names {
		calls[i] = object.GoWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, make(chan *dbus.Call, 1), managerName+"."+kind, name)
	}
	out := make(map[string]any, len(names))
	var failed error
	for i, call := range calls {
		var value dbus.Variant
		if err := (<-call.Done).Store(&value); err != nil {
			failed = fmt.Errorf("property %s of %s: %w", names[i], at, err)
		}
		out[names[i]] = value.Value()
	}
	return out, failed
}

// isGone reports whether a unit that starts something is active, and of no file.
func isGone(u *systemd.UnitStatus) bool {
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

// moment returns a time of the service manager, which it has in microseconds.
func moment(properties map[string]any, name string) (time.Time, error) {
	microseconds, ok := properties[name].(uint64)
	if !ok || microseconds > math.MaxInt64 {
		return time.Time{}, fmt.Errorf("%s of the service manager is %.100q", name, fmt.Sprint(properties[name]))
	}
	return time.UnixMicro(int64(microseconds)), nil
}

// unhurried is a connection that is read in large pieces: of each message D-Bus reads
// field by field.
type unhurried struct {
	net.Conn
	in *bufio.Reader
}

func (u unhurried) Read(p []byte) (int, error) { return u.in.Read(p) }

// clockSet returns by how much the clock was set since it said then, which was sinceBoot
// after the boot. A clock that NTP makes faster or slower is not set.
func clockSet(then time.Time, sinceBoot time.Duration) (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the time since the boot: %w", err)
	}
	return time.Since(then) - (time.Duration(now.Nano()) - sinceBoot), nil
}

// dialManager connects to the service manager, and asks it for all of [Units] but the
// units. Of a lone first message of less than 256 bytes systemd may take no notice: it
// reads it with the end of the authentication, and waits for more. These are several.
func dialManager(ctx context.Context) (*dbus.Conn, *Units, error) {
	bus, err := dialFirst(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the service manager: %w", err)
	}
	state, err := managerState(ctx, bus)
	if err != nil {
		return nil, nil, errors.Join(err, bus.Close())
	}
	return bus, state, nil
}

// dialFirst connects to the first process, and to nobody who took its place.
func dialFirst(ctx context.Context) (*dbus.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", managerSocket)
	if err != nil {
		return nil, err
	}
	if err := isFirst(c.(*net.UnixConn)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	conn, err := dbus.NewConn(unhurried{c, bufio.NewReader(c)}, dbus.WithContext(ctx))
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
