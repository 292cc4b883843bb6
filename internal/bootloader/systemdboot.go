package bootloader

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// readTyped reads the entries in loader/entries, type 1 of the boot loader
// specification.
func readTyped(dir Dir, number int, note func(string, error)) ([]Entry, error) {
	names, err := dir.Names("loader/entries", maxEntries)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []Entry
	for _, name := range names {
		if !strings.HasSuffix(strings.ToLower(name), ".conf") {
			continue
		}
		file := "loader/entries/" + name
		data, err := dir.ReadFile(file, maxEntry)
		if err != nil {
			note(file, err)
			continue
		}
		e := parseTyped(string(data))
		e.Dir, e.File, e.tries = number, file, triesOf(name)
		out = append(out, e)
	}
	return out, nil
}

// parseTyped reads one entry. Of a key that may stand there once, the last counts.
func parseTyped(text string) Entry {
	e := Entry{Loader: SystemdBoot}
	var options []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			key, value = line[:i], strings.TrimSpace(line[i:])
		}
		switch key {
		case "linux":
			e.Kernel = value
		case "initrd":
			e.Initrds = append(e.Initrds, value)
		case "options":
			options = append(options, value)
		case "devicetree":
			e.Devicetree = value
		case "devicetree-overlay":
			e.Foreign = "it lays " + value + " over the device tree"
		case "efi", "uki", "uki-url":
			e.Foreign = "it starts the EFI program " + value
		case "sort-key":
			e.sortKey = value
		case "machine-id":
			e.machineID = value
		case "version":
			e.version = value
		}
	}
	e.Options = strings.Join(options, " ")
	if e.Kernel == "" && e.Foreign == "" {
		e.Foreign = "it names no kernel"
	}
	return e
}

// id returns the name of e to the loader: that of its file, without the counter of
// tries.
func (e *Entry) id() string {
	base := path.Base(e.File)
	ext := path.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	if i := strings.LastIndexByte(stem, '+'); i >= 0 && triesOf(base) >= 0 {
		stem = stem[:i]
	}
	return strings.ToLower(stem + ext)
}

// triesOf returns how many tries the name of an entry leaves, "x+LEFT-DONE.conf"; -1
// where they are not counted.
func triesOf(name string) int {
	stem := strings.TrimSuffix(name, path.Ext(name))
	i := strings.LastIndexByte(stem, '+')
	if i < 0 {
		return -1
	}
	left, done, counted := strings.Cut(stem[i+1:], "-")
	n, err := strconv.ParseUint(left, 10, 31)
	if err != nil {
		return -1
	}
	if _, err := strconv.ParseUint(done, 10, 31); counted && err != nil {
		return -1
	}
	return int(n)
}

// markDefault sets Default for the entry that systemd-boot starts by itself: the one
// that the firmware's variables name, else the first in its order that the pattern
// of loader.conf matches, else the first. What is named for one boot only may be
// started, and so may what is named for those after it.
func markDefault(entries []Entry, loaderConf []byte, variables Variables) {
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareEntries(&entries[a], &entries[b]) })
	first := func(pattern string) bool {
		for _, i := range order {
			if matches(pattern, entries[i].id()) {
				entries[i].Default = true
				return true
			}
		}
		return false
	}
	if variables.OneShot != "" {
		first(variables.OneShot)
	}
	for _, pattern := range []string{variables.Default, defaultOf(string(loaderConf))} {
		if pattern != "" && first(pattern) {
			return
		}
	}
	if len(order) > 0 {
		entries[order[0]].Default = true
	}
}

// defaultOf returns the pattern of loader.conf.
func defaultOf(text string) string {
	out := ""
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "default" {
			out = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "default"))
		}
	}
	return out
}

// matches reports whether an entry's name matches a pattern, as fnmatch has it,
// with or without the ".conf".
func matches(pattern, id string) bool {
	pattern = strings.ToLower(pattern)
	for _, name := range []string{id, strings.TrimSuffix(id, path.Ext(id))} {
		if ok, err := path.Match(pattern, name); ok && err == nil || pattern == name {
			return true
		}
	}
	return false
}
