package running

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
)

// unitDirs are the directories in which the service manager looks for units, as they are
// now.
type unitDirs struct {
	store *nixstore.Store
	// dropIns has a name of each unit, without its instance, that there is a directory of
	// drop-ins for.
	dropIns map[string]bool
	// unknown means that not all of them could be read.
	unknown bool
}

// readUnitDirs reads the directories, of which not all need to exist.
func readUnitDirs(store *nixstore.Store, dirs []string) *unitDirs {
	d := &unitDirs{store: store, dropIns: map[string]bool{}}
	entries := map[string][]string{} // by their names
	var todo []string                // units that drop-ins are for
	for _, dir := range dirs {
		names, err := store.List(dir, maxEntries)
		d.unknown = d.unknown || err != nil && !isAbsent(err)
		for _, name := range names {
			entries[name] = append(entries[name], path.Join(dir, name))
			if unit, ok := strings.CutSuffix(name, ".d"); ok {
				todo = append(todo, unit)
			}
		}
	}
	seen := map[string]bool{}
	for len(todo) > 0 {
		unit := todo[0]
		if todo = todo[1:]; seen[unit] {
			continue
		}
		seen[unit], d.dropIns[uninstanced(unit)] = true, true
		for _, entry := range slices.Concat(entries[unit], entries[template(unit)]) {
			if target, err := store.Target(entry); err == nil {
				todo = append(todo, path.Base(target)) // another name of it
			}
		}
	}
	return d
}

// template returns the name of the template of an instance: "a@.service" of
// "a@b.service". It is empty for what is no instance.
func template(unit string) string {
	kind := path.Ext(unit)
	if before, _, ok := strings.Cut(strings.TrimSuffix(unit, kind), "@"); ok {
		return before + "@" + kind
	}
	return ""
}

// uninstanced returns a unit's name without its instance: "a.service" of "a@b.service".
func uninstanced(unit string) string {
	kind := path.Ext(unit)
	stem, _, _ := strings.Cut(strings.TrimSuffix(unit, kind), "@")
	return stem + kind
}

// mayChange reports whether the files of a loaded unit may be others than those that it
// was loaded from: unless it has no drop-ins and there are none for it, and its file has
// the time that Nix gives to all, which is never newer than what was loaded.
func (d *unitDirs) mayChange(u *Unit) bool {
	if d.unknown || len(u.DropIns) > 0 {
		return true
	}
	for _, name := range dropInNames(uninstanced(u.Name)) {
		if d.dropIns[name] {
			return true
		}
	}
	if u.Fragment == "" {
		return false
	}
	at, err := d.store.Follow(u.Fragment)
	if err != nil {
		return true
	}
	st, err := d.store.Stat(at)
	return err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 || st.Mtim.Sec != 1 || st.Mtim.Nsec != 0
}
