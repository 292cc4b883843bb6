package running

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// peer returns a connection to a service manager of this test, which answers a call with
// a value or an error.
func peer(t *testing.T, answer func(call *dbus.Message) (any, *dbus.Error)) *dbus.Conn {
	t.Helper()
	at, err := net.Listen("unix", filepath.Join(t.TempDir(), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		c, err := at.Accept()
		if err == nil {
			err = serve(c, answer)
			c.Close()
		}
		served <- err
	}()
	c, err := net.Dial("unix", at.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	bus, err := newBus(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		bus.Close()
		at.Close()
		if err := <-served; err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	return bus
}

func serve(c net.Conn, answer func(*dbus.Message) (any, *dbus.Error)) error {
	in := bufio.NewReader(c)
	for _, said := range [][2]string{{"\x00AUTH\r\n", "REJECTED EXTERNAL\r\n"}, {"AUTH EXTERNAL", "OK 0123456789abcdef\r\n"}, {"BEGIN\r\n", ""}} {
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, said[0]) {
			return fmt.Errorf("authentication: %q, %w", line, err)
		}
		if said[1] == "" {
			break
		}
		if _, err := io.WriteString(c, said[1]); err != nil {
			return err
		}
	}
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return err
		}
		value, failed := answer(call)
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
		}}
		if failed != nil {
			reply.Type, reply.Body = dbus.TypeError, []any{"not now"}
			reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(failed.Name)
		} else {
			reply.Body = []any{dbus.MakeVariant(value)}
		}
		reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
		if err := reply.EncodeTo(c, binary.LittleEndian); err != nil {
			return err
		}
	}
}

// unitsNamed returns units as the service manager lists them.
func unitsNamed(names ...string) []systemd.UnitStatus {
	var out []systemd.UnitStatus
	for _, name := range names {
		object := "/" + strings.NewReplacer(".", "_2e", "-", "_2d").Replace(name)
		out = append(out, systemd.UnitStatus{Name: name, LoadState: "loaded", Path: dbus.ObjectPath(object)})
	}
	return out
}

// asked returns the unit and the property that a call asks for.
func asked(call *dbus.Message) (unit, property string) {
	at := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	return strings.NewReplacer("/", "", "_2e", ".", "_2d", "-").Replace(string(at)), call.Body[1].(string)
}

// TestConnectionEnds: where the service manager ends the connection, its units are not
// taken for ones that were unloaded.
func TestConnectionEnds(t *testing.T) {
	bus := peer(t, nil)
	bus.Close()
	units, err := askUnits(bus, unitsNamed("a.service", "b.service"), nil)
	if err == nil {
		t.Errorf("got %v, and no error", units)
	}
}

// TestRunEnds: a service manager that answers nothing is given up when the run ends.
func TestRunEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		reads int // bytes of what it is sent
	}{{"before the authentication", 0}, {"in the authentication", 5}} {
		t.Run(test.name, func(t *testing.T) {
			here, there := net.Pipe()
			defer there.Close()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, _ = io.ReadFull(there, make([]byte, test.reads))
				cancel()
			}()
			if _, err := newBus(ctx, here); err == nil {
				t.Error("no error")
			}
		})
	}
	t.Run("after it", func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			// It reads a part of the first request.
			_ = serve(there, func(*dbus.Message) (any, *dbus.Error) {
				_, _ = io.ReadFull(there, make([]byte, 10))
				cancel()
				<-t.Context().Done()
				return nil, &dbus.Error{}
			})
			there.Close()
		}()
		bus, err := newBus(ctx, here)
		if err != nil {
			t.Fatal(err)
		}
		defer bus.Close()
		if units, err := askUnits(bus, unitsNamed("a.service", "b.service"), nil); err == nil {
			t.Errorf("got %v, and no error", units)
		}
	})
}

// TestAnswersTooMuch: what is read of the service manager is limited.
func TestAnswersTooMuch(t *testing.T) {
	l := &limited{nil, bufio.NewReader(strings.NewReader("abcdef")), 4}
	if got, err := io.ReadAll(io.LimitReader(l, 4)); err != nil || string(got) != "abcd" {
		t.Errorf("got %q, %v", got, err)
	}
	if n, err := l.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %d more bytes, %v", n, err)
	}
}

// TestAskUnits asks for more units than are asked for at a time. One that was unloaded is
// left out; one of which a property can't be had fails.
func TestAskUnits(t *testing.T) {
	type command struct {
		Program   string
		Arguments []string
		Ignore    bool
		Started   uint64
	}
	type file struct {
		Name     string
		Optional bool
	}
	values := map[string]any{
		"FragmentPath": "/a", "DropInPaths": []string{"/b", "/c"}, "NeedDaemonReload": false,
		"ExecStart":   []command{{"/bin/a", []string{"a", "b"}, true, 7}, {"/bin/b", []string{}, false, 1 << 50}},
		"Environment": []string{"A=b"}, "User": "u", "Group": "", "EnvironmentFiles": []file{{"/env", true}},
	}
	for _, property := range serviceProperties {
		if values[property] == nil {
			values[property] = []command{}
		}
	}
	var names []string
	for i := range 2*maxAsked + 10 {
		names = append(names, fmt.Sprintf("%d.service", i))
	}
	refused := ""
	bus := peer(t, func(call *dbus.Message) (any, *dbus.Error) {
		unit, property := asked(call)
		switch {
		case unit == "7.service":
			return nil, &dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}
		case property == refused:
			return nil, &dbus.Error{Name: "org.freedesktop.DBus.Error.UnknownProperty"}
		}
		return values[property], nil
	})
	h := newHost(t)
	dirs := func() *unitDirs { return readUnitDirs(h.m.Store, nil) }
	units, err := askUnits(bus, unitsNamed(names...), dirs)
	if err != nil || len(units) != len(names)-1 {
		t.Fatalf("got %d units, %v", len(units), err)
	}
	for _, got := range units {
		want := Unit{
			Name: got.Name, Fragment: "/a", DropIns: []string{"/b", "/c"}, Environment: []string{"A=b"},
			Commands: []Command{{"/bin/a", []string{"a", "b"}}, {"/bin/b", []string{}}}, Settings: []string{"User=u", "EnvironmentFile=/env"},
		}
		if got.Name == "7.service" || !reflect.DeepEqual(got, want) {
			t.Errorf("got %#v, want %#v", got, want)
		}
	}
	refused = "DropInPaths"
	if units, err := askUnits(bus, unitsNamed("a.service"), dirs); err == nil || err.Error() != "property DropInPaths of /a_2eservice: not now" {
		t.Errorf("got %v, %v", units, err)
	}
}

// TestUnloaded: a service manager that can't answer has the unit all the same.
func TestUnloaded(t *testing.T) {
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.UnknownObject": true, "org.freedesktop.systemd1.NoSuchUnit": true,
		"org.freedesktop.DBus.Error.LimitsExceeded": false, "org.freedesktop.DBus.Error.AccessDenied": false,
		"org.freedesktop.DBus.Error.UnknownProperty": false,
	} {
		if got := isUnloaded(fmt.Errorf("property: %w", dbus.Error{Name: name})); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if isUnloaded(errors.New("closed")) {
		t.Error("an error that is no answer")
	}
}

// TestAskStale: the service manager is asked whether a unit's files were changed where
// they may have been, and of all units once one of these has.
func TestAskStale(t *testing.T) {
	h := newHost(t)
	h.write("/etc/units/b.service.d/x.conf", "", 0o644)
	h.write("/etc/units/mnt-.mount.d/x.conf", "", 0o644)
	for _, test := range []struct {
		name         string
		stale, asked []string
	}{
		{"none is stale", nil, []string{"a.mount", "b.service", "gone.service", "mnt-1.mount"}},
		{"one is", []string{"mnt-1.mount"}, []string{"a.mount", "b.service", "c.mount", "gone.service", "mnt-1.mount"}},
		{"one that is not asked of is", []string{"c.mount"}, []string{"a.mount", "b.service", "gone.service", "mnt-1.mount"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stale []string
			bus := peer(t, func(call *dbus.Message) (any, *dbus.Error) {
				switch unit, property := asked(call); property {
				case "FragmentPath":
					return "", nil
				case "DropInPaths":
					return []string{}, nil
				default:
					stale = append(stale, unit)
					return slices.Contains(test.stale, unit), nil
				}
			})
			listed := unitsNamed("a.mount", "b.service", "c.mount", "gone.service", "mnt-1.mount")
			listed[3].LoadState = "not-found"
			units, err := askUnits(bus, listed, func() *unitDirs { return readUnitDirs(h.m.Store, []string{"/etc/units", "/etc/absent"}) })
			if err != nil || len(units) != len(listed) {
				t.Fatalf("got %v, %v", units, err)
			}
			if slices.Sort(stale); !slices.Equal(stale, test.asked) {
				t.Errorf("asked of %q, want %q", stale, test.asked)
			}
			for _, u := range units {
				if want := slices.Contains(test.stale, u.Name) && slices.Contains(stale, u.Name); u.Stale != want {
					t.Errorf("%s: stale %v", u.Name, u.Stale)
				}
			}
		})
	}
}
