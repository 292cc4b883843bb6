package bootloader

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Drive is a file system in which GRUB may look for a file.
type Drive struct {
	// By is "uuid" or "label": GRUB searches for the file system with that Value.
	By, Value string
	// Other says, for people, how else GRUB finds it; "" for a search.
	Other string
}

const (
	// maxDrives limits the drives that one variable may stand for.
	maxDrives = 10
	// maxVariables limits the variables of an entry, or of the menu.
	maxVariables = 1000
)

// grubDrives has the drives that each variable may stand for; under "" are those of any
// variable.
type grubDrives map[string][]Drive

func (d grubDrives) add(name string, drive Drive) {
	has, known := d[name]
	if !known && len(d) >= maxVariables {
		d[""] = []Drive{{Other: "too many variables are set"}}
		return
	}
	switch {
	case slices.Contains(has, drive):
	case len(has) == maxDrives:
		has[maxDrives-1] = Drive{Other: "$" + name + " has too many values"}
	default:
		d[name] = append(has, drive)
	}
}

// note notes the drives that a command may give a variable.
func (d grubDrives) note(c *grubCommand) {
	drive := searched(c.words)
	for _, name := range c.sets() {
		d.add(name, drive)
	}
	other := Drive{Other: strings.Join(c.words, " ")}
	switch c.words[0] {
	case "search":
		if slices.ContainsFunc(c.words, func(w string) bool { return w == "--set" || isShort(w) && strings.Contains(w, "s") }) {
			d.add("root", other) // GRUB may take the next word as no name
		}
	case "loopback": // a search may find the file system in the file
		d.add("", other)
	}
}

// searched returns the drive that a command sets a variable to: of a search as NixOS
// writes it, and as grub-mkconfig does, what it searches for.
func searched(words []string) Drive {
	other := Drive{Other: strings.Join(words, " ")}
	if words[0] != "search" {
		return other
	}
	var d Drive
	for _, w := range words[1:] {
		by := map[string]string{"--fs-uuid": "uuid", "-u": "uuid", "--label": "label", "-l": "label"}[w]
		switch {
		case by != "" && d.By == "":
			d.By = by
		case by != "":
			return other
		case w == "--no-floppy", w == "-n", strings.HasPrefix(w, "--set="), strings.HasPrefix(w, "--hint") && strings.Contains(w, "="):
		case strings.HasPrefix(w, "-"), strings.Contains(w, "$"), d.Value != "":
			return other
		default:
			d.Value = w
		}
	}
	if d.By == "" || d.Value == "" {
		return other
	}
	return d
}

var grubDriveVariable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\(\$(?:([A-Za-z_][A-Za-z_0-9]*)|\{([A-Za-z_][A-Za-z_0-9]*)\})\)`)
})

// Drives returns the file systems in which GRUB may look for a file that e names. What its
// conditions make of the commands is not worked out: each that sets the variable counts,
// in the entry and outside of all entries. There are none if the loader is not GRUB, or if
// the file is where GRUB itself is.
func (e *Entry) Drives(file string) []Drive {
	if e.Loader != Grub || e.Medium {
		return nil
	}
	name := "root"
	if strings.HasPrefix(file, "(") {
		m := grubDriveVariable().FindStringSubmatch(file)
		if m == nil {
			drive, _, _ := strings.Cut(file, ")")
			return []Drive{{Other: drive + ")"}}
		}
		name = m[1] + m[2]
	}
	var drives []Drive
	for _, d := range slices.Concat(e.drives[name], e.drives[""], e.menuDrives[name], e.menuDrives[""]) {
		if !slices.Contains(drives, d) {
			drives = append(drives, d)
		}
	}
	if len(drives) == 0 && name != "root" {
		return []Drive{{Other: "nothing sets $" + name}}
	}
	return drives
}
