package running

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
)

// binding is a mount that a unit's files make for its processes alone.
type binding struct {
	from string // the directory or file that is shown; "" for an empty one
	to   string // where, with specifiers of systemd.unit(5)
	// layered means that the contents come from an image, or from layers.
	layered bool
}

// bindingsOf reads the text of a unit's files, systemd.exec(5).
func bindingsOf(text string) []binding {
	var out []binding
	for key, value := range assignments(text) {
		words := strings.Fields(unquote.Replace(value))
		for _, word := range words {
			word = strings.TrimLeft(word, "-+")
			fields := strings.Split(word, ":")
			switch key {
			case "BindPaths", "BindReadOnlyPaths":
				b := binding{from: fields[0], to: fields[0]}
				if len(fields) > 1 && fields[1] != "" {
					b.to = fields[1]
				}
				out = append(out, b)
			case "TemporaryFileSystem":
				out = append(out, binding{to: fields[0]})
			case "MountImages":
				if len(fields) > 1 {
					out = append(out, binding{to: fields[1], layered: true})
				}
			case "ExtensionImages", "ExtensionDirectories":
				for _, dir := range []string{"/usr", "/opt", "/etc"} {
					out = append(out, binding{to: dir, layered: true})
				}
			}
		}
	}
	return out
}

// explains reports whether m, mounted at point in the root directory root of a process,
// is what b makes.
func (b *binding) explains(machine *Machine, root, point string, m *nixstore.Mount) bool {
	to := path.Clean(b.to)
	below := ""
	if !strings.Contains(to, "%") {
		// Mounts below the bound directory are bound with it.
		if !beneath(point, to) {
			// Systemd follows links.
			if to = machine.follow(to); to == "" || !beneath(point, to) {
				return false
			}
		}
		below = point[len(to):]
	} else if !matches(to, point) {
		return false
	}
	switch {
	case b.layered:
		return m.Type == "overlay" || below == ""
	case b.from == "":
		return below == "" && m.Type == "tmpfs" && m.Root == "/"
	case strings.Contains(b.from, "%"):
		return true // any, since the directory is unknown
	}
	from := machine.follow(path.Clean(b.from))
	if from == "" {
		return false
	}
	want, err := machine.Store.Stat(from + below)
	if err != nil {
		return false
	}
	got, err := statWithin(root, point)
	return err == nil && got.Dev == want.Dev && got.Ino == want.Ino
}

// follow returns the end of a name's links; "" if it does not exist.
func (m *Machine) follow(name string) string {
	at, err := m.Store.Follow(name)
	if err != nil {
		return ""
	}
	return at
}

// statWithin returns the status of name within the root directory root.
func statWithin(root, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(top)
	fd, err := unix.Openat2(top, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	err = unix.Fstat(fd, &st)
	return st, err
}

// unitText returns the text of the files that the accepted system has for a unit: its
// own or that of its template, and its drop-ins. It is "" for a unit of no file of it.
func (m *Machine) unitText(want *expected.Machine, unit string) (string, error) {
	var text strings.Builder
	for _, name := range dropInNames(unit) {
		for i := range want.Units {
			u := &want.Units[i]
			dropIn := path.Dir(u.Path) == name+".d" && strings.HasSuffix(u.Path, ".conf")
			if u.Path != name && !dropIn || u.Target == "/dev/null" {
				continue
			}
			part, err := m.readUnit(u.Target)
			if err != nil {
				return "", err
			}
			text.WriteString(part + "\n")
		}
	}
	return text.String(), nil
}

// dropInNames returns the names under which a unit may have files: its own, its
// template's, and those whose drop-ins it shares with others, see systemd.unit(5).
func dropInNames(unit string) []string {
	names := []string{unit}
	if t := template(unit); t != "" {
		names = append(names, t)
	}
	kind := path.Ext(unit)
	stem := strings.TrimSuffix(uninstanced(unit), kind)
	for i := len(stem) - 1; i > 0; i-- {
		if stem[i] == '-' {
			names = append(names, stem[:i+1]+kind)
		}
	}
	return slices.Compact(append(names, strings.TrimPrefix(kind, ".")))
}
