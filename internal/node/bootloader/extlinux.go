package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// extlinuxMenu is what was read of an extlinux.conf.
type extlinuxMenu struct {
	entries []Entry
	// byDefault is what the file names as the default; others are what may be taken
	// in its place.
	byDefault string
	others    []string

	// syslinux says that SYSLINUX reads it, to which more words have a meaning.
	syslinux bool
	inLabel  bool
	said     []string // by the label: the keys that may stand there once
	after    string   // the key at which U-Boot ends the label, and syslinux does not
}

// parseExtlinux reads an extlinux.conf, as U-Boot does.
func parseExtlinux(data []byte) ([]Entry, error) { return new(extlinuxMenu).parse(data) }

// parseIsolinux reads an isolinux.cfg of NixOS, and refuses words that are none of it.
func parseIsolinux(data []byte) ([]Entry, error) { return (&extlinuxMenu{syslinux: true}).parse(data) }

func (m *extlinuxMenu) parse(data []byte) ([]Entry, error) {
	if m.syslinux && !readAlike(data) {
		return nil, errors.New("a control character, or a longer line than SYSLINUX reads")
	}
	text, _, _ := strings.Cut(string(data), "\x00")
	for line := range strings.Lines(text) {
		if len(line) > maxEntry {
			return m.entries, fmt.Errorf("a line of more than %d bytes", maxEntry)
		}
		if err := m.line(m.split(strings.TrimSuffix(line, "\n"))); err != nil {
			return m.entries, err
		}
	}
	m.markDefault()
	return m.entries, nil
}

func (m *extlinuxMenu) line(key, value string) error {
	switch key {
	case "":
		return nil
	case "menu":
		return m.menu(value)
	case "default":
		m.byDefault = value
	case "ontimeout":
		if m.syslinux { // to which this and the default are two
			m.others = append(m.others, value)
			return nil
		}
		m.byDefault = value
	case "fallback":
		m.others = append(m.others, value)
	case "menu default":
		switch {
		case m.inLabel:
			m.others = append(m.others, m.entries[len(m.entries)-1].Title)
		case m.syslinux:
			return m.unknown("menu", "default")
		}
		return nil
	case "include", "label":
		if len(m.entries) == maxEntries {
			return errTooMany
		}
		e := Entry{Loader: Extlinux, Title: value}
		if m.inLabel = key == "label"; !m.inLabel {
			// What is there can name another default.
			e = Entry{Loader: Extlinux, Title: "include", Foreign: "it includes " + value, Default: true}
		}
		m.entries, m.said, m.after = append(m.entries, e), nil, ""
		return nil
	default:
		// An image of U-Boot's is no kernel to SYSLINUX, which starts another then.
		if m.inLabel && (!m.syslinux || key != "fit") && m.setting(&m.entries[len(m.entries)-1], key, value) {
			return nil
		}
		if m.syslinux {
			return m.unknown(key, value)
		}
	}
	m.after = key
	return nil
}

// looks are the commands of a menu that only change its appearance in SYSLINUX.
var looks = []string{
	"autoboot", "background", "clear", "cmdlinerow", "color", "colour", "endrow", "helpmsgendrow", "helpmsgrow", "hidden", "hiddenrow",
	"hshift", "indent", "label", "margin", "msgcolor", "notabmsg", "resolution", "rows", "tabmsg", "tabmsgrow", "timeoutrow", "title",
	"vshift", "width",
}

// menu notes a line of a menu: U-Boot goes by no other than the two that split
// knows, and to SYSLINUX some end a label.
func (m *extlinuxMenu) menu(value string) error {
	word, _ := m.cut(value)
	switch {
	case !m.syslinux || word == "" || slices.Contains(looks, word):
		return nil
	case word == "begin" || word == "end" || word == "separator":
		m.inLabel = false
		return nil
	}
	return m.unknown("menu", value)
}

// readAlike reports whether SYSLINUX splits a file into lines and words as it is done
// here: a control character is a blank to it, or an end, and a long line is several.
func readAlike(data []byte) bool {
	const most = 4094 // bytes of a line
	for line := range bytes.Lines(data) {
		if len(line) > most || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' }) {
			return false
		}
	}
	return true
}

// unknown notes a command of SYSLINUX, in a label or outside, that NixOS's menu does not
// have: it may start a program, or name other files.
func (m *extlinuxMenu) unknown(key, value string) error {
	switch {
	case !m.inLabel && (key == "serial" || key == "timeout" || key == "ui" && value == "vesamenu.c32"):
		return nil
	case m.inLabel:
		m.entries[len(m.entries)-1].Foreign = "it says " + key + " " + value
		return nil
	case len(m.entries) == maxEntries:
		return errTooMany
	}
	m.entries = append(m.entries, Entry{Loader: Extlinux, Title: key, Foreign: "it says " + key + " " + value, Default: true})
	return nil
}

// markDefault sets Default for the entries that U-Boot may start by itself: of one
// name it takes the first, and of names that no label has the first of all.
func (m *extlinuxMenu) markDefault() {
	names := m.others
	if m.byDefault != "" || len(names) == 0 {
		names = append(names, m.byDefault)
	}
	for _, name := range names {
		found := false
		for i := range m.entries {
			if name != "" && m.entries[i].Title == name {
				m.entries[i].Default, found = true, true
			}
		}
		if !found && len(m.entries) > 0 {
			m.entries[0].Default = true
		}
		if !found && m.syslinux && name != "" {
			// To SYSLINUX it is the command that is started.
			m.entries = append(m.entries, Entry{Loader: Extlinux, Title: "default", Foreign: "it starts " + name, Default: true})
		}
	}
	for i := range m.entries {
		m.entries[i].wantKernel()
	}
}

// split returns the key of a line, in small letters, and its value: all that follows,
// blanks and carriage returns at the end too. Of the lines of a menu, two mean something
// to all: "menu default", and an include that is one anywhere.
func (m *extlinuxMenu) split(line string) (key, value string) {
	if key, value = m.cut(line); key != "menu" {
		return key, value
	}
	switch of, rest := m.cut(value); of {
	case "include":
		return of, rest
	case "default":
		return "menu default", ""
	}
	return key, value
}

// cut returns the first word of s, in small letters, and what follows. Only U-Boot takes
// that for a comment where it begins with "#".
func (m *extlinuxMenu) cut(s string) (word, rest string) {
	if s = strings.TrimLeft(s, blanks); strings.HasPrefix(s, "#") {
		return "", ""
	}
	i := strings.IndexAny(s, blanks+"\r\v\f")
	if i < 0 {
		i = len(s)
	}
	if rest = strings.TrimLeft(s[i:], blanks); strings.HasPrefix(rest, "#") && !m.syslinux {
		rest = ""
	}
	return strings.ToLower(s[:i]), rest
}

// setting notes a key of a label, and reports whether it is one.
func (m *extlinuxMenu) setting(e *Entry, key, value string) bool {
	one := key
	switch key {
	case "linux", "kernel", "fit":
		one, e.Kernel = "linux", value
		if strings.Contains(value, "#") {
			e.Foreign = "it chooses a part of the image " + value
		}
	case "initrd":
		e.Initrds = strings.Split(value, ",")
	case "append":
		e.Options = value
	case "fdt", "devicetree":
		one, e.Devicetree = "fdt", value
	case "fdtdir", "devicetreedir":
		one, e.DevicetreeDir = "fdtdir", value
	case "fdtoverlays", "devicetree-overlay":
		e.Foreign = "it lays " + value + " over the device tree"
	case "localboot":
		e.Foreign = "it boots the disk's own system"
	case "ipappend", "kaslrseed", "say":
		return true
	default:
		return false
	}
	// Of some keys U-Boot takes the first, of others the last.
	if slices.Contains(m.said, one) {
		e.Foreign = "it says " + key + " twice"
	}
	m.said = append(m.said, one)
	if m.after != "" {
		e.Foreign = key + " follows " + m.after + ", by which the entry ends"
	}
	return true
}
