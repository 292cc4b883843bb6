package systemd

import (
	"context"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Unit is a unit as systemd has it loaded, with what a service may see and write.
type Unit struct {
	Name string
	// Absent says that there is no such unit; nothing else is set then.
	Absent bool
	// Enabled is its UnitFileState: "enabled", "disabled", "static", "linked" …
	Enabled string
	// File is where it is from, DropIns are the files that change it.
	File    string
	DropIns []string
	// Stale says that files were changed since they were loaded.
	Stale bool
	// Program is what a service runs, with its arguments; empty of a timer.
	Program []string
	Sandbox Sandbox
}

// Sandbox is what a service sees of the file system, by the settings of
// systemd.exec(5) with these names.
type Sandbox struct {
	ProtectHome   string // "no", "yes", "read-only" or "tmpfs"
	ProtectSystem string // "no", "yes", "full" or "strict"
	PrivateTmp    bool
	// The lists are of absolute paths, without the "-" and "+" before them.
	Inaccessible, ReadOnly, ReadWrite []string
	// State are directories below /var/lib: StateDirectory=.
	State []string
	// Bound are the places where something is mounted in the service's view:
	// BindPaths=, BindReadOnlyPaths=.
	Bound []string
}

// Units asks systemd for units by their names. Where it can't be asked, the error
// says why.
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

// unitOf reads what org.freedesktop.systemd1(5) says of a unit. What is missing in
// an older systemd is not restricted by it.
func unitOf(name string, props map[string]any) Unit {
	u := Unit{Name: name}
	if props["LoadState"] == "not-found" {
		u.Absent = true
		return u
	}
	u.Enabled, _ = props["UnitFileState"].(string)
	u.File, _ = props["FragmentPath"].(string)
	u.DropIns, _ = props["DropInPaths"].([]string)
	u.Stale, _ = props["NeedDaemonReload"].(bool)
	u.Program = argumentsOf(props["ExecStart"])
	s := &u.Sandbox
	s.ProtectHome, _ = props["ProtectHome"].(string)
	s.ProtectSystem, _ = props["ProtectSystem"].(string)
	s.PrivateTmp, _ = props["PrivateTmp"].(bool)
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

// boundAt returns the second member of each entry: an array of structures of
// source, destination and flags.
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

// argumentsOf returns the arguments of the first command: an array of structures
// of the program, its arguments, and how it ended last.
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

// structures returns an array of structures as D-Bus gives it, [][]any.
func structures(value any) [][]any {
	out, _ := value.([][]any)
	return out
}
