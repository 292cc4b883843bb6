package bootloader

import (
	"strconv"
	"strings"
)

// grubPlace is where an entry is in GRUB's menu.
type grubPlace struct {
	titles  []string // its own, after those of the menus on the way
	id      string   // "" for none
	numbers []int    // its own, after those of the menus on the way
}

// grubDefaults has a script's statements about the entry that GRUB starts by itself.
type grubDefaults struct {
	named []string
	// values are those that a variable may have.
	values map[string][]string
	noted  int
	// any says that it can be any entry: the script computes it.
	any bool
}

// environment notes the variables that load_env reads, and reports whether they name the
// place of GRUB's modules.
func (d *grubDefaults) environment(env []byte) (modules bool) {
	d.values = make(map[string][]string)
	for line := range strings.Lines(string(env)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
			d.set(name, value)
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
	for w := range wanted {
		if !markGrub(entries, places, w) {
			markGrub(entries, places, "0")
		}
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

// markGrub sets Default for the entries that a default leads to, and reports
// whether there are any.
func markGrub(entries []Entry, places []grubPlace, wanted string) bool {
	marked := false
	for i := range entries {
		if !isOutside(&entries[i]) && places[i].isAt(wanted) {
			entries[i].Default, marked = true, true
		}
	}
	return marked
}

// isAt reports whether a default such as "0", "1>2" or "NixOS" leads to an entry. To
// lead to a submenu is to lead to its first one.
func (p *grubPlace) isAt(wanted string) bool {
	if p.id != "" && p.id == wanted[strings.LastIndexByte(wanted, '>')+1:] {
		return true
	}
	parts := strings.Split(wanted, ">")
	for i := range p.numbers {
		want := "0"
		if i < len(parts) {
			want = parts[i]
		}
		if n, err := strconv.Atoi(strings.TrimSpace(want)); err == nil && n == p.numbers[i] {
			continue
		}
		if want != p.titles[i] {
			return false
		}
	}
	return true
}
