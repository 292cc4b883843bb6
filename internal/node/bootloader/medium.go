package bootloader

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// Isolinux is where SYSLINUX looks for its files on a medium, in this order. Those of
// NixOS have the second one.
var Isolinux = [...]string{"boot/isolinux", "isolinux"}

// ReadMedium returns what an installation medium offers, an ISO image as NixOS makes it:
// by GRUB and SYSLINUX. Any other directory gives nothing. Entries and problems have the
// number as that of their directory.
func ReadMedium(dir Dir, number int) (entries []Entry, problems []Problem) {
	seen := make(map[string][]byte)
	for _, l := range []struct {
		file  string
		parse func([]byte) ([]Entry, error)
	}{
		{Isolinux[0] + "/isolinux.cfg", parseIsolinux},
		{Isolinux[1] + "/isolinux.cfg", parseIsolinux},
		{"EFI/BOOT/grub.cfg", parseMediumGrub},
		{"EFI/boot/grub.cfg", parseMediumGrub}, // before 25.05
	} {
		data, err := dir.ReadFile(l.file, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if before, ok := seen[strings.ToLower(l.file)]; ok && err == nil && bytes.Equal(before, data) {
			continue // the same file, where capitals do not count
		}
		seen[strings.ToLower(l.file)] = data
		var found []Entry
		if err == nil {
			found, err = l.parse(data)
		}
		if err != nil {
			problems = append(problems, Problem{number, l.file, err})
		}
		for i := range found {
			found[i].Dir, found[i].File, found[i].Medium = number, l.file, true
		}
		entries = append(entries, found...)
	}
	return entries, problems
}

// isoboot stands in the command lines of NixOS's media. Another GRUB, which starts the
// image from a file, says by iso_path where that is; else it has no value.
const isoboot = "${isoboot}"

// parseMediumGrub reads the grub.cfg of a medium. Entries that start nothing, such as one
// to turn the machine off, are left out.
func parseMediumGrub(data []byte) ([]Entry, error) {
	entries, err := parseGrub(data, nil)
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Foreign == noKernel && !e.Default })
	set, other := givesIsoboot(string(data))
	for i := range entries {
		e := &entries[i]
		options, has := strings.CutPrefix(e.Options, isoboot+" ")
		if !has || set {
			continue // compared as it is, it is no system's
		}
		e.Options = options
		if other != "" && e.Foreign == "" {
			e.Foreign = "the command " + other + " of the menu may change its command line"
		}
	}
	return entries, err
}

// mediumCommands are those of NixOS's own menu: they give no variable a value.
var mediumCommands = []string{
	"[", "background_image", "boot", "chainloader", "clear", "echo", "export", "fi", "fwsetup", "halt", "hiddenentry", "initrd", "insmod",
	"linux", "loadfont", "menuentry", "return", "serial", "submenu", "terminal_input", "terminal_output", "test",
}

// givesIsoboot reports whether a menu gives isoboot a value of its own, or else names a
// command that might.
func givesIsoboot(script string) (set bool, other string) {
	for c := range grubCommands(script) {
		if len(c.words) == 0 {
			continue
		}
		values := c.words[:1]
		switch name := c.words[0]; {
		case name == "set":
			values = c.words[1:]
		case name == "search":
			// One of the variables of these is root.
			values = slices.DeleteFunc(slices.Clone(c.words[1:]), func(w string) bool {
				return w == "--set=root" || w == "--file" || w == "--no-floppy" || w == "--fs-uuid" || !strings.HasPrefix(w, "-")
			})
			if len(values) > 0 {
				other = strings.Join(c.words, " ")
			}
			continue
		case slices.Contains(mediumCommands, name):
			continue
		case !strings.Contains(name, "="):
			other = name
			continue
		}
		for _, w := range values {
			name, value, _ := strings.Cut(w, "=")
			switch {
			case name == "isoboot" && value == "findiso=${iso_path}":
			case name == "isoboot" || name == "iso_path":
				set = true
			case strings.ContainsAny(name, "$"):
				other = strings.Join(c.words, " ")
			}
		}
	}
	return set, other
}
