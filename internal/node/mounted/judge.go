package mounted

import (
	"fmt"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// runDir is where NixOS's first stage mounts what is kept in memory.
const runDir = "/run"

// closedLock is the lock of the system profile, on which a closed gate mounts /dev/null
// (see activate.Machine.Close). It never has contents that could be hidden.
const closedLock = "/nix/var/nix/profiles/system.lock"

// Odd is a mount that hides something.
type Odd struct {
	Cause            report.Cause
	Point, Want, Got string
	Why              string
}

// Judge distinguishes the mounts of a release's configuration from others.
type Judge struct {
	// Configured returns the configuration's mounts at a point; an error if they are
	// unknown.
	Configured func(point string) ([]Configured, error)
	// Place returns where a directory is that the configuration binds elsewhere.
	Place func(dir string) (nixstore.Place, error)
	// Names returns the names in /dev of a block device.
	Names func(number string) []string
}

// Odd returns those of mounts, the way from the root to one directory, that are not in
// the configuration. A directory bound over itself hides nothing: this is how NixOS makes
// its store read-only, and systemd what a service may not write to. The root itself is
// judged only if the configuration has it.
func (j *Judge) Odd(mounts []nixstore.Mount) []Odd {
	var out []Odd
	used := make(map[string]int) // mounts at a point that the configuration made
	for i := range mounts {
		if isUsual(mounts[:i+1], used) {
			continue
		}
		if odd := j.odd(mounts[:i+1], used); odd != nil {
			out = append(out, *odd)
		}
	}
	return out
}

// isUsual reports whether the last of mounts hides nothing, or is made on each NixOS.
func isUsual(mounts []nixstore.Mount, used map[string]int) bool {
	m, before := &mounts[len(mounts)-1], mounts[:len(mounts)-1]
	switch {
	case len(before) > 0 && nixstore.At(before, m.Point) == (nixstore.Place{Device: m.Device, Dir: m.Root}):
		return true
	case m.Point == runDir && m.Type == "tmpfs" && m.Root == "/" && used[runDir] == 0:
		used[runDir]++ // NixOS's first stage, or systemd
		return true
	case m.Point == closedLock && (m.Type == "devtmpfs" || m.Type == "tmpfs") && m.Root == "/null":
		return true
	}
	return m.Type == "autofs" && m.Root == "/" // it shows nothing; what is mounted by it lies on it
}

// odd judges the last of mounts; nil means that the configuration makes it.
func (j *Judge) odd(mounts []nixstore.Mount, used map[string]int) *Odd {
	m := &mounts[len(mounts)-1]
	odd := &Odd{Point: m.Point, Got: Describe(mounts, m.Point)}
	configured, err := j.Configured(m.Point)
	switch {
	case len(mounts) == 1 && (err != nil || len(configured) == 0):
		return nil
	case err != nil:
		odd.Cause, odd.Why = report.MountedOver, err.Error()
		return odd
	case used[m.Point] >= len(configured):
		odd.Cause, odd.Want = report.ForeignMount, "nothing more mounted there"
		return odd
	}
	c := &configured[used[m.Point]]
	used[m.Point]++
	odd.Cause, odd.Want = report.ForeignMount, c.String()
	var from nixstore.Place
	if c.isBind() {
		from, err = j.Place(c.What)
	}
	if err != nil {
		odd.Cause, odd.Why = report.MountedOver, "the directory that the release binds there can't be examined: "+err.Error()
		return odd
	}
	if odd.Why = j.differs(c, m, from); odd.Why == "" {
		return nil
	}
	return odd
}

// differs says how m differs from c's mount; "" if it does not, as far as that is known.
// If it is a bind mount, from is the directory that c binds.
func (j *Judge) differs(c *Configured, m *nixstore.Mount, from nixstore.Place) string {
	if c.isBind() {
		if from != (nixstore.Place{Device: m.Device, Dir: m.Root}) {
			return "another directory is bound there than " + c.What
		}
		return ""
	}
	if c.Kind != "auto" && c.Kind != m.Type && (c.Kind != "nfs" || m.Type != "nfs4") {
		return "the file system is of another type"
	}
	if subvol := c.option("subvol"); len(subvol) > 0 {
		if m.Root != "/"+strings.Trim(subvol[len(subvol)-1], "/") {
			return "another part of the file system is mounted there"
		}
	} else if m.Root != "/" && m.Type != "btrfs" && len(c.option("X-mount.subdir")) == 0 {
		return "only a part of a file system is mounted there"
	}
	if m.Type == "overlay" {
		return overlayDiffers(c, m)
	}
	if has := j.Names(m.Device); len(has) > 0 && strings.HasPrefix(devicePath(c.What), "/dev/") && !slices.Contains(has, devicePath(c.What)) {
		return "the file system is on another device"
	}
	return ""
}

// devicePath returns the path for a tag such as LABEL=x of fstab(5).
func devicePath(what string) string {
	if tag, value, ok := strings.Cut(what, "="); ok {
		switch tag {
		case "LABEL", "UUID", "PARTLABEL", "PARTUUID":
			return "/dev/disk/by-" + strings.ToLower(tag) + "/" + strings.Trim(value, `"`)
		}
	}
	return what
}

// overlayDiffers compares the layers of an overlay with the configured ones,
// where both are known.
func overlayDiffers(c *Configured, m *nixstore.Mount) string {
	configured := nixstore.Mount{Options: strings.Join(c.Options, ",")}
	for _, layer := range []string{"lowerdir", "upperdir"} {
		want, got := configured.Layers(layer), m.Layers(layer)
		if len(want) > 0 && len(got) > 0 && !slices.Equal(want, got) {
			return "the overlay has another " + layer
		}
	}
	return ""
}

// Describe describes dir, which is on the last of mounts.
func Describe(mounts []nixstore.Mount, dir string) string {
	m := &mounts[len(mounts)-1]
	s := fmt.Sprintf("%s %s (device %s)", m.Type, m.Source, m.Device)
	if place := nixstore.At(mounts, dir); place.Dir != "/" {
		s += ", of it " + place.Dir
	}
	return s
}
