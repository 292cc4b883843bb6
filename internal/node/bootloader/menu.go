package bootloader

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Dir is a directory that a boot loader reads: an EFI system partition, or /boot.
// Names are relative, with slashes.
type Dir interface {
	// ReadFile returns a regular file of at most limit bytes. The error wraps
	// [fs.ErrNotExist] where there is none.
	ReadFile(name string, limit int64) ([]byte, error)
	// Names returns the names in a directory, in no particular order; an error if there
	// are more than most.
	Names(name string, most int) ([]string, error)
	// Open opens a regular file.
	Open(name string) (File, error)
}

// File is an open regular file.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// The boot loaders.
const (
	SystemdBoot = "systemd-boot"
	Grub        = "grub"
	Extlinux    = "extlinux"
)

// Entry is one thing that a boot loader offers to start.
type Entry struct {
	Loader string
	// Dir is the number of the directory that the entry and its files are in.
	Dir int
	// File is the file in Dir that has the entry; Title is its name in there, empty
	// where the file has but one.
	File, Title string
	// Default says that it is started where nobody chooses.
	Default bool
	// Kernel, Initrds, Devicetree and DevicetreeDir are files as the loader names
	// them, "/EFI/nixos/…": relative to its file system, or to File's directory.
	Kernel        string
	Initrds       []string
	Devicetree    string
	DevicetreeDir string
	// Image is the file of a unified kernel image, relative to Dir, which holds kernel,
	// initrd and command line; "" where the entry names these.
	Image string
	// Options is the kernel's command line.
	Options string
	// Medium says that it is on an installation medium of NixOS, where names of files
	// begin at the top of Dir.
	Medium bool
	// Foreign says, for people, why it is not an entry that starts a Linux kernel
	// with files that are named here; "" where it is one.
	Foreign string

	// drives are what GRUB's variables may stand for by the entry itself, menuDrives by the
	// rest of the menu.
	drives, menuDrives grubDrives

	sortKey, machineID, version string
	tries                       int // left by boot counting; -1 where it is not counted
	// skipped says that systemd-boot may not list it: it is for another
	// architecture, or its name begins as those of no entries do.
	skipped bool
}

// Variables are what the firmware keeps for systemd-boot; "" for what is not set.
type Variables struct {
	// Names of entries, or patterns of them; LastBooted is what "@saved" stands for.
	OneShot, Preferred, Default, LastBooted string
}

const (
	// maxConfig bounds one file of a boot loader's configuration in bytes.
	maxConfig = 4 << 20
	// maxEntries bounds the entries of one loader, maxEntry one of its files.
	maxEntries = 1000
	maxEntry   = 64 << 10
	// blanks are what no loader takes for a part of a name at its end or beginning.
	blanks = " \t"
)

// Problem is a part of a boot loader's configuration that could not be read.
type Problem struct {
	Dir  int
	File string
	Err  error
}

// Read returns the entries of the boot loaders that have their files in dirs. A directory
// without files of a boot loader has no entries.
func Read(dirs []Dir, variables Variables) (entries []Entry, problems []Problem) {
	var loaderConfs [][]byte
	var typed []Entry
	for i, dir := range dirs {
		note := func(file string, err error) {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				problems = append(problems, Problem{i, file, err})
			}
		}
		// The one on the EFI system partition counts, which may be any of dirs.
		data, err := dir.ReadFile("loader/loader.conf", maxEntry)
		if note("loader/loader.conf", err); err == nil {
			loaderConfs = append(loaderConfs, data)
		}
		entries = append(entries, readScripts(dir, i, note)...)
		found, err := readTyped(dir, i, note)
		note("loader/entries", err)
		typed = append(typed, found...)
		images, err := readImages(dir, i, note)
		note("EFI/Linux", err)
		typed = append(typed, images...)
		for _, l := range []struct {
			file  string
			parse func([]byte) ([]Entry, error)
		}{
			{"grub/grub.cfg", func(data []byte) ([]Entry, error) {
				env, err := dir.ReadFile("grub/grubenv", maxEntry)
				note("grub/grubenv", err)
				return parseGrub(data, env)
			}},
			{"extlinux/extlinux.conf", parseExtlinux},
		} {
			data, err := dir.ReadFile(l.file, maxConfig)
			if err != nil {
				note(l.file, err)
				continue
			}
			found, err := l.parse(data)
			note(l.file, err)
			for j := range found {
				found[j].Dir, found[j].File = i, l.file
			}
			entries = append(entries, found...)
		}
	}
	markDefault(typed, loaderConfs, variables)
	return append(typed, entries...), problems
}

// readScripts reads the scripts that U-Boot runs from a directory. It looks at the top of a
// file system before its /boot, and in each place for an extlinux.conf first.
func readScripts(dir Dir, number int, note func(string, error)) (entries []Entry) {
	if f, err := dir.Open("extlinux/extlinux.conf"); err == nil {
		f.Close()
		return nil
	}
	for _, name := range []string{"boot.scr.uimg", "boot.scr"} {
		f, err := dir.Open(name)
		if note(name, err); err != nil {
			continue
		}
		f.Close()
		entries = append(entries, Entry{Loader: Extlinux, Dir: number, File: name, Default: true, Foreign: "U-Boot runs it as a script"})
	}
	return entries
}

// Name returns what names e in a report: its file, and its title there.
func (e *Entry) Name() string {
	if e.Title == "" {
		return e.File
	}
	return fmt.Sprintf("%s: %s", e.File, e.Title)
}

var errTooMany = fmt.Errorf("more than %d entries", maxEntries)

// wantKernel notes that an entry starts nothing that is known.
func (e *Entry) wantKernel() {
	if e.Kernel == "" && e.Image == "" && e.Foreign == "" {
		e.Foreign = noKernel
	}
}

const noKernel = "it names no kernel"
