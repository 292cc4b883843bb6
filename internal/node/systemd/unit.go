package systemd

import (
	"context"
	"math"
	"slices"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Unit is a loaded unit, with what a service may see and write.
type Unit struct {
	Name string
	// Absent means that there is no such unit; all other fields are then zero.
	Absent bool
	// Enabled is its UnitFileState: "enabled", "disabled", "static", "linked" …
	Enabled string
	// DropIns are the files that change the unit's own.
	DropIns []string
	// Stale means that files changed since they were loaded.
	Stale bool
	// Program is a service's program with its arguments; empty for a timer.
	Program []string
	Sandbox Sandbox
}

// Sandbox is what a service may see, write and do, by the settings of systemd.exec(5) with
// these names.
type Sandbox struct {
	ProtectHome   string // "no", "yes", "read-only" or "tmpfs"
	ProtectSystem string // "no", "yes", "full" or "strict"
	PrivateTmp    bool
	// The lists have absolute paths, without the prefixes "-" and "+".
	Inaccessible, ReadOnly, ReadWrite []string
	// State are directories below /var/lib: StateDirectory=.
	State []string
	// Bound are the mount points of BindPaths= and BindReadOnlyPaths=.
	Bound []string
	// Capabilities is CapabilityBoundingSet=, a bit for each capability by its number.
	Capabilities   uint64
	PrivateNetwork bool
	Families       Families
}

// Families are the address families of RestrictAddressFamilies=. The zero value restricts
// nothing.
type Families struct {
	// Only means that the service may use no other families than Names, otherwise every
	// other.
	Only  bool
	Names []string // "AF_UNIX" …
}

// Allow reports whether a service may use a family.
func (f Families) Allow(name string) bool { return slices.Contains(f.Names, name) == f.Only }

// Units asks systemd for units by name. If it can't be asked, the error says why.
func Units(ctx context.Context, names ...string) ([]Unit, error) {
	units := make([]Unit, len(names))
	err := askFor(ctx, names, func(ctx context.Context, conn *dbus.Conn, i int) (err error) {
		units[i], err = loadedUnit(ctx, conn, names[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	return units, nil
}

func loadedUnit(ctx context.Context, conn *dbus.Conn, name string) (Unit, error) {
	props, err := conn.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, err
	}
	return unitOf(name, props), nil
}

// unitOf reads a unit's properties; see org.freedesktop.systemd1(5). A property that an
// older systemd lacks restricts nothing.
func unitOf(name string, props map[string]any) Unit {
	u := Unit{Name: name}
	if props["LoadState"] == "not-found" {
		u.Absent = true
		return u
	}
	u.Enabled, _ = props["UnitFileState"].(string)
	u.DropIns, _ = props["DropInPaths"].([]string)
	u.Stale, _ = props["NeedDaemonReload"].(bool)
	u.Program = argumentsOf(props["ExecStart"])
	s := &u.Sandbox
	s.ProtectHome, _ = props["ProtectHome"].(string)
	s.ProtectSystem, _ = props["ProtectSystem"].(string)
	s.PrivateTmp, _ = props["PrivateTmp"].(bool)
	s.PrivateNetwork, _ = props["PrivateNetwork"].(bool)
	s.Families = familiesOf(props["RestrictAddressFamilies"])
	var restricted bool
	if s.Capabilities, restricted = props["CapabilityBoundingSet"].(uint64); !restricted {
		s.Capabilities = math.MaxUint64
	}
	s.Inaccessible = paths(props["InaccessiblePaths"])
	s.ReadOnly = paths(props["ReadOnlyPaths"])
	s.ReadWrite = paths(props["ReadWritePaths"])
	s.State, _ = props["StateDirectory"].([]string)
	for _, key := range []string{"BindPaths", "BindReadOnlyPaths"} {
		s.Bound = append(s.Bound, boundAt(props[key])...)
	}
	return u
}

func paths(value any) []string {
	list, _ := value.([]string)
	out := make([]string, 0, len(list))
	for _, p := range list {
		for len(p) > 0 && (p[0] == '-' || p[0] == '+') {
			p = p[1:]
		}
		out = append(out, p)
	}
	return out
}

// familiesOf reads a structure of whether only these are allowed, and the names.
func familiesOf(value any) (f Families) {
	if entry, ok := value.([]any); ok && len(entry) == 2 {
		f.Only, _ = entry[0].(bool)
		f.Names, _ = entry[1].([]string)
	}
	return f
}

// boundAt returns the second member of each entry in an array of structures of source,
// destination and flags.
func boundAt(value any) []string {
	var out []string
	for _, entry := range structures(value) {
		if len(entry) > 1 {
			if at, ok := entry[1].(string); ok {
				out = append(out, at)
			}
		}
	}
	return out
}

// argumentsOf returns the arguments of the first command in an array of structures of the
// program, its arguments, and its last result.
func argumentsOf(value any) []string {
	for _, entry := range structures(value) {
		if len(entry) > 1 {
			if arguments, ok := entry[1].([]string); ok {
				return arguments
			}
		}
	}
	return nil
}

// structures returns an array of structures in the form of the D-Bus library, [][]any.
func structures(value any) [][]any {
	out, _ := value.([][]any)
	return out
}
