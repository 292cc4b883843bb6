package verify

import (
	"fmt"
	"slices"
	"strings"
)

// configuredMount is what a release's configuration mounts somewhere: a line of
// fstab(5), or a unit of systemd.mount(5).
type configuredMount struct {
	what, where, kind string
	options           []string
}

func (c *configuredMount) String() string { return c.kind + " " + c.what }

// option returns the values of an option "name=value".
func (c *configuredMount) option(name string) []string {
	var out []string
	for _, o := range c.options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			out = append(out, value)
		}
	}
	return out
}

// isBind reports whether it shows a directory that is there already.
func (c *configuredMount) isBind() bool {
	return slices.Contains(c.options, "bind") || slices.Contains(c.options, "rbind")
}

// parseFstab returns what an fstab mounts. Lines that mount nothing (swap,
// comments, what is no line) are passed over.
func parseFstab(text string) []configuredMount {
	var out []configuredMount
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || !strings.HasPrefix(f[1], "/") {
			continue
		}
		m := configuredMount{what: unescapeFstab.Replace(f[0]), where: cleanPoint(unescapeFstab.Replace(f[1])), kind: f[2]}
		if len(f) > 3 {
			m.options = strings.Split(unescapeFstab.Replace(f[3]), ",")
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

// parseMountUnit returns what a mount unit mounts; false where its section
// [Mount] does not say.
func parseMountUnit(text string) (configuredMount, bool) {
	m := configuredMount{kind: "auto"}
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
			m.what = value
		case "Where":
			m.where = cleanPoint(value)
		case "Type":
			m.kind = value
		case "Options":
			m.options = strings.Split(value, ",")
		}
	}
	return m, m.what != "" && strings.HasPrefix(m.where, "/")
}

// mountUnit returns the name of the unit that mounts something at a path, as
// systemd-escape(1) makes it.
func mountUnit(point string) string {
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
