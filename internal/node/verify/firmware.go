package verify

import (
	"context"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/node/mounted"
	"every.channel/ec-verify/internal/report"
)

// firmwareDir is the mount point, in NixOS's images for boards, of the partition that the
// firmware starts from. It has parts of the firmware, its settings, and U-Boot or a kernel.
const firmwareDir = "/boot/firmware"

// firmwareUnseen returns a sentence that says that the firmware's partition is not mounted;
// "" if it is, or if the release's configuration has none.
func (r *run) firmwareUnseen() string {
	if d, err := r.store.Directory(firmwareDir); err == nil {
		defer d.Close()
		// An error about more than one name also means that there are files.
		if names, err := d.Names(".", 1); err != nil || len(names) > 0 {
			return ""
		}
	}
	// The contents tier checks whether the file is the release's.
	p, rest, err := r.store.ResolveLink(string(r.manifest.Toplevel.OutPath) + "/etc/fstab")
	if err != nil {
		return ""
	}
	fstab, err := r.store.ReadFile(p, strings.TrimPrefix(rest, "/"), maxFstab)
	if err != nil || !slices.ContainsFunc(mounted.ParseFstab(string(fstab)), func(m mounted.Configured) bool { return m.Where == firmwareDir }) {
		return ""
	}
	return "the partition that the firmware starts from is not mounted on " + firmwareDir + " and was not compared"
}

// firmware compares the files in a directory of the firmware's partition with all files of
// the accepted releases, whatever their names, and returns the names of those that no
// release has.
func (l *loaders) firmware(ctx context.Context, place string, depth int) (unknown []string) {
	const maxDepth = 3
	for _, name := range l.names(place) {
		name = path.Join(place, name)
		if _, err := l.dir.Names(name, maxLoaders); err == nil && depth < maxDepth {
			unknown = append(unknown, l.firmware(ctx, name, depth+1)...)
			continue
		}
		l.tier.Checked++
		known, err := l.released(ctx, name, func(string) bool { return true })
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			l.run.find(report.Finding{Tier: report.TierLive, Cause: report.BootUnchecked, Path: path.Join(l.dir.Name(), name), Detail: err.Error()})
		case !known:
			unknown = append(unknown, name)
		}
	}
	return unknown
}
