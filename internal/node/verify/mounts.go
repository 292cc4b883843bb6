package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/mounted"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// The directories that a run reads, other than the store, whose mounts are checked.
const (
	profilesDir = "/nix/var/nix/profiles"
	runDir      = "/run"
)

// maxFstab limits a file of the release, in bytes.
const maxFstab = 1 << 20

// checkOrigins records from which file systems dirs are read, and adds a finding for each
// mount there that is not in the release's configuration. It hides what the machine boots
// from, which may be anything.
func (r *run) checkOrigins(ctx context.Context, tier report.TierName, dirs ...string) {
	origins, err := r.store.Origins(dirs...)
	// In the store, the closure's paths are checked one by one; below /run are the mounts
	// of others.
	for _, dir := range []string{r.databaseDir(), profilesDir} {
		if err == nil && slices.Contains(dirs, dir) {
			var below []nixstore.Origin
			below, err = r.store.OriginsBelow(dir)
			origins = append(origins, below...)
		}
	}
	if errors.Is(err, nixstore.ErrUnlisted) && r.outside() {
		// The disk is mounted in another mount namespace, as in /proc/PID/root, so
		// that this process's list of mounts says nothing about it.
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
		// Whoever mounted the disk decides what is mounted here.
		return
	}
	judge := mounted.Judge{
		Configured: func(point string) ([]mounted.Configured, error) { return r.configuredMounts(ctx, point) },
		Place:      r.placeOf, Names: nixstore.DeviceNames,
	}
	for i := range origins {
		o := &origins[i]
		odd := judge.Odd(o.Mounts)
		if len(o.Init) > 0 && nixstore.At(o.Init, o.Path) != nixstore.At(o.Mounts, o.Path) {
			odd = append(odd, judge.Odd(o.Init)...)
			if len(odd) == 0 {
				odd = append(odd, mounted.Odd{
					Cause: report.MountedOver, Point: o.Dir, Want: mounted.Describe(o.Init, o.Path), Got: mounted.Describe(o.Mounts, o.Path),
					Why: "the machine's first process sees another directory there than this run",
				})
			}
		}
		for _, m := range odd {
			if r.mountedOver == nil {
				r.mountedOver = make(map[string]report.Cause)
			}
			r.mountedOver[o.Dir] = m.Cause
			r.findOnce(report.Finding{
				Tier: tier, Cause: m.Cause, Path: m.Point, Want: m.Want, Got: m.Got, Detail: m.Why,
				ConsequenceOf: r.otherSystem(),
			})
		}
	}
}

// findOnce adds a finding unless there is an equal one, and returns the one that there is:
// two directories may be on one mount, and each is checked twice. Mounts within store
// paths are left to the contents tier.
func (r *run) findOnce(f report.Finding) *report.Finding {
	i := slices.IndexFunc(r.report.Findings, func(has report.Finding) bool {
		return has.Cause == f.Cause && has.Path == f.Path && has.Field == f.Field && (has.Got == f.Got || has.Got == "" && has.Detail == "")
	})
	if i < 0 {
		i = len(r.report.Findings)
		r.find(f)
	}
	return &r.report.Findings[i]
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

// databaseDir returns the directory of the store's database.
func (r *run) databaseDir() string {
	return path.Join(path.Dir(string(r.StoreDir)), "var/nix/db")
}

// configuredMounts returns the mounts at point in the release's configuration.
func (r *run) configuredMounts(ctx context.Context, point string) ([]mounted.Configured, error) {
	var out []mounted.Configured
	fstab, err := r.releasedFile(ctx, "etc/fstab")
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return nil, fmt.Errorf("by the release's etc/fstab it can't be judged: %w", err)
	}
	for _, m := range mounted.ParseFstab(fstab) {
		if m.Where == point {
			out = append(out, m)
		}
	}
	unit, err := r.releasedFile(ctx, "etc/systemd/system/"+mounted.UnitName(point))
	switch {
	case err == nil:
		if m, ok := mounted.ParseUnit(unit); ok && m.Where == point {
			out = append(out, m)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("by the release's mount unit it can't be judged: %w", err)
	}
	if absent && len(out) == 0 {
		return nil, mounted.ErrNoFstab
	}
	return out, nil
}

// releasedFile returns a file of the release's toplevel from the store, if it is the
// release's. The error wraps [fs.ErrNotExist] if the toplevel has no such file.
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

// withoutProc returns the cause that explains a failed check if /proc is missing, with a
// finding of its own; "" if /proc is there.
func (r *run) withoutProc(tier report.TierName) report.Cause {
	err := nixstore.CheckProc()
	if err == nil {
		return ""
	}
	r.findOnce(report.Finding{Tier: tier, Cause: report.ProcUnavailable, Path: "/proc", Detail: err.Error()})
	return report.ProcUnavailable
}
