package running

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// TestConnectionEnds: where the service manager ends the connection, its units are not
// taken for ones that were unloaded.
func TestConnectionEnds(t *testing.T) {
	b := peer(t, nil)
	b.conn.Close()
	units, err := askUnits(b, []listedUnit{{name: "a.service", object: "/a"}, {name: "b.service", object: "/b"}}, nil)
	if err == nil {
		t.Errorf("got %v, and no error", units)
	}
}

// TestUnloaded: a service manager that can't answer has the unit all the same.
func TestUnloaded(t *testing.T) {
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.UnknownObject": true, "org.freedesktop.systemd1.NoSuchUnit": true,
		"org.freedesktop.DBus.Error.LimitsExceeded": false, "org.freedesktop.DBus.Error.AccessDenied": false,
		"org.freedesktop.DBus.Error.UnknownProperty": false,
	} {
		if got := isUnloaded(fmt.Errorf("property: %w", &answerError{name: name})); got != want {
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
			var asked []string
			b := peer(t, func(call *dbus.Message) ([]any, *dbus.Error) {
				at := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
				unit := strings.NewReplacer("/", "", "_2e", ".", "_2d", "-").Replace(string(at))
				switch call.Body[1] {
				case "FragmentPath":
					return []any{dbus.MakeVariant("")}, nil
				case "DropInPaths":
					return []any{dbus.MakeVariant([]string{})}, nil
				}
				asked = append(asked, unit)
				return []any{dbus.MakeVariant(slices.Contains(test.stale, unit))}, nil
			})
			var listed []listedUnit
			for _, name := range []string{"a.mount", "b.service", "c.mount", "gone.service", "mnt-1.mount"} {
				u := listedUnit{name: name, load: "loaded", object: "/" + strings.NewReplacer(".", "_2e", "-", "_2d").Replace(name)}
				if name == "gone.service" {
					u.load = "not-found"
				}
				listed = append(listed, u)
			}
			units, err := askUnits(b, listed, func() *unitDirs { return readUnitDirs(h.m.Store, []string{"/etc/units", "/etc/absent"}) })
			if err != nil || len(units) != len(listed) {
				t.Fatalf("got %v, %v", units, err)
			}
			if slices.Sort(asked); !slices.Equal(asked, test.asked) {
				t.Errorf("asked of %q, want %q", asked, test.asked)
			}
			for _, u := range units {
				if want := slices.Contains(test.stale, u.Name) && slices.Contains(asked, u.Name); u.Stale != want {
					t.Errorf("%s: stale %v", u.Name, u.Stale)
				}
			}
		})
	}
}
