package bootloader

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
)

// saved stands for the entry that was booted last.
const saved = "@saved"

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
		if e.Image != "" {
			// One that is not there starts nothing. Of any other nobody knows what it starts.
			if err := e.readImage(dir); err != nil {
				note(e.Image, err)
				if e.Foreign == "" {
					e.Foreign = fmt.Sprintf("the unified kernel image %s can't be read: %v", e.Image, err)
				}
			}
		}
		e.Dir, e.File, e.tries = number, file, triesOf(name)
		e.skipped = e.skipped || strings.HasPrefix(name, ".") || strings.HasPrefix(strings.ToLower(name), "auto-")
		out = append(out, e)
	}
	return out, nil
}

// parseTyped reads one entry. Of a key that may stand there once, the last counts.
func parseTyped(text string) Entry {
	e := Entry{Loader: SystemdBoot}
	var options []string
	for key, value := range systemdSettings(text) {
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
		case "uki":
			e.Image = strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(value, `\`, "/")), "/")
		case "profile":
			e.Foreign = "it chooses the profile " + value
		case "efi", "uki-url":
			e.Foreign = "it starts the EFI program " + value
		case "extra":
			e.Foreign = "it adds " + value
		case "architecture":
			e.skipped = true
		case "sort-key":
			e.sortKey = value
		case "machine-id":
			e.machineID = value
		case "version":
			e.version = value
		}
	}
	e.Options = strings.Join(options, " ")
	if e.Kernel != "" && e.Image != "" {
		e.Foreign = "it names a kernel and the image " + e.Image
	}
	e.wantKernel()
	return e
}

// id returns the name of e to the loader: that of its file, without the counter of
// tries.
func (e *Entry) id() string {
	return strings.ToLower(uncounted(path.Base(e.File)))
}

// uncounted returns the name of an entry without the counter of tries.
func uncounted(name string) string {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if i := strings.LastIndexByte(stem, '+'); i >= 0 && triesOf(name) >= 0 {
		stem = stem[:i]
	}
	return stem + ext
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

// markDefault sets Default for the entries that systemd-boot may start by itself: the
// first in its order that the firmware's variables or the patterns of loader.conf name,
// else the first of all. Several entries may qualify: one that is named for one boot only,
// and the one for the boots after it; for versions that know preferred entries, one that is
// preferred and has tries left; and the one after an entry that may be skipped.
func markDefault(entries []Entry, loaderConfs [][]byte, variables Variables) {
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareEntries(&entries[a], &entries[b]) })
	first := func(pattern string, good bool) bool {
		if strings.EqualFold(pattern, saved) {
			pattern = variables.LastBooted
		}
		for _, i := range order {
			if good && entries[i].tries == 0 {
				continue
			}
			if pattern != "" && matches(pattern, entries[i].id()) {
				entries[i].Default = true
				if !entries[i].skipped {
					return true
				}
			}
		}
		return false
	}
	first(variables.OneShot, false)
	first(variables.Preferred, true)
	if len(loaderConfs) == 0 {
		loaderConfs = [][]byte{nil}
	}
	for _, conf := range loaderConfs {
		first(loaderSetting(conf, "preferred"), true)
		if !first(variables.Default, false) && !first(loaderSetting(conf, "default"), false) {
			first("*", false)
		}
	}
}

// loaderSetting returns a pattern of loader.conf, "" where it has none. A name that is
// special and unknown is passed over, as systemd-boot does.
func loaderSetting(text []byte, name string) string {
	out := ""
	for key, value := range systemdSettings(string(text)) {
		if key == name && (!strings.HasPrefix(value, "@") || strings.EqualFold(value, saved)) {
			out = value
		}
	}
	return out
}

// systemdSettings returns the keys and values of a file of systemd-boot's, as it reads
// them: a carriage return ends a line as well, and a zero byte the file; blanks and tabs
// alone surround keys and values, and quotes around a value are none of it.
func systemdSettings(text string) iter.Seq2[string, string] {
	text, _, _ = strings.Cut(text, "\x00")
	return func(yield func(key, value string) bool) {
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
			line = strings.Trim(line, blanks)
			i := strings.IndexAny(line, blanks)
			if i < 0 || line[0] == '#' {
				continue // a key without a value is passed over
			}
			value := strings.TrimLeft(line[i:], blanks)
			if strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
				value = strings.TrimSuffix(value[1:], `"`)
			}
			if !yield(line[:i], value) {
				return
			}
		}
	}
}

// matches reports whether an entry's name matches a pattern, as fnmatch has it,
// with or without the ".conf".
func matches(pattern, id string) bool {
	// To systemd-boot, "^" is a character like others.
	pattern = strings.ReplaceAll(strings.ToLower(pattern), "[^", `[\^`)
	for _, name := range []string{id, strings.TrimSuffix(id, path.Ext(id))} {
		if ok, err := path.Match(pattern, name); ok && err == nil || pattern == name {
			return true
		}
	}
	return false
}
