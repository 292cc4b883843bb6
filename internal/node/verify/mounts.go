package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// The directories that a run reads, other than the store: where what they are
// mounted on is looked at.
const (
	profilesDir = "/nix/var/nix/profiles"
	runDir      = "/run"
)

// maxFstab bounds a file of the release in bytes.
const maxFstab = 1 << 20

// checkOrigins notes from which file systems dirs are read, and adds a finding
// for each that is mounted there and by the release's configuration is not.
// What lies beneath it may be anything, and is what the machine boots from.
func (r *run) checkOrigins(ctx context.Context, tier report.TierName, dirs ...string) {
	origins, err := r.store.Origins(dirs...)
	// In the store the paths of the closure are looked at one by one, and below
	// /run lie the mounts of others.
	for _, dir := range []string{r.databaseDir(), profilesDir} {
		if err == nil && slices.Contains(dirs, dir) {
			var below []nixstore.Origin
			below, err = r.store.OriginsBelow(dir)
			origins = append(origins, below...)
		}
	}
	if errors.Is(err, nixstore.ErrUnlisted) && r.outside() {
		// As of a file tree that another process sees.
		return
	}
	if err != nil {
		r.findOnce(report.Finding{Tier: tier, Cause: report.MountedOver, Path: dirs[0], Detail: err.Error(), ConsequenceOf: r.withoutProc(tier)})
		return
	}
	for i := range origins {
		r.noteOrigin(&origins[i])
	}
	if r.outside() {
		// What is mounted here is the affair of who looks at the disk.
		return
	}
	judge := mountJudge{
		configured: func(point string) ([]configuredMount, error) { return r.configuredMounts(ctx, point) },
		place:      r.placeOf, names: nixstore.DeviceNames,
	}
	for i := range origins {
		o := &origins[i]
		odd := judge.odd(o.Mounts)
		if len(o.Init) > 0 && nixstore.At(o.Init, o.Path) != nixstore.At(o.Mounts, o.Path) {
			odd = append(odd, judge.odd(o.Init)...)
			if len(odd) == 0 {
				odd = append(odd, oddMount{
					cause: report.MountedOver, point: o.Dir, want: describePlace(o.Init, o.Path), got: describePlace(o.Mounts, o.Path),
					why: "the machine's first process sees another directory there than this run",
				})
			}
		}
		for _, m := range odd {
			if r.mountedOver == nil {
				r.mountedOver = make(map[string]report.Cause)
			}
			r.mountedOver[o.Dir] = m.cause
			r.findOnce(report.Finding{
				Tier: tier, Cause: m.cause, Path: m.point, Want: m.want, Got: m.got, Detail: m.why,
				ConsequenceOf: r.otherSystem(),
			})
		}
	}
}

// findOnce adds a finding unless there is one like it: two directories may be on
// one mount, and each is looked at twice.
func (r *run) findOnce(f report.Finding) {
	if !slices.ContainsFunc(r.report.Findings, func(has report.Finding) bool {
		return has.Cause == f.Cause && has.Path == f.Path && has.Got == f.Got
	}) {
		r.find(f)
	}
}

func (r *run) noteOrigin(o *nixstore.Origin) {
	m := &o.Mounts[len(o.Mounts)-1]
	has := report.Origin{
		Dir: o.Dir, Type: m.Type, Source: m.Source, Device: m.Device, Root: nixstore.At(o.Mounts, o.Path).Dir, Point: m.Point,
	}
	if !slices.Contains(r.report.Coverage.Origins, has) {
		r.report.Coverage.Origins = append(r.report.Coverage.Origins, has)
	}
}

// placeOf returns where a directory of the machine is.
func (r *run) placeOf(dir string) (nixstore.Place, error) {
	origins, err := r.store.Origins(dir)
	if err != nil {
		return nixstore.Place{}, err
	}
	if len(origins) == 0 {
		return nixstore.Place{}, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	return nixstore.At(origins[0].Mounts, origins[0].Path), nil
}

// databaseDir returns where the database of the store lies.
func (r *run) databaseDir() string {
	return path.Join(path.Dir(string(r.StoreDir)), "var/nix/db")
}

// errNoFstab says that the release has no list of what it mounts.
var errNoFstab = errors.New("the release has no etc/fstab by which to judge it")

// configuredMounts returns what the release's configuration mounts at point.
func (r *run) configuredMounts(ctx context.Context, point string) ([]configuredMount, error) {
	var out []configuredMount
	fstab, err := r.releasedFile(ctx, "etc/fstab")
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return nil, fmt.Errorf("by the release's etc/fstab it can't be judged: %w", err)
	}
	for _, m := range parseFstab(fstab) {
		if m.where == point {
			out = append(out, m)
		}
	}
	unit, err := r.releasedFile(ctx, "etc/systemd/system/"+mountUnit(point))
	switch {
	case err == nil:
		if m, ok := parseMountUnit(unit); ok && m.where == point {
			out = append(out, m)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("by the release's mount unit it can't be judged: %w", err)
	}
	if absent && len(out) == 0 {
		return nil, errNoFstab
	}
	return out, nil
}

// releasedFile returns a file of the release's toplevel as it lies in the store,
// if that is what the release says. The error wraps [fs.ErrNotExist] where the
// toplevel has no such file.
func (r *run) releasedFile(ctx context.Context, name string) (string, error) {
	toplevel := r.manifest.Toplevel.OutPath
	p, rest, err := r.store.ResolveLink(string(toplevel) + "/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		if exists, err := r.store.Exists(toplevel); err != nil || !exists {
			return "", fmt.Errorf("%s is not there", toplevel)
		}
	}
	if err != nil {
		return "", err
	}
	i, ok := r.mountedIn(r.manifest.Paths, string(p))
	if !ok {
		return "", fmt.Errorf("%s is not of the release", p)
	}
	want := r.manifest.Paths[i]
	h := nar.NewHasher(nar.Options{Read: r.Read, DropBehind: r.DropBehind, MaxSize: largest(want)})
	sum, err := h.Sum(ctx, r.store.File(), p.Base())
	if err != nil {
		return "", err
	}
	if sum.Hash != want.NarHash {
		return "", fmt.Errorf("%s is not the release's", p)
	}
	data, err := r.store.ReadFile(p, rest, maxFstab)
	return string(data), err
}

// oddMount is a mount that hides something.
type oddMount struct {
	cause            report.Cause
	point, want, got string
	why              string
}

// mountJudge tells mounts that a release's configuration makes from others.
type mountJudge struct {
	// configured returns what the configuration mounts at a point; an error where
	// that is not known.
	configured func(point string) ([]configuredMount, error)
	// place returns where a directory is that the configuration binds elsewhere.
	place func(dir string) (nixstore.Place, error)
	// names returns the names in /dev of a block device.
	names func(number string) []string
}

// odd returns those of mounts, the way to one directory from the root on, that
// the configuration does not make. A directory bound over itself hides nothing:
// so NixOS makes its store read-only, and systemd what a service is not to write
// to. The root itself is judged only where the configuration names one.
func (j *mountJudge) odd(mounts []nixstore.Mount) []oddMount {
	var out []oddMount
	used := make(map[string]int) // mounts at a point that the configuration made
	for i := range mounts {
		m := &mounts[i]
		if i > 0 && nixstore.At(mounts[:i], m.Point) == (nixstore.Place{Device: m.Device, Dir: m.Root}) {
			continue
		}
		if m.Point == runDir && m.Type == "tmpfs" && m.Root == "/" && used[runDir] == 0 {
			used[runDir]++ // NixOS's first stage, or systemd
			continue
		}
		odd := oddMount{point: m.Point, got: describePlace(mounts[:i+1], m.Point)}
		configured, err := j.configured(m.Point)
		switch {
		case i == 0 && (err != nil || len(configured) == 0):
			continue
		case err != nil:
			odd.cause, odd.why = report.MountedOver, err.Error()
		case used[m.Point] >= len(configured):
			odd.cause = report.ForeignMount
			odd.want = "nothing more mounted there"
		default:
			c := &configured[used[m.Point]]
			used[m.Point]++
			odd.cause, odd.want = report.ForeignMount, c.String()
			var from nixstore.Place
			if c.isBind() {
				from, err = j.place(c.what)
			}
			if err != nil {
				odd.cause, odd.why = report.MountedOver, "where the release binds it from can't be looked at: "+err.Error()
			} else if odd.why = j.differs(c, m, from); odd.why == "" {
				continue
			}
		}
		out = append(out, odd)
	}
	return out
}

// differs says why m is not what c mounts; "" where it is, as far as it can be
// told. Of a bind mount from is what c binds.
func (j *mountJudge) differs(c *configuredMount, m *nixstore.Mount, from nixstore.Place) string {
	if c.isBind() {
		if from != (nixstore.Place{Device: m.Device, Dir: m.Root}) {
			return "another directory is bound there than " + c.what
		}
		return ""
	}
	if c.kind != "auto" && c.kind != m.Type && (c.kind != "nfs" || m.Type != "nfs4") {
		return "the file system is of another type"
	}
	if subvol := c.option("subvol"); len(subvol) > 0 {
		if m.Root != "/"+strings.Trim(subvol[len(subvol)-1], "/") {
			return "another part of the file system is mounted there"
		}
	} else if m.Root != "/" && m.Type != "btrfs" && len(c.option("X-mount.subdir")) == 0 {
		return "a part of a file system is mounted there, not a whole one"
	}
	if m.Type == "overlay" {
		return overlayDiffers(c, m)
	}
	if has := j.names(m.Device); len(has) > 0 && strings.HasPrefix(devicePath(c.what), "/dev/") && !slices.Contains(has, devicePath(c.what)) {
		return "the file system is on another device"
	}
	return ""
}

// devicePath returns the path that a tag such as LABEL=x of fstab(5) stands for.
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
func overlayDiffers(c *configuredMount, m *nixstore.Mount) string {
	configured := nixstore.Mount{Options: strings.Join(c.options, ",")}
	for _, layer := range []string{"lowerdir", "upperdir"} {
		want, got := configured.Layers(layer), m.Layers(layer)
		if len(want) > 0 && len(got) > 0 && !slices.Equal(want, got) {
			return "the overlay has another " + layer
		}
	}
	return ""
}

// describePlace says what dir is, that lies on the last of mounts.
func describePlace(mounts []nixstore.Mount, dir string) string {
	m := &mounts[len(mounts)-1]
	s := fmt.Sprintf("%s %s (device %s)", m.Type, m.Source, m.Device)
	if place := nixstore.At(mounts, dir); place.Dir != "/" {
		s += ", of it " + place.Dir
	}
	return s
}

// withoutProc returns the cause that explains why something could not be looked at
// where that is for want of /proc, with a finding of its own; "" where /proc is there.
func (r *run) withoutProc(tier report.TierName) report.Cause {
	err := nixstore.CheckProc()
	if err == nil {
		return ""
	}
	r.findOnce(report.Finding{Tier: tier, Cause: report.ProcUnavailable, Path: "/proc", Detail: err.Error()})
	return report.ProcUnavailable
}
