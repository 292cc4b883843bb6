// Package bootlayouts lays out a /boot as the scripts of NixOS do that install boot
// loaders, for tests. Nothing but tests may import it.
//
// The texts are those that the scripts themselves wrote for two systems, up to dates
// and the machine's id: systemd-boot-builder.py and install-grub.pl of 24.05, and
// extlinux-conf-builder.sh of 24.05 were run. Entries that are named by their hash, and
// images, are as the systemd-boot-builder.py of 2026 writes them, by reading it; and so
// are the menus of an ISO image as iso-image.nix of 26.05 writes them.
package bootlayouts

import (
	"crypto/sha256"
	"fmt"
	"path"
	"strings"
)

// System is a system of a generation.
type System struct {
	Generation int
	Toplevel   string // a store path
	Params     string // the kernel's parameters
	// Kernel, Initrd and DTBs are the files of the store, and the directory, where the
	// system's links lead; DTBs may be empty.
	Kernel, Initrd, DTBs string
}

// File is what a layout has under a name relative to /boot: text, or a copy of a file
// or directory of the store.
type File struct{ Text, From string }

const (
	label     = "NixOS 26.05 (Linux 6.12)"
	built     = "2026-02-28"
	machineID = "0123456789abcdef0123456789abcdef"
)

func (s System) options() string { return "init=" + s.Toplevel + "/init " + s.Params }

// base returns a store path as one name.
func base(p string) string {
	return strings.ReplaceAll(strings.TrimPrefix(p, "/nix/store/"), "/", "-")
}

// efi copies a file of the store to where systemd-boot's files are, and returns its
// name to the loader.
func efi(files map[string]File, from string) string {
	name := "EFI/nixos/" + base(from) + ".efi"
	files[name] = File{From: from}
	return "/" + name
}

// SystemdBoot has entries that are named by their generations. The first system is the
// default.
func SystemdBoot(systems ...System) map[string]File {
	files := make(map[string]File)
	for _, s := range systems {
		files[EntryOf(s)] = File{Text: fmt.Sprintf("title NixOS\nsort-key nixos\nversion Generation %d %s, built on %s\nlinux %s\ninitrd %s\noptions %s\nmachine-id %s\n\n",
			s.Generation, label, built, efi(files, s.Kernel), efi(files, s.Initrd), s.options(), machineID)}
	}
	files["loader/loader.conf"] = File{Text: "timeout 5\ndefault " + path.Base(EntryOf(systems[0])) + "\neditor 0\nconsole-mode keep\n"}
	return files
}

// EntryOf returns the entry that SystemdBoot writes for a system.
func EntryOf(s System) string {
	return fmt.Sprintf("loader/entries/nixos-generation-%d.conf", s.Generation)
}

// CountedSystemdBoot returns the files of systemd-boot with an entry for each system, named
// by its hash. Each entry has the given number of tries left, or no counter if tries is 0.
// The first system is the default.
func CountedSystemdBoot(tries int, systems ...System) map[string]File {
	files := make(map[string]File)
	for i, s := range systems {
		hashed(files, s, i == 0, tries, fmt.Sprintf("linux %s\ninitrd %s\noptions %s", efi(files, s.Kernel), efi(files, s.Initrd), s.options()))
	}
	return files
}

// UnifiedSystemdBoot returns the files of systemd-boot with an entry for each system that
// starts a unified kernel image; image returns the bytes of that image.
func UnifiedSystemdBoot(image func(System) string, systems ...System) map[string]File {
	files := make(map[string]File)
	for i, s := range systems {
		text := image(s)
		name := fmt.Sprintf("EFI/nixos/%x-uki.efi", sha256.Sum256([]byte(text)))
		files[name] = File{Text: text}
		hashed(files, s, i == 0, 0, "uki /"+name)
	}
	return files
}

// hashed adds an entry that is named by its hash.
func hashed(files map[string]File, s System, preferred bool, tries int, starts string) {
	text := fmt.Sprintf("title NixOS\nversion Generation %d %s, built on %s\n%s\nmachine-id %s\nsort-key nixos", s.Generation, label, built, starts, machineID)
	name, counter := fmt.Sprintf("nixos-%x", sha256.Sum256([]byte(text))), ""
	if tries > 0 {
		counter = fmt.Sprintf("+%d", tries)
	}
	files["loader/entries/"+name+counter+".conf"] = File{Text: text}
	switch {
	case preferred && tries > 0:
		files["loader/loader.conf"] = File{Text: "timeout 5\npreferred " + name + ".conf\ndefault nixos-*\nconsole-mode keep\n"}
	case preferred:
		files["loader/loader.conf"] = File{Text: "timeout 5\ndefault " + name + ".conf\nconsole-mode keep\n"}
	}
}

// Extlinux has an extlinux.conf, with the first system as the default.
func Extlinux(systems ...System) map[string]File {
	files := make(map[string]File)
	copied := func(from string) string {
		files["nixos/"+base(from)] = File{From: from}
		return "../nixos/" + base(from)
	}
	text := `# Generated file, all changes will be lost on nixos-rebuild!

# Change this to e.g. nixos-42 to temporarily boot to an older configuration.
DEFAULT nixos-default

MENU TITLE ------------------------------------------------------------
TIMEOUT 50
`
	add := func(tag, title string, s System) {
		text += fmt.Sprintf("\nLABEL nixos-%s\n  MENU LABEL NixOS - %s\n  LINUX %s\n  INITRD %s\n  APPEND %s\n", tag, title, copied(s.Kernel), copied(s.Initrd), s.options())
		if s.DTBs != "" {
			text += "  FDTDIR " + copied(s.DTBs) + "\n"
		}
	}
	add("default", "Default", systems[0])
	for _, s := range systems {
		tag := fmt.Sprintf("%d-default", s.Generation)
		add(tag, "Configuration "+tag+" ("+built+" 12:00 - 26.05)", s)
	}
	files["extlinux/extlinux.conf"] = File{Text: text}
	return files
}

// Grub has a grub.cfg, with the first system as the default.
func Grub(systems ...System) map[string]File {
	files := make(map[string]File)
	const search = "search --set=drive1 --fs-uuid AAAA-BBBB\n"
	entry := func(title, options string, s System) string {
		for _, from := range []string{s.Kernel, s.Initrd} {
			files["kernels/"+base(from)] = File{From: from}
		}
		return fmt.Sprintf("menuentry \"%s\" %s {\n%s  linux ($drive1)//kernels/%s %s\n  initrd ($drive1)//kernels/%s\n}\n\n",
			title, options, search, base(s.Kernel), s.options(), base(s.Initrd))
	}
	text := grubHead + entry("NixOS", "--class nixos --unrestricted", systems[0]) +
		"\nsubmenu \"NixOS - All configurations\" --class submenu {\n"
	for _, s := range systems {
		text += entry(fmt.Sprintf("NixOS - Configuration %d (%s - 26.05)", s.Generation, built), "--class nixos", s)
	}
	files["grub/grub.cfg"] = File{Text: text + "}\n"}
	files["grub/state"] = File{Text: "grub\n2.12\nno\n/dev/sda\n/boot\n{}\n"}
	return files
}

const grubHead = `# Automatically generated.  DO NOT EDIT THIS FILE!

    search --set=drive1 --fs-uuid AAAA-BBBB
    if [ -s $prefix/grubenv ]; then
      load_env
    fi

    # ‘grub-reboot’ sets a one-time saved entry, which we process here and
    # then delete.
    if [ "${next_entry}" ]; then
      set default="${next_entry}"
      set next_entry=
      save_env next_entry
      set timeout=1
      set boot_once=true
    else
      set default=0
      set timeout=5
    fi
    set timeout_style=menu

    function savedefault {
        if [ -z "${boot_once}"]; then
        saved_entry="${chosen}"
        save_env saved_entry
        fi
    }

    # Setup the graphics stack for bios and efi systems
    if [ "${grub_platform}" = "efi" ]; then
      insmod efi_gop
      insmod efi_uga
    else
      insmod vbe
    fi


`

// isoOptions are what the entries under "Options" of an ISO image add.
var isoOptions = []struct{ class, title, params string }{
	{"copytoram", "Copy ISO Files to RAM", "copytoram"},
	{"nomodeset", "No modesetting", "nomodeset"},
	{"debug", "Debug Console Output", "debug"},
	{"quirk-disable-displaymanager", "Disable display-manager", "systemd.mask=display-manager.service plymouth.enable=0"},
	{"rotate-90cw", "Rotate framebuffer Clockwise", "fbcon=rotate:1"},
	{"rotate-180", "Rotate framebuffer Upside-Down", "fbcon=rotate:2"},
	{"rotate-90ccw", "Rotate framebuffer Counter-Clockwise", "fbcon=rotate:3"},
	{"serial", "Serial console=ttyS0,115200n8", "console=ttyS0,115200n8"},
}

// ISOOptions returns the titles of the menus under "Options" of an ISO image.
func ISOOptions() (titles []string) {
	for _, o := range isoOptions {
		titles = append(titles, o.title)
	}
	return titles
}

// ISO is an image for a BIOS and UEFI, without its store. Its names are relative to where
// it is mounted.
func ISO(s System) map[string]File {
	files := map[string]File{"boot" + s.Kernel: {From: s.Kernel}, "boot" + s.Initrd: {From: s.Initrd}, "EFI/nixos-installer-image": {}}
	const name = label + " Installer"
	isolinux := func(class, params string) string {
		return fmt.Sprintf("  LABEL boot%s\n  MENU LABEL %s\n  LINUX /boot/%s\n  APPEND %s %s\n  INITRD /boot/%s\n\n\n\n", class, name, s.Kernel, s.options(), params, s.Initrd)
	}
	grub := func(params string) string {
		return fmt.Sprintf("menuentry '%s' --class installer {\n  # Fallback to UEFI console for boot, efifb sometimes has difficulties.\n  terminal_output console\n\n"+
			"  linux /boot/%s ${isoboot} %s %s\n  initrd /boot/%s\n}\n", name, s.Kernel, s.options(), params, s.Initrd)
	}
	bios := isolinuxHead + isolinux("", "") + "MENU BEGIN Options\n\n"
	uefi := "set timeout=10\n\nclear\necho \"\"\necho \"Press 't' to use the text boot menu on this console...\"\n" + isoGrubHead +
		"if [ ${iso_path} ] ; then\n  set isoboot=\"findiso=${iso_path}\"\nfi\n\n" + grub("") + "submenu \"Options\" --class submenu --class hidpi {\n" + isoGrubHead
	for _, o := range isoOptions {
		bios += "MENU BEGIN " + o.title + "\n" + isolinux("-"+o.class, o.params) + "MENU END\n\n"
		uefi += fmt.Sprintf("submenu \"%s\" --class %s {\n%s%s}\n", o.title, o.class, isoGrubHead, grub(o.params))
	}
	files["isolinux/isolinux.cfg"] = File{Text: bios + "MENU END\n"}
	files["EFI/BOOT/grub.cfg"] = File{Text: uefi + "}\n" + isoGrubFoot}
	return files
}

const isolinuxHead = `SERIAL 0 115200
TIMEOUT 100
UI vesamenu.c32
MENU BACKGROUND /isolinux/background.png

MENU TITLE NixOS
MENU RESOLUTION 800 600
MENU CLEAR
MENU COLOR BORDER       30;44      #00000000    #00000000   none

DEFAULT boot

`

const isoGrubHead = `set textmode=false

# Search using a "marker file"
search --set=root --file /EFI/nixos-installer-image

insmod gfxterm
insmod png
set gfxpayload=keep
set gfxmode=1920x1200,1920x1080,auto

if [ "$textmode" == "false" ]; then
  terminal_output gfxterm
  terminal_input  console
else
  terminal_output console
  terminal_input  console
  set menu_color_normal=cyan/blue
fi

# Sets theme.
set theme=($root)/EFI/BOOT/grub-theme/theme.txt
loadfont ($root)/EFI/BOOT/grub-theme/dejavu.pf2

hiddenentry 'Text mode' --hotkey 't' {
  loadfont ($root)/EFI/BOOT/unicode.pf2
  set textmode=true
  terminal_output console
}

`

const isoGrubFoot = `
# GRUB apparently cannot do "chainloader" operations on "CD".
if [ "$root" != "cd0" ]; then
  menuentry 'rEFInd' --class refind {
    search --set=root --no-floppy --fs-uuid 1234-5678
    chainloader ($root)/EFI/BOOT/refind_x64.efi
  }
fi
menuentry 'Firmware Setup' --class settings {
  fwsetup
  clear
  echo ""
}
menuentry 'Shutdown' --class shutdown {
  halt
}
`
