package bootloader

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Isolinux is where SYSLINUX looks for its files on a medium, in this order. Those of
// NixOS have the second one.
var Isolinux = [...]string{"boot/isolinux", "isolinux"}

// EFIImage is the file of a medium in which UEFI finds a boot loader: a FAT file system.
const EFIImage = "boot/efi.img"

// marker is the file by which GRUB knows the medium.
const marker = "EFI/nixos-installer-image"

// ReadMedium returns what an installation medium offers, an ISO image as NixOS makes it:
// by GRUB and SYSLINUX. Any other directory gives nothing. Entries and problems have the
// number as that of their directory. What efi, the root of the [EFIImage], has is read as
// well, unless it is nil; its files are named as below that.
func ReadMedium(dir Dir, number int, efi Dir) (entries []Entry, problems []Problem) {
	seen := make(map[string][]byte)
	for _, l := range []struct {
		from        Dir
		below, file string
		parse       func([]byte) ([]Entry, error)
	}{
		{dir, "", Isolinux[0] + "/isolinux.cfg", parseIsolinux},
		{dir, "", Isolinux[1] + "/isolinux.cfg", parseIsolinux},
		{dir, "", "EFI/BOOT/grub.cfg", parseMediumGrub},
		{dir, "", "EFI/boot/grub.cfg", parseMediumGrub}, // before 25.05
		{efi, EFIImage + "/", "EFI/BOOT/grub.cfg", parseMediumGrub},
	} {
		if l.from == nil {
			continue
		}
		data, err := l.from.ReadFile(l.file, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if before, ok := seen[strings.ToLower(l.file)]; ok && err == nil && bytes.Equal(before, data) {
			continue // the same file, where capitals do not count, or its copy for UEFI
		}
		seen[strings.ToLower(l.file)] = data
		var found []Entry
		if err == nil {
			found, err = l.parse(data)
		}
		file := l.below + l.file
		if err != nil {
			problems = append(problems, Problem{number, file, err})
		}
		for i := range found {
			e := &found[i]
			e.Dir, e.File, e.Medium = number, file, true
			if e.Loader == Grub && e.Foreign == "" && efi != nil {
				e.Foreign = hasOwn(efi, e)
			}
		}
		entries = append(entries, found...)
	}
	return entries, problems
}

// hasOwn says, for people, that GRUB may start an entry of a medium with a file of efi, ""
// if it does not: there it begins, and it stays there where no disk has the marker.
func hasOwn(efi Dir, e *Entry) string {
	for _, name := range append([]string{marker, e.Kernel}, e.Initrds...) {
		f, err := efi.Open(strings.TrimPrefix(path.Clean("/"+name), "/"))
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "GRUB may read its files from " + EFIImage + ", which has " + name + " too"
		}
	}
	return ""
}

// isoboot is in the command lines of NixOS's media. Another GRUB, which starts the image
// from a file, sets iso_path to the place of the image; otherwise isoboot has no value.
const isoboot = "${isoboot}"

// parseMediumGrub reads the grub.cfg of a medium. Entries that start nothing, such as one
// to turn the machine off, are left out.
func parseMediumGrub(data []byte) ([]Entry, error) {
	entries, err := parseGrub(data, nil)
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Foreign == noKernel && !e.Default })
	set, other := givesIsoboot(string(data))
	elsewhere := rootedElsewhere(string(data))
	for i := range entries {
		e := &entries[i]
		options, has := strings.CutPrefix(e.Options, isoboot+" ")
		if has = has && !set; has { // else compared as it is, it is no system's
			e.Options = options
		}
		switch {
		case e.Foreign != "":
		case elsewhere != "":
			e.Foreign = "the command " + elsewhere + " of the menu may have its files read from another disk"
		case has && other != "":
			e.Foreign = "the command " + other + " of the menu may change its command line"
		}
	}
	return entries, err
}

// rootedElsewhere returns the first command of a menu that may have GRUB read files from
// another disk than the medium, "" for none. Before it starts rEFInd, which the medium has
// in its [EFIImage], NixOS's menu looks for that.
func rootedElsewhere(script string) string {
	const medium, image = "search --set=root --file /" + marker, "search --set=root --no-floppy --fs-uuid 1234-5678"
	pending := ""
	for c := range grubCommands(script) {
		if len(c.words) == 0 {
			continue
		}
		if pending != "" && c.words[0] != "chainloader" {
			return pending
		}
		pending = ""
		text := strings.Join(c.words, " ")
		switch name := c.words[0]; {
		case text == medium:
			continue
		case text == image:
			pending = text
			continue
		case strings.HasPrefix(name, "search"), name == "load_env":
			return text
		}
		if slices.ContainsFunc(c.sets(), func(name string) bool { return name == "root" || name == "" || strings.Contains(name, "$") }) {
			return text
		}
	}
	return pending
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
