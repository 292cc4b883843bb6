package mounted

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoFstab means that the release has no list of its mounts.
var ErrNoFstab = errors.New("the release has no etc/fstab to compare with")

// Configured is one mount of a release's configuration: a line of fstab(5), or a unit of
// systemd.mount(5).
type Configured struct {
	What, Where, Kind string
	Options           []string
}

func (c *Configured) String() string { return c.Kind + " " + c.What }

// option returns the values of an option "name=value".
func (c *Configured) option(name string) []string {
	var out []string
	for _, o := range c.Options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			out = append(out, value)
		}
	}
	return out
}

// isBind reports whether c is a bind mount: it shows a directory of the machine at a
// second place.
func (c *Configured) isBind() bool {
	return slices.Contains(c.Options, "bind") || slices.Contains(c.Options, "rbind")
}

// ParseFstab returns the mounts of an fstab. Lines without one (swap, comments, malformed
// lines) are skipped.
func ParseFstab(text string) []Configured {
	var out []Configured
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || !strings.HasPrefix(f[1], "/") {
			continue
		}
		m := Configured{What: unescapeFstab.Replace(f[0]), Where: cleanPoint(unescapeFstab.Replace(f[1])), Kind: f[2]}
		if len(f) > 3 {
			m.Options = strings.Split(unescapeFstab.Replace(f[3]), ",")
		}
		out = append(out, m)
	}
	return out
}

// unescapeFstab undoes what fstab(5) has for the bytes that separate.
var unescapeFstab = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")

func cleanPoint(where string) string {
	if trimmed := strings.TrimRight(where, "/"); trimmed != "" {
		return trimmed
	}
	return "/"
}

// ParseUnit returns the mount of a mount unit; false if its section [Mount] has none.
func ParseUnit(text string) (Configured, bool) {
	m := Configured{Kind: "auto"}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Mount]" {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "What":
			m.What = value
		case "Where":
			m.Where = cleanPoint(value)
		case "Type":
			m.Kind = value
		case "Options":
			m.Options = strings.Split(value, ",")
		}
	}
	return m, m.What != "" && strings.HasPrefix(m.Where, "/")
}

// UnitName returns the name of the unit that mounts something at a path, as
// systemd-escape(1) makes it.
func UnitName(point string) string {
	point = strings.Trim(point, "/")
	if point == "" {
		return "-.mount"
	}
	var b strings.Builder
	for i := range len(point) {
		switch c := point[i]; {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String() + ".mount"
}
