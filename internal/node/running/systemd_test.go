package running

import (
	"errors"
	"fmt"
	"net"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// TestConnectionEnds: where the service manager ends the connection, its units are not
// taken for ones that were unloaded.
func TestConnectionEnds(t *testing.T) {
	here, there := net.Pipe()
	bus, err := dbus.NewConn(here)
	if err != nil {
		t.Fatal(err)
	}
	bus.Close()
	there.Close()
	units, err := askUnits(t.Context(), bus, []systemd.UnitStatus{{Name: "a.service", Path: "/a"}, {Name: "b.service", Path: "/b"}})
	if err == nil {
		t.Errorf("got %v, and no error", units)
	}
}

// TestUnloaded: a service manager that can't answer has the unit all the same.
func TestUnloaded(t *testing.T) {
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.UnknownObject": true, "org.freedesktop.systemd1.NoSuchUnit": true,
		"org.freedesktop.DBus.Error.LimitsExceeded": false, "org.freedesktop.DBus.Error.AccessDenied": false,
	} {
		if got := isUnloaded(fmt.Errorf("property: %w", dbus.Error{Name: name})); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if isUnloaded(errors.New("closed")) {
		t.Error("an error that is no answer")
	}
}
