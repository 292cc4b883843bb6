package bootloader

import (
	"slices"
	"strconv"
	"strings"
)

// grubPlace is where an entry is in GRUB's menu.
type grubPlace struct {
	titles  []string // its own, after those of the menus on the way
	id      string   // "" for none
	numbers []int    // its own, after those of the menus on the way; the highest possible ones
	// lowest are the numbers if GRUB's conditions leave out all entries before that they can;
	// perhaps says which of the titles they can leave out.
	lowest  []int
	perhaps []bool
}

// grubDefaults has a script's statements about the entry that GRUB starts by itself.
type grubDefaults struct {
	named, fallback []string
	// kept are the variables that load_env sets.
	kept map[string]bool
	// values are those that a variable may have.
	values map[string][]string
	noted  int
	// any says that it can be any entry: the script computes it.
	any bool
}

// environment notes the variables that load_env reads, and reports whether they name the
// place of GRUB's modules.
func (d *grubDefaults) environment(env []byte) (modules bool) {
	d.values, d.kept = make(map[string][]string), make(map[string]bool)
	for line := range strings.Lines(string(env)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
			d.set(name, value)
			d.kept[name] = true
			modules = modules || name == "prefix"
		}
	}
	return modules
}

// set notes that a variable may have a value. Of too many of them each entry may be
// the default.
func (d *grubDefaults) set(name, value string) {
	if d.noted == maxEntries {
		d.any = true
		return
	}
	d.noted++
	switch {
	case name == "default":
		d.named = append(d.named, value)
	case name == "fallback": // what is started if that fails
		d.fallback = append(d.fallback, strings.Fields(value)...)
	case value != "" && !strings.Contains(value, "$"):
		d.values[name] = append(d.values[name], value)
	}
}

// note notes what a command outside of the menu entries does to the default.
func (d *grubDefaults) note(words []string) {
	if len(words) == 0 {
		return
	}
	if name, value, ok := strings.Cut(words[0], "="); ok {
		d.set(name, value)
		return
	}
	for _, w := range words[1:] {
		switch name, value, ok := strings.Cut(w, "="); {
		case words[0] == "set" && ok:
			d.set(name, value)
		case words[0] == "export" || words[0] == "save_env":
		case words[0] == "load_env", w == "default", strings.HasSuffix(w, ":default"), strings.HasSuffix(w, "=default"):
			d.any = true
		}
	}
}

// mark sets Default for the entries that GRUB may start by itself: those that the script
// names, or the possible values of a variable that it uses. Without such an entry it is
// the first one.
func (d *grubDefaults) mark(entries []Entry, places []grubPlace) {
	wanted := make(map[string]bool)
	for _, n := range d.named {
		name, ok := strings.CutPrefix(n, "$")
		switch {
		case !ok && strings.Contains(n, "$"):
			d.any = true
		case !ok:
			wanted[n] = true
		default:
			for _, value := range d.valuesOf(strings.Trim(name, "{}")) {
				wanted[value] = true
			}
		}
	}
	if len(wanted) == 0 {
		wanted["0"] = true
	}
	for _, n := range d.fallback {
		wanted[n] = true
		d.any = d.any || strings.Contains(n, "$")
	}
	for w := range wanted {
		markGrub(entries, places, w)
	}
	for i := range entries {
		if d.any || isOutside(&entries[i]) {
			entries[i].Default = true
		}
	}
}

// valuesOf returns the values that the variable of a default can have. Only what
// the menu itself keeps may have none: NixOS asks whether there is a next_entry.
func (d *grubDefaults) valuesOf(name string) []string {
	values := d.values[name]
	switch {
	case len(values) > 0 || name == "next_entry":
		return values
	case name == "saved_entry":
		return []string{"0"}
	}
	d.any = true
	return nil
}

func isOutside(e *Entry) bool { return strings.HasPrefix(e.Foreign, "outside") }

// markGrub sets Default for the entries that a default such as "0", "1>2" or "NixOS" may
// lead to. To lead to a submenu is to lead to its default, and where a default leads to
// nothing it is the first one.
func markGrub(entries []Entry, places []grubPlace, wanted string) {
	var at []int
	for i := range entries {
		if isOutside(&entries[i]) {
			continue
		}
		if id := places[i].id; id != "" && (strings.Contains(id, "$") || id == wanted[strings.LastIndexByte(wanted, '>')+1:]) {
			entries[i].Default = true
		}
		at = append(at, i)
	}
	parts := grubParts(wanted)
	for level := 0; len(at) > 0; level++ {
		want := ""
		if level < len(parts) {
			want = parts[level]
		}
		may, first := []int{}, []int{}
		certain := false
		for _, i := range at {
			p := &places[i]
			named, surely := p.isAt(level, want)
			if named {
				may = append(may, i)
			}
			certain = certain || surely
			if p.lowest[level] == 0 {
				first = append(first, i)
			}
		}
		if !certain {
			may = append(may, slices.DeleteFunc(first, func(i int) bool { return slices.Contains(may, i) })...)
		}
		at = slices.DeleteFunc(may, func(i int) bool {
			last := level == len(places[i].numbers)-1
			entries[i].Default = entries[i].Default || last
			return last
		})
	}
}

// grubParts splits a default at each ">", of which two are one in a name.
func grubParts(wanted string) []string {
	parts := strings.Split(strings.ReplaceAll(wanted, ">>", "\x00"), ">")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "\x00", ">")
	}
	return parts
}

// isAt reports whether an entry, or the submenu of it at a level, may be what want leads
// to, and whether it surely is.
func (p *grubPlace) isAt(level int, want string) (may, surely bool) {
	if n, ok := grubNumber(want); ok {
		may = int64(p.lowest[level]) <= n && n <= int64(p.numbers[level])
		return may, may && p.lowest[level] == p.numbers[level] && !p.perhaps[level]
	}
	title := p.titles[level]
	is := title == want
	if level == len(p.titles)-1 {
		is = is || p.id == want
	}
	return is || strings.Contains(title, "$"), is && want != "" && !p.perhaps[level]
}

// grubNumber returns the number that a default begins with, as GRUB reads it: with "0x"
// before it in hexadecimal digits, with "0" in octal ones, whatever follows.
func grubNumber(s string) (n int64, ok bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	base, digits := 10, "0123456789"
	switch {
	case strings.HasPrefix(s, "0x"):
		base, digits, s = 16, "0123456789abcdefABCDEF", s[2:]
	case len(s) > 1 && s[0] == '0' && '0' <= s[1] && s[1] <= '7':
		base, digits = 8, "01234567"
	}
	s = s[:len(s)-len(strings.TrimLeft(s, digits))]
	if s == "" {
		return 0, false
	}
	v, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		return -1, true // of none
	}
	return int64(int32(v)), true //nolint:gosec // as GRUB does
}
