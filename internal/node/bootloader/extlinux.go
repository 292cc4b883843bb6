package bootloader

import (
	"bufio"
	"bytes"
	"strings"
)

// parseExtlinux reads an extlinux.conf, as U-Boot does.
func parseExtlinux(data []byte) ([]Entry, error) {
	var out []Entry
	var byDefault string
	inLabel := false
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxEntry)
	for lines.Scan() {
		key, value := extlinuxLine(lines.Text())
		switch key {
		case "default", "ontimeout":
			byDefault = value
		case "menu default":
			if inLabel {
				byDefault = out[len(out)-1].Title
			}
		case "include", "label":
			if len(out) == maxEntries {
				return out, errTooMany
			}
			e := Entry{Loader: Extlinux, Title: value}
			if inLabel = key == "label"; !inLabel {
				// What is there can name another default.
				e = Entry{Loader: Extlinux, Title: "include", Foreign: "it includes " + value, Default: true}
			}
			out = append(out, e)
		default:
			if inLabel {
				out[len(out)-1].setExtlinux(key, value)
			}
		}
	}
	chosen := false
	for i := range out {
		e := &out[i]
		e.wantKernel()
		if byDefault != "" && e.Title == byDefault {
			e.Default, chosen = true, true // U-Boot takes the first of one name
		}
	}
	if len(out) > 0 && !chosen {
		out[0].Default = true
	}
	return out, lines.Err()
}

// extlinuxLine returns the key of a line, in small letters, and its value. Of the lines
// of a menu, two mean something: "menu default", and an include that is one anywhere.
func extlinuxLine(line string) (key, value string) {
	cut := func(s string) (string, string) {
		s = strings.TrimSpace(s)
		if i := strings.IndexAny(s, " \t"); i >= 0 {
			return strings.ToLower(s[:i]), strings.TrimSpace(s[i:])
		}
		return strings.ToLower(s), ""
	}
	if key, value = cut(line); key != "menu" {
		return key, value
	}
	switch of, rest := cut(value); of {
	case "include":
		return of, rest
	case "default":
		return "menu default", ""
	}
	return key, value
}

func (e *Entry) setExtlinux(key, value string) {
	switch key {
	case "linux", "kernel", "fit":
		e.Kernel = value
	case "initrd":
		e.Initrds = strings.Split(value, ",")
	case "append":
		e.Options = value
	case "fdt", "devicetree":
		e.Devicetree = value
	case "fdtdir", "devicetreedir":
		e.DevicetreeDir = value
	case "fdtoverlays", "devicetree-overlay":
		e.Foreign = "it lays " + value + " over the device tree"
	case "localboot":
		e.Foreign = "it starts what the disk has"
	}
}
