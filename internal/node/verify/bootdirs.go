package verify

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/bootloader"
	"every.channel/ec-verify/internal/report"
)

// bootDirs are the directories in which boot loaders have their files, as in bootctl. U-Boot
// looks at the top of a file system before its /boot.
var bootDirs = []string{"/", "/boot", "/efi", "/boot/efi", firmwareDir, mediumDir}

const (
	// mediumDir is the directory on which NixOS mounts the medium of an ISO image.
	mediumDir = "/iso"
	// mediumImage is its file system for UEFI.
	mediumImage = mediumDir + "/" + bootloader.EFIImage
)

// bootDir is a directory with the files of a boot loader.
type bootDir interface {
	bootloader.Dir
	// Name returns its path on the machine.
	Name() string
	Close() error
}

// machineDir is a directory of the machine.
type machineDir struct{ *nixstore.Directory }

// Open implements [bootloader.Dir].
func (d machineDir) Open(name string) (bootloader.File, error) { return d.Directory.Open(name) }

// fatDir is the root of the FAT file system in a file of the machine. It is read without
// being mounted, because not every kernel can mount it.
type fatDir struct {
	*image.FAT
	name string
	file *nixstore.Regular
}

// Name implements [bootDir].
func (d fatDir) Name() string { return d.name }

// Close implements [bootDir].
func (d fatDir) Close() error { return d.file.Close() }

// Open implements [bootloader.Dir].
func (d fatDir) Open(name string) (bootloader.File, error) { return d.FAT.Open(name) }

// openBootDirs opens the directories that boot loaders read, each once.
func (r *run) openBootDirs() []bootDir {
	var dirs []bootDir
	var known []*nixstore.Directory
	for _, name := range bootDirs {
		d, err := r.store.Directory(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
			continue
		case err != nil:
			r.find(report.Finding{Tier: report.TierLive, Cause: report.LiveUnknown, Path: name, Detail: err.Error()})
			continue
		case slices.ContainsFunc(known, func(has *nixstore.Directory) bool { return has.Device == d.Device && has.Inode == d.Inode }):
			d.Close()
			continue
		}
		dirs, known = append(dirs, machineDir{d}), append(known, d)
		if name != mediumDir {
			continue
		}
		efi, err := openFAT(d, bootloader.EFIImage)
		switch {
		case isAbsent(err):
		case err != nil:
			r.find(report.Finding{Tier: report.TierLive, Cause: report.LiveUnknown, Path: mediumImage, Detail: err.Error()})
		default:
			dirs = append(dirs, efi)
		}
	}
	return dirs
}

// openFAT opens the FAT file system in the file name of d.
func openFAT(d *nixstore.Directory, name string) (bootDir, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	fat, err := image.OpenFAT(f, f.Size())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return fatDir{fat, d.Name() + "/" + name, f}, nil
}
