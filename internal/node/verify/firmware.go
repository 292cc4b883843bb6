package verify

import (
	"context"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/node/mounted"
	"every.channel/ec-verify/internal/report"
)

// firmwareDir is where the images of NixOS for boards have the partition that the firmware
// starts from: parts of itself, its settings, and U-Boot or a kernel.
const firmwareDir = "/boot/firmware"

// firmwareUnseen says that the firmware's partition, which the release's configuration
// has, is not mounted; "" if it is, or there is none.
func (r *run) firmwareUnseen() string {
	if d, err := r.store.Directory(firmwareDir); err == nil {
		defer d.Close()
		// More than one is more than none.
		if names, err := d.Names(".", 1); err != nil || len(names) > 0 {
			return ""
		}
	}
	// Whether it is the release's is what the contents tier says.
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

// firmware compares the files in a directory of the firmware's partition with those of the
// accepted releases, whatever they are called there, and returns the others.
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
			l.run.find(report.Finding{Tier: report.TierLive, Cause: report.BootUnchecked, Path: path.Join(l.dirName, name), Detail: err.Error()})
		case !known:
			unknown = append(unknown, name)
		}
	}
	return unknown
}
