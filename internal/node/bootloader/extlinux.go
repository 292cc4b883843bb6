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
		line := strings.TrimSpace(lines.Text())
		key, value := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			key, value = line[:i], strings.TrimSpace(line[i:])
		}
		key = strings.ToLower(key)
		if key == "menu" {
			switch words := strings.Fields(strings.ToLower(value)); {
			case len(words) > 0 && words[0] == "include":
				key, value = "include", strings.TrimSpace(value[len("include"):])
			case len(words) > 0 && words[0] == "default" && inLabel:
				byDefault = out[len(out)-1].Title
			}
		}
		switch key {
		case "default", "ontimeout":
			byDefault = value
			continue
		case "include":
			if len(out) == maxEntries {
				return out, errTooMany
			}
			// What is there can name another default.
			out = append(out, Entry{Loader: Extlinux, Title: "include", Foreign: "it includes " + value, Default: true})
			inLabel = false
			continue
		case "label":
			if len(out) == maxEntries {
				return out, errTooMany
			}
			out = append(out, Entry{Loader: Extlinux, Title: value})
			inLabel = true
			continue
		}
		if !inLabel {
			continue
		}
		e := &out[len(out)-1]
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
	chosen := false
	for i := range out {
		e := &out[i]
		if e.Kernel == "" && e.Foreign == "" {
			e.Foreign = "it names no kernel"
		}
		if byDefault != "" && e.Title == byDefault {
			e.Default, chosen = true, true // U-Boot takes the first of one name
		}
	}
	if len(out) > 0 && !chosen {
		out[0].Default = true
	}
	return out, lines.Err()
}
