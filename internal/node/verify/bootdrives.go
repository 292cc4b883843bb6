package verify

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// drives compares the file systems in which GRUB may look for a file of the entry with the
// one that has dir, where the file was found.
func (b *bootFiles) drives(field, name, dir string) {
	for _, d := range b.entry.Drives(name) {
		if d.Other != "" {
			b.found(report.BootUnchecked, b.name, field, "", name, "it is unknown whether GRUB reads it from the file system of "+dir+": "+d.Other)
			continue
		}
		has := slices.DeleteFunc(b.run.fileSystemNames(dir), func(n fileSystemName) bool { return n.by != d.By })
		if len(has) == 0 {
			b.run.searchUnknown(dir)
			continue
		}
		if !slices.ContainsFunc(has, func(n fileSystemName) bool { return n.is(d.Value) }) {
			b.found(report.BootAltered, b.name, "search", has[0].String(), fileSystemName{d.By, d.Value}.String(),
				"GRUB searches for another file system than that of "+dir)
		}
	}
}

// fileSystemName is a name by which a file system can be searched for.
type fileSystemName struct {
	by    string // "uuid" or "label"
	value string // "" if it has none
}

func (n fileSystemName) String() string { return n.by + " " + cmp.Or(n.value, "none") }

// is reports whether GRUB finds the file system by value. It does not distinguish the case
// of UUIDs.
func (n fileSystemName) is(value string) bool {
	return n.value == value || n.by == "uuid" && n.value != "" && strings.EqualFold(n.value, value)
}

// fileSystemNames returns the names of the file system that has the directory dir, as udev
// has recorded them; one without a value for a kind of name that it does not have, and none
// of a kind that is unknown.
func (r *run) fileSystemNames(dir string) []fileSystemName {
	if r.namesOf != nil {
		return r.namesOf(dir)
	}
	if r.outside() {
		return nil // who mounted the disk may have given it other names
	}
	origins, err := r.store.Origins(dir)
	if err != nil || len(origins) == 0 {
		return nil
	}
	m := &origins[0].Mounts[len(origins[0].Mounts)-1]
	if m.Type == "zfs" { // GRUB knows the pool as the label
		pool, _, _ := strings.Cut(m.Source, "/")
		return []fileSystemName{{"label", pool}}
	}
	return namesAmong(nixstore.DeviceNames(blockDevice(m)))
}

// blockDevice returns the number of the device that has the file system of m, "" if it is
// unknown. A file system on several devices, such as btrfs, has a number of its own.
func blockDevice(m *nixstore.Mount) string {
	if !strings.HasPrefix(m.Device, "0:") {
		return m.Device
	}
	if !strings.HasPrefix(m.Source, "/dev/") {
		return ""
	}
	var stat unix.Stat_t
	if err := unix.Stat(m.Source, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
}

var udevEscape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\\x[0-9a-f]{2}`) })

// namesAmong returns the names of a file system among those of its device. One that has a
// UUID or a label, and lacks the other, has none.
func namesAmong(device []string) []fileSystemName {
	var names []fileSystemName
	kinds := []string{"uuid", "label"}
	for _, name := range device {
		dir, value := path.Split(name)
		for _, by := range kinds {
			if dir == "/dev/disk/by-"+by+"/" {
				names = append(names, fileSystemName{by, udevEscape().ReplaceAllStringFunc(value, func(e string) string {
					c, _ := strconv.ParseUint(e[2:], 16, 8)
					return string([]byte{byte(c)})
				})})
			}
		}
	}
	for _, by := range kinds {
		if len(names) > 0 && !slices.ContainsFunc(names, func(n fileSystemName) bool { return n.by == by }) {
			names = append(names, fileSystemName{by: by})
		}
	}
	return names
}

// searchUnknown notes a directory for whose file system GRUB searches, if that could not be
// compared.
func (r *run) searchUnknown(dir string) {
	if !slices.Contains(r.live.unsearched, dir) {
		r.live.unsearched = append(r.live.unsearched, dir)
	}
}

// searchUnseen returns a sentence that says that it is unknown for which file systems GRUB
// searches; "" if that was compared.
func (r *run) searchUnseen() string {
	if len(r.live.unsearched) == 0 {
		return ""
	}
	return "udev has no name of the file system of " + strings.Join(r.live.unsearched, " and ") + ", so the one that GRUB searches for was not compared"
}
