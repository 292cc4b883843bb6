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
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
)

const (
	// managerSocket is where the service manager itself answers, to root.
	managerSocket = FirstRoot + "/run/systemd/private"
	// managerTimeout limits all requests of one look.
	managerTimeout = time.Minute
	maxUnits       = 50_000
	// maxAsked limits the units that are asked for at a time.
	maxAsked = 64
	// maxAnswers limits all answers of one look, in bytes.
	maxAnswers = 256 << 20

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
// units. The store is the machine's, opened at [FirstRoot].
func SystemdUnits(ctx context.Context, store *nixstore.Store) (*Units, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	bus, out, err := dialManager(ctx)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	var listed []systemd.UnitStatus
	if err := bus.Object(managerName, managerPath).Call(managerName+".Manager.ListUnits", 0).Store(&listed); err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("list the units: %w", err))
	}
	if len(listed) > maxUnits {
		return nil, fmt.Errorf("more than %d units are loaded", maxUnits)
	}
	if out.Units, err = askUnits(bus, listed, func() *unitDirs { return readUnitDirs(store, out.dirs) }); err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	return out, nil
}

// askUnits asks the service manager for units, but for those unloaded meanwhile. dirs
// reads the directories of units.
func askUnits(bus *dbus.Conn, listed []systemd.UnitStatus, dirs func() *unitDirs) ([]Unit, error) {
	units := make([]*Unit, len(listed)) // nil for those unloaded meanwhile
	all := make([]int, len(listed))
	for i := range all {
		all[i] = i
	}
	err := askFor(bus, listed, all, "Unit", []string{"FragmentPath", "DropInPaths"}, func(i int, values []any) {
		u := &listed[i]
		units[i] = &Unit{Name: u.Name, Gone: isGone(u), Active: slices.Contains([]string{"active", "activating", "reloading"}, u.ActiveState)}
		units[i].Pending = u.JobId != 0 || u.ActiveState == "activating"
		units[i].Fragment, _ = values[0].(string)
		units[i].DropIns, _ = values[1].([]string)
	})
	if err != nil {
		return nil, err
	}
	if err := askStale(bus, listed, units, dirs()); err != nil {
		return nil, err
	}
	services := slices.DeleteFunc(all, func(i int) bool {
		return units[i] == nil || units[i].Fragment == "" || !strings.HasSuffix(units[i].Name, ".service")
	})
	if err := askFor(bus, listed, services, "Service", serviceProperties, func(i int, values []any) { units[i].effect(values) }); err != nil {
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

// askFor asks for properties of some of the listed units, and calls do with those of
// each that is still there.
func askFor(bus *dbus.Conn, listed []systemd.UnitStatus, which []int, kind string, names []string, do func(i int, values []any)) error {
	for some := range slices.Chunk(which, maxAsked) {
		asked := make([][]*dbus.Call, len(some))
		for k, i := range some {
			asked[k] = ask(bus, listed[i].Path, kind, names)
		}
		for k, i := range some {
			values, err := answers(asked[k])
			switch {
			case isUnloaded(err):
			case err != nil:
				return err
			default:
				do(i, values)
			}
		}
	}
	return nil
}

// ask asks for some properties of an object of a kind, such as "Service".
func ask(bus *dbus.Conn, at dbus.ObjectPath, kind string, names []string) []*dbus.Call {
	object := bus.Object(managerName, at)
	calls := make([]*dbus.Call, len(names))
	for i, name := range names {
		calls[i] = object.Go("org.freedesktop.DBus.Properties.Get", 0, nil, managerName+"."+kind, name)
	}
	return calls
}

// answers waits for the values of properties.
func answers(calls []*dbus.Call) ([]any, error) {
	values := make([]any, len(calls))
	for i, call := range calls {
		var value dbus.Variant
		if err := (<-call.Done).Store(&value); err != nil {
			return nil, fmt.Errorf("property %s of %s: %w", call.Args[1], call.Path, err)
		}
		values[i] = value.Value()
	}
	return values, nil
}

// askStale asks of which units a file was changed since. The service manager looks
// through all its directories to answer that, which takes it longer than all else: it is
// asked of those of which the answer is not known.
func askStale(bus *dbus.Conn, listed []systemd.UnitStatus, units []*Unit, dirs *unitDirs) error {
	var asked, known []int
	for i, u := range units {
		switch {
		case u == nil:
		case len(asked) == 0 || listed[i].LoadState != "loaded" || dirs.mayChange(u):
			asked = append(asked, i)
		default:
			known = append(known, i)
		}
	}
	stale := false
	for _, some := range [][]int{asked, known} {
		if err := askFor(bus, listed, some, "Unit", []string{"NeedDaemonReload"}, func(i int, values []any) {
			units[i].Stale, _ = values[0].(bool)
			stale = stale || units[i].Stale
		}); err != nil {
			return err
		}
		if !stale {
			// After another unit was enabled or disabled, all of them are stale.
			break
		}
	}
	return nil
}

// isUnloaded reports whether the service manager answered that a unit is not there any
// more, and not that it can't answer.
func isUnloaded(err error) bool {
	answer := dbus.Error{}
	return errors.As(err, &answer) && slices.Contains([]string{
		"org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.DBus.Error.UnknownInterface", "org.freedesktop.DBus.Error.UnknownMethod", managerName + ".NoSuchUnit",
	}, answer.Name)
}

// managerState asks the service manager for all of [Units] but the units.
func managerState(bus *dbus.Conn) (*Units, error) {
	names := []string{
		"GeneratorsStartTimestamp", "GeneratorsFinishTimestamp", "UnitsLoadTimestamp", "UnitsLoadTimestampMonotonic", "Environment", "UnitPath",
	}
	values, err := answers(ask(bus, managerPath, "Manager", names))
	if err != nil {
		return nil, err
	}
	out := new(Units)
	var then time.Time // after the boot
	for i, to := range []*time.Time{&out.Begun, &out.Done, &out.Loaded, &then} {
		if *to, err = moment(names[i], values[i]); err != nil {
			return nil, err
		}
	}
	if out.Set, err = clockSet(out.Loaded, time.Duration(then.UnixNano())); err != nil {
		return nil, err
	}
	var ok, ok2 bool
	out.Environment, ok = values[4].([]string)
	out.dirs, ok2 = values[5].([]string)
	if !ok || !ok2 {
		return nil, fmt.Errorf("the environment and the directories of the service manager are %.100q", fmt.Sprint(values[4:]))
	}
	return out, nil
}

// isGone reports whether a unit that starts something is active, and of no file.
func isGone(u *systemd.UnitStatus) bool {
	return u.LoadState == "not-found" && u.ActiveState == "active" &&
		slices.Contains([]string{".service", ".socket", ".timer", ".path"}, path.Ext(u.Name))
}

// serviceProperties are what a service runs and how.
var serviceProperties = []string{
	"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost",
	"Environment", "User", "Group", "EnvironmentFiles",
}

// effect reads the values of the properties of a service.
func (u *Unit) effect(values []any) {
	for i, key := range serviceProperties {
		switch value := values[i].(type) {
		case string: // the user, the group
			if value != "" {
				u.Settings = append(u.Settings, key+"="+value)
			}
		case []string:
			u.Environment = value
		case [][]any:
			for _, entry := range value {
				u.effectOf(key, entry)
			}
		}
	}
}

// effectOf reads an entry of a list: a structure of a program, its arguments and more, or
// of the name of a file with an environment.
func (u *Unit) effectOf(key string, fields []any) {
	if len(fields) < 2 {
		return
	}
	name, _ := fields[0].(string)
	if key == "EnvironmentFiles" {
		u.Settings = append(u.Settings, "EnvironmentFile="+name)
		return
	}
	arguments, _ := fields[1].([]string)
	u.Commands = append(u.Commands, Command{name, arguments})
}

// moment returns a time of the service manager, which it has in microseconds.
func moment(name string, value any) (time.Time, error) {
	microseconds, ok := value.(uint64)
	if !ok || microseconds > math.MaxInt64 {
		return time.Time{}, fmt.Errorf("%s of the service manager is %.100q", name, fmt.Sprint(value))
	}
	return time.UnixMicro(int64(microseconds)), nil
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

// dialManager connects to the service manager, and asks it for all of [Units] but the
// units. Of a lone first message of less than 256 bytes systemd may take no notice: it
// reads it with the end of the authentication, and waits for more. These are several.
func dialManager(ctx context.Context) (*dbus.Conn, *Units, error) {
	bus, err := dialFirst(ctx)
	if err != nil {
		return nil, nil, errors.Join(ctx.Err(), fmt.Errorf("ask the service manager: %w", err))
	}
	state, err := managerState(bus)
	if err != nil {
		return nil, nil, errors.Join(ctx.Err(), err, bus.Close())
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
	return newBus(ctx, c)
}

// newBus begins to speak D-Bus over c, which the bus closes. It fails once ctx is done.
func newBus(ctx context.Context, c net.Conn) (*dbus.Conn, error) {
	// With a context of its own, the library would wait for a write that does not end.
	context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	bus, err := dbus.NewConn(&limited{c, bufio.NewReaderSize(c, 64<<10), maxAnswers})
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, bus.Close())
	}
	return bus, nil
}

// limited is a connection of which so many bytes can be read. It is read in large pieces:
// of each message the library reads field by field.
type limited struct {
	net.Conn
	in   *bufio.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errors.New("the service manager answers too much")
	}
	n, err := l.in.Read(p)
	l.left -= n
	return n, err
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
