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
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxEntry)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		key, value := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			key, value = line[:i], strings.TrimSpace(line[i:])
		}
		key = strings.ToLower(key)
		switch key {
		case "default", "ontimeout":
			byDefault = value
			continue
		case "include":
			out = append(out, Entry{Loader: Extlinux, Title: "include", Foreign: "it includes " + value})
			continue
		case "label":
			if len(out) == maxEntries {
				return out, errTooMany
			}
			out = append(out, Entry{Loader: Extlinux, Title: value})
			continue
		}
		if len(out) == 0 {
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
	chosen := 0
	for i := range out {
		if e := &out[i]; e.Kernel == "" && e.Foreign == "" {
			e.Foreign = "it names no kernel"
		}
		if out[i].Title == byDefault {
			chosen = i
		}
	}
	if len(out) > 0 {
		out[chosen].Default = true
	}
	return out, lines.Err()
}
