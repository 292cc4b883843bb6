package bootloader

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mediumMenu = `UI vesamenu.c32
MENU TITLE NixOS
MENU COLOR BORDER       30;44      #00000000    #00000000   none
DEFAULT boot

  LABEL boot
  MENU LABEL NixOS
  LINUX /k
  APPEND init=/n
  INITRD /i

MENU BEGIN Options
  LABEL boot-debug
  MENU LABEL NixOS
  LINUX /k
  APPEND init=/n debug
  INITRD /i
MENU END
`

// SYSLINUX's default is found, in whatever way the menu names it.
func TestMediumSyslinux(t *testing.T) {
	const (
		label  = "isolinux/isolinux.cfg: boot"
		boot   = "* " + label + " | /k | /i | init=/n"
		debug  = label + "-debug | /k | /i | init=/n debug"
		broken = "a control character, or a longer line than SYSLINUX reads"
	)
	for _, test := range []struct {
		name, old, by string
		want          []string
		problem       string
	}{
		{"as NixOS has it", "", "", []string{boot, debug}, ""},
		{"another entry after some time", "DEFAULT", "ONTIMEOUT boot-debug\nDEFAULT", []string{boot, "* " + debug}, ""},
		{"a start after some time", "DEFAULT", "ONTIMEOUT /evil\nDEFAULT", []string{boot, debug, "* isolinux/isolinux.cfg: default ! it starts /evil"}, ""},
		{"an entry that a menu ends", "  LINUX /k\n", "MENU BEGIN\n  LINUX /k\n",
			[]string{"* " + label + " ! it names no kernel", "* isolinux/isolinux.cfg: linux ! it says linux /k", "* isolinux/isolinux.cfg: append ! it says append init=/n", "* isolinux/isolinux.cfg: initrd ! it says initrd /i", debug}, ""},
		{"an entry that a line between entries ends", "  APPEND init=/n\n", "  menu Separator\n  APPEND init=/n\n",
			[]string{"* " + label + " | /k", "* isolinux/isolinux.cfg: append ! it says append init=/n", "* isolinux/isolinux.cfg: initrd ! it says initrd /i", debug}, ""},
		{"a menu that comes first", "MENU END", "MENU START\nMENU END",
			[]string{boot, debug + " ! it says menu START"}, ""},
		{"another menu instead", "MENU TITLE", "MENU GOTO x\nMENU TITLE", []string{"* isolinux/isolinux.cfg: menu ! it says menu GOTO x", boot, debug}, ""},
		{"a hidden entry", "  LINUX", "  MENU HIDE\n  LINUX", []string{boot + " ! it says menu HIDE", debug}, ""},
		{"on an error", "  LINUX", "  MENU ONERROR /evil\n  LINUX", []string{boot + " ! it says menu ONERROR /evil", debug}, ""},
		{"a menu by default", "MENU BEGIN Options\n", "MENU BEGIN Options\nMENU DEFAULT\n", []string{boot, "* isolinux/isolinux.cfg: menu ! it says menu default", debug}, ""},
		{"a name like a comment", "DEFAULT boot\n", "DEFAULT #e\nLABEL #e\nLINUX /evil\n", []string{"* isolinux/isolinux.cfg: #e | /evil", "isolinux/isolinux.cfg: boot | /k | /i | init=/n", debug}, ""},
		{"a kernel for U-Boot alone", "  LINUX /k", "  FIT /k", []string{"* " + label + " | /i | init=/n ! it says fit /k", debug}, ""},
		{"a form feed before a word", "DEFAULT", "\fONTIMEOUT boot-debug\nDEFAULT", nil, broken},
		{"a tabulator between words", "DEFAULT", "menu\vinclude /evil\nDEFAULT", nil, broken},
		{"a line that ends twice", "DEFAULT boot", "DEFAULT boot\rx", nil, broken},
		{"more after a zero byte", "MENU END\n", "MENU END\n\x00\nLABEL evil\nMENU DEFAULT\nLINUX /evil\n", nil, broken},
		{"more after a long line", "DEFAULT", "#" + strings.Repeat("x", 4094) + "ONTIMEOUT boot-debug\nDEFAULT", nil, broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			menu := strings.Replace(mediumMenu, test.old, test.by, 1)
			entries, problems := ReadMedium(mapDir{"isolinux/isolinux.cfg": menu}, 0, nil)
			if diff := cmp.Diff(test.want, show(entries)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			problem := ""
			if len(problems) > 0 {
				problem = problems[0].Err.Error()
			}
			if problem != test.problem {
				t.Errorf("%q, want %q", problem, test.problem)
			}
		})
	}
}

// Each menu that a loader may take is read, and one that has two names once.
func TestMediumFiles(t *testing.T) {
	const grub = "menuentry x {\n linux /k init=/n\n}\n"
	for _, test := range []struct {
		name string
		dir  mapDir
		efi  Dir
		want []string
	}{
		{"SYSLINUX looks in boot first", mapDir{"isolinux/isolinux.cfg": mediumMenu, "boot/isolinux/isolinux.cfg": mediumMenu}, nil, []string{"boot/isolinux/isolinux.cfg", "isolinux/isolinux.cfg"}},
		{"two of GRUB", mapDir{"EFI/BOOT/grub.cfg": grub, "EFI/boot/grub.cfg": grub + "# "}, nil, []string{"EFI/BOOT/grub.cfg", "EFI/boot/grub.cfg"}},
		{"one with two names", mapDir{"EFI/BOOT/grub.cfg": grub, "EFI/boot/grub.cfg": grub}, nil, []string{"EFI/BOOT/grub.cfg"}},
		{"a copy for UEFI", mapDir{"EFI/BOOT/grub.cfg": grub}, mapDir{"EFI/BOOT/grub.cfg": grub}, []string{"EFI/BOOT/grub.cfg"}},
		{"another for UEFI", mapDir{"EFI/BOOT/grub.cfg": grub}, mapDir{"EFI/BOOT/grub.cfg": grub + "# "}, []string{"EFI/BOOT/grub.cfg", "boot/efi.img/EFI/BOOT/grub.cfg"}},
		{"one for UEFI alone", mapDir{}, mapDir{"EFI/BOOT/grub.cfg": grub}, []string{"boot/efi.img/EFI/BOOT/grub.cfg"}},
	} {
		entries, _ := ReadMedium(test.dir, 0, test.efi)
		var files []string
		for i := range entries {
			files = append(files, entries[i].File)
		}
		slices.Sort(files)
		if diff := cmp.Diff(test.want, slices.Compact(files)); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.name, diff)
		}
	}
}

// An entry of a medium starts what the medium has, and nothing of another disk that the
// menu has GRUB look at.
func TestMediumElsewhere(t *testing.T) {
	const (
		search = "search --set=root --file /EFI/nixos-installer-image\n"
		entry  = "menuentry x {\n linux /k ${isoboot} init=/n\n initrd /i\n}\n"
		refind = "if [ \"$root\" != cd0 ]; then\n menuentry r {\n  # the FAT\n  search --set=root --no-floppy --fs-uuid 1234-5678\n  chainloader ($root)/r.efi\n }\nfi\n"
		disk   = " of the menu may have its files read from another disk"
	)
	for _, test := range []struct {
		name, menu string
		efi        mapDir
		want       string
	}{
		{"as NixOS has it", search + entry + refind, mapDir{}, ""},
		{"another file to look for", "search --set=root --file /evil\n" + entry, mapDir{}, "the command search --set=root --file /evil" + disk},
		{"another file after that", search + "search.file /evil root\n" + entry, mapDir{}, "the command search.file /evil root" + disk},
		{"another disk", search + "set root=(hd1)\n" + entry, mapDir{}, "the command set root=(hd1)" + disk},
		{"another disk in the entry", search + strings.Replace(entry, " linux", " root='hd1,gpt2'\n linux", 1), mapDir{}, "the command root=hd1,gpt2" + disk},
		{"a name that is computed", search + "set x=root; set $x=hd1\n" + entry, mapDir{}, "the command set $x=hd1" + disk},
		{"another disk by a part of a text", search + "regexp --set=1:root (.*) hd1\n" + strings.Replace(entry, "${isoboot} ", "", 1), mapDir{}, "the command regexp --set=1:root (.*) hd1" + disk},
		{"variables of a file", search + "load_env -f /evil\n" + entry, mapDir{}, "the command load_env -f /evil" + disk},
		{"the FAT, for NixOS", search + strings.Replace(entry, " linux", " search --set=root --no-floppy --fs-uuid 1234-5678\n linux", 1), mapDir{}, "the command search --set=root --no-floppy --fs-uuid 1234-5678" + disk},
		{"the marker in the FAT", search + entry, mapDir{"EFI/nixos-installer-image": ""}, "GRUB may read its files from boot/efi.img, which has EFI/nixos-installer-image too"},
		{"a kernel in the FAT", search + entry, mapDir{"k": "evil"}, "GRUB may read its files from boot/efi.img, which has /k too"},
		{"an initrd in the FAT", search + entry, mapDir{"i": "evil"}, "GRUB may read its files from boot/efi.img, which has /i too"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.efi["EFI/BOOT/grub.cfg"] = test.menu
			entries, problems := ReadMedium(mapDir{}, 3, test.efi)
			// What is also a fault in any other menu comes before it.
			entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Title != "x" })
			if len(entries) == 0 || len(problems) > 0 || entries[0].Title != "x" || entries[0].Options != "init=/n" || entries[0].Dir != 3 || entries[0].Foreign != test.want {
				t.Errorf("%+v, want %q; %v", entries, test.want, problems)
			}
		})
	}
}
