package verify

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/node/bootloader"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// maxLoaders limits the names that are read of one directory of loaders.
const maxLoaders = 1000

// loaders checks the boot loaders in one directory.
type loaders struct {
	run  *run
	tier *report.Tier
	dir  bootDir
	// files returns the loader files of the accepted releases, which are listed once: a
	// directory of GRUB's modules has hundreds to compare.
	files func() []storeFile
}

// checkLoaders compares the boot loaders on an EFI system partition, the drivers that
// systemd-boot loads from there, and GRUB's modules with those of the accepted releases,
// and names the others.
func (r *run) checkLoaders(ctx context.Context, t *report.Tier, dir bootDir) {
	l := &loaders{run: r, tier: t, dir: dir}
	l.files = sync.OnceValue(func() []storeFile { return r.loaderFiles(nil) })
	l.programs(ctx, "EFI/systemd/drivers")
	for _, vendor := range l.names("EFI") {
		// The menu names the files in these.
		if lower := strings.ToLower(vendor); lower != "nixos" && lower != "linux" {
			l.programs(ctx, "EFI/"+vendor)
		}
	}
	for _, place := range []string{"grub", "EFI/BOOT"} { // the second on a medium
		for _, platform := range l.names(place) {
			if strings.Contains(platform, "-") { // "i386-pc", "x86_64-efi"
				l.modules(ctx, place+"/"+platform, "lib/grub/"+platform)
			}
		}
	}
	if dir.Name() == firmwareDir {
		l.unknown(".", l.firmware(ctx, ".", 0))
	}
	if dir.Name() == mediumDir {
		for _, place := range bootloader.Isolinux {
			l.modules(ctx, place, syslinuxFiles)
		}
	}
}

// names returns the sorted names in a directory; none if it is not a directory.
func (l *loaders) names(place string) []string {
	names, err := l.dir.Names(place, maxLoaders)
	switch {
	case isAbsent(err) || errors.Is(err, unix.ENOTDIR):
		return nil
	case err != nil:
		l.run.findOnce(report.Finding{Tier: report.TierLive, Cause: report.BootUnchecked, Path: path.Join(l.dir.Name(), place), Detail: err.Error()})
		return nil
	}
	slices.Sort(names)
	return names
}

// programs compares the EFI programs in a directory.
func (l *loaders) programs(ctx context.Context, place string) {
	for _, name := range l.names(place) {
		if !strings.HasSuffix(strings.ToLower(name), ".efi") || ctx.Err() != nil {
			continue
		}
		l.tier.Checked++
		shown := path.Join(l.dir.Name(), place, name)
		switch known, err := l.released(ctx, path.Join(place, name), isSystemdBoot); {
		case ctx.Err() != nil:
		case err != nil:
			l.run.find(report.Finding{Tier: report.TierLive, Cause: report.BootUnchecked, Path: shown, Detail: err.Error()})
		case !known:
			l.run.find(report.Finding{Tier: report.TierLive, Cause: report.LoaderUnknown, Path: shown})
		}
	}
}

// modules compares the files in a directory that are copies of those in a directory of
// GRUB's or SYSLINUX's, of which only the programs count. What the loader begins with is
// made for the machine or the medium and in no release; unknown files are named in one
// finding.
func (l *loaders) modules(ctx context.Context, place, from string) {
	var unknown []string
	for _, name := range l.names(place) {
		if from == syslinuxFiles && !slices.Contains([]string{".bin", ".c32"}, path.Ext(name)) {
			continue
		}
		l.tier.Checked++
		known, err := l.released(ctx, path.Join(place, name), func(file string) bool { return file == from+"/"+name })
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.run.find(report.Finding{Tier: report.TierLive, Cause: report.BootUnchecked, Path: path.Join(l.dir.Name(), place, name), Detail: err.Error()})
		case !known:
			unknown = append(unknown, name)
		}
	}
	l.unknown(place, unknown)
}

// unknown names the files in a directory that no accepted release has, in one finding.
func (l *loaders) unknown(place string, unknown []string) {
	const shownNames = 5
	if len(unknown) == 0 {
		return
	}
	l.run.find(report.Finding{Tier: report.TierLive, Cause: report.LoaderUnknown, Path: path.Join(l.dir.Name(), place), Detail: excerpt.List(unknown, " ", shownNames)})
}

func isSystemdBoot(file string) bool {
	return strings.HasPrefix(file, systemdLoaders+"/systemd-boot") && strings.HasSuffix(file, ".efi")
}

// released reports whether a file equals one of the accepted releases' loader files in
// the store.
func (l *loaders) released(ctx context.Context, name string, wanted func(string) bool) (bool, error) {
	got, err := l.dir.Open(name)
	if err != nil {
		return false, err
	}
	defer got.Close()
	for _, file := range l.files() {
		if !wanted(file.rel) {
			continue
		}
		same, err := l.run.sameFile(ctx, bootPair{l.dir, name, file}, got.Size())
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

const (
	systemdLoaders = "lib/systemd/boot/efi"
	syslinuxFiles  = "share/syslinux"
)

// loaderFiles returns the boot loader files of the accepted releases: systemd-boot,
// systemd-stub, the parts of GRUB and SYSLINUX, U-Boot, and a Raspberry Pi's firmware. It uses only releases that the contents tier
// hashes, and also: the store's files of another release are not known to be intact.
func (r *run) loaderFiles(also *candidate) (files []storeFile) {
	releases := r.ledTo()
	if also != nil && !slices.Contains(releases, also) {
		releases = append(releases, also)
	}
	for _, c := range releases {
		for _, info := range c.manifest.Paths {
			dirs := r.loaderDirs(info.Path)
			for _, dir := range dirs {
				// Another part of the package, or not there.
				names, _ := r.store.EntriesOf(info.Path, dir, maxLoaders)
				for _, name := range names {
					rel := path.Join(dir, name)
					if slices.Contains(dirs, rel) || dir == "." && path.Ext(name) != ".bin" {
						continue // a directory, or what may be one
					}
					files = append(files, storeFile{info.Path, rel})
				}
			}
		}
	}
	return files
}

// loaderDirs returns where a store object may have files of a boot loader.
func (r *run) loaderDirs(p closure.StorePath) []string {
	switch name := p.Name(); {
	case strings.HasPrefix(name, "systemd-"):
		return []string{systemdLoaders}
	case strings.HasPrefix(name, "raspberrypi-firmware-"):
		return []string{"share/raspberrypi/boot", "share/raspberrypi/boot/overlays"}
	case strings.HasPrefix(name, "uboot-"), strings.HasPrefix(name, "raspberrypi-armstubs-"):
		return []string{"."}
	case strings.HasPrefix(name, "syslinux-"):
		return []string{syslinuxFiles}
	case strings.HasPrefix(name, "grub-") || strings.HasPrefix(name, "grub2-"):
		platforms, _ := r.store.EntriesOf(p, "lib/grub", maxLoaders)
		for i := range platforms {
			platforms[i] = "lib/grub/" + platforms[i]
		}
		return platforms
	}
	return nil
}

// sameFile reports whether both are the same. The first has size bytes.
func (r *run) sameFile(ctx context.Context, p bootPair, size int64) (bool, error) {
	want, err := r.store.OpenFile(p.want.path, p.want.rel)
	if err != nil {
		return false, err
	}
	defer want.Close()
	if want.Size() != size {
		return false, nil
	}
	same, cached, err := r.same(ctx, p, size)
	if err == nil && cached {
		err = errCached
	}
	return same, err
}

// errCached means that the policy asked for the disk, and only the page cache answered.
var errCached = errors.New("only the page cache gave it, and the disk was to be read")
