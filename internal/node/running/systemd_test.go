package running

import (
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
