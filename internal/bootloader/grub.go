package bootloader

import (
	"bufio"
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// parseGrub reads a grub.cfg as NixOS writes it, one command a line, and the
// environment of GRUB. Of a command that starts something outside of a menu entry
// there is an entry, too, as GRUB may run it before it shows any.
func parseGrub(data, env []byte) ([]Entry, error) {
	var (
		out      []Entry
		titles   [][]string // of each entry, with those of the menus on the way
		places   [][]int
		count    = []int{0}
		menus    []string
		at       = -1 // the entry that the lines belong to
		depth    int  // of blocks that are no menus
		defaults []string
	)
	begin := func(title string) error {
		if len(out) == maxEntries {
			return errTooMany
		}
		out = append(out, Entry{Loader: Grub, Title: strings.Join(append(slices.Clone(menus), title), " > ")})
		titles = append(titles, append(slices.Clone(menus), title))
		places = append(places, slices.Clone(count))
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxEntry)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		command, rest := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			command, rest = line[:i], strings.TrimSpace(line[i:])
		}
		switch command {
		case "menuentry":
			if err := begin(grubTitle(rest)); err != nil {
				return out, err
			}
			at, depth = len(out)-1, 0
			count[len(count)-1]++
			continue
		case "submenu":
			if len(menus) == 8 {
				return out, errors.New("submenus in submenus, 8 deep")
			}
			menus, count = append(menus, grubTitle(rest)), append(count, 0)
			continue
		case "}":
			switch {
			case depth > 0:
				depth--
			case at >= 0:
				at = -1
			case len(menus) > 0:
				menus, count = menus[:len(menus)-1], count[:len(count)-1]
				count[len(count)-1]++
			}
			continue
		case "set":
			if value, ok := strings.CutPrefix(rest, "default="); ok && at < 0 {
				defaults = append(defaults, strings.Trim(value, `"'`))
			}
			continue
		}
		if !startsSomething(command) {
			if strings.HasSuffix(line, "{") {
				depth++
			}
			continue
		}
		e := at
		if e < 0 {
			if err := begin(command); err != nil {
				return out, err
			}
			e = len(out) - 1
			out[e].Foreign = "outside of a menu entry: " + line
		}
		out[e].grubCommand(command, rest)
	}
	for i := range out {
		if e := &out[i]; e.Kernel == "" && e.Foreign == "" {
			e.Foreign = "it names no kernel"
		}
	}
	markGrubDefault(out, titles, places, defaults, env)
	return out, lines.Err()
}

var grubStarts = []string{
	"linux", "linuxefi", "linux16", "initrd", "initrdefi", "initrd16", "devicetree", "boot", "chainloader", "configfile", "source",
	".", "normal", "multiboot", "multiboot2", "module", "module2", "ntldr", "xen_hypervisor", "extract_entries_configfile",
	"extract_entries_source", "legacy_configfile", "syslinux_configfile", "blscfg", "knetbsd", "kfreebsd", "kopenbsd",
}

// startsSomething reports whether a command has to do with what GRUB starts.
func startsSomething(command string) bool { return slices.Contains(grubStarts, command) }

func (e *Entry) grubCommand(command, rest string) {
	switch command {
	case "linux", "linuxefi", "linux16":
		if e.Kernel != "" {
			e.Foreign = "it names two kernels"
		}
		e.Kernel, e.Options = rest, ""
		if i := strings.IndexAny(rest, " \t"); i >= 0 {
			e.Kernel, e.Options = rest[:i], strings.TrimSpace(rest[i:])
		}
	case "initrd", "initrdefi", "initrd16":
		e.Initrds = strings.Fields(rest)
	case "devicetree":
		e.Devicetree = rest
	case "boot":
	default:
		if e.Foreign == "" {
			e.Foreign = "it has the command " + command + " " + rest
		}
	}
}

// grubTitle returns the first word of a command's arguments, without its quotes.
func grubTitle(rest string) string {
	if rest == "" {
		return ""
	}
	if q := rest[0]; q == '"' || q == '\'' {
		title, _, _ := strings.Cut(rest[1:], string(q))
		return title
	}
	title, _, _ := strings.Cut(rest, " ")
	return title
}

// markGrubDefault sets Default for the entries that GRUB may start by itself: those
// that the configuration names, or, where that asks the environment, the
// environment.
func markGrubDefault(entries []Entry, titles [][]string, places [][]int, defaults []string, env []byte) {
	values := make(map[string]string)
	for line := range strings.Lines(string(env)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
			values[name] = value
		}
	}
	if len(defaults) == 0 {
		defaults = []string{"0"}
	}
	for _, d := range defaults {
		if name, ok := strings.CutPrefix(d, "$"); ok {
			if d = values[strings.Trim(name, "{}")]; d == "" {
				continue
			}
		}
		for i := range entries {
			if entries[i].Foreign == "" || !strings.HasPrefix(entries[i].Foreign, "outside") {
				if isGrubDefault(d, titles[i], places[i]) {
					entries[i].Default = true
				}
			}
		}
	}
	for i := range entries {
		if strings.HasPrefix(entries[i].Foreign, "outside") {
			entries[i].Default = true
		}
	}
}

// isGrubDefault reports whether a default such as "0", "1>2" or "NixOS" leads to an
// entry. To lead to a submenu is to lead to its first one.
func isGrubDefault(d string, titles []string, place []int) bool {
	parts := strings.Split(d, ">")
	for i := range place {
		want := "0"
		if i < len(parts) {
			want = parts[i]
		}
		if n, err := strconv.Atoi(strings.TrimSpace(want)); err == nil && n == place[i] {
			continue
		}
		if want == titles[i] {
			continue
		}
		return false
	}
	return true
}
