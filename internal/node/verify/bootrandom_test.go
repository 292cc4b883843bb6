package verify

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/tests/efiimage"
)

// bootFile is a file of /boot, as a test that plants something has it.
type bootFile struct {
	m    *twoSystems
	r    *rand.Rand
	name string // below /boot
}

// flip changes one byte.
func (f *bootFile) flip() {
	data := []byte(f.m.read("/boot/" + f.name))
	data[f.r.IntN(len(data))] ^= byte(1 + f.r.IntN(255))
	f.m.write("/boot/"+f.name, string(data))
}

// edit replaces one of the places that have old.
func (f *bootFile) edit(old, by string) {
	parts := strings.Split(f.m.read("/boot/"+f.name), old)
	if len(parts) == 1 {
		f.m.t.Fatalf("%s has no %q", f.name, old)
	}
	n := 1 + f.r.IntN(len(parts)-1)
	f.m.write("/boot/"+f.name, strings.Join(parts[:n], old)+by+strings.Join(parts[n:], old))
}

// TestBootFilesRandom: what is planted anywhere in the boot files of a layout is found,
// with its cause, and named.
func TestBootFilesRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	stranger := object("z", "nixos-system-stranger")
	type class struct {
		name string
		do   func(f *bootFile)
		want report.Cause
	}
	file := func(pattern string, do func(*bootFile)) func(*bootFile) {
		return func(f *bootFile) {
			names, err := filepath.Glob(f.m.root + "/boot/" + pattern)
			if err != nil || len(names) == 0 {
				f.m.t.Fatalf("no file %s: %v", pattern, err)
			}
			f.name = strings.TrimPrefix(names[f.r.IntN(len(names))], f.m.root+"/boot/")
			do(f)
		}
	}
	// What goes wrong with every loader, by where it keeps what.
	classes := func(kernel, initrd, entries string, starts func(*bootFile)) []class {
		return []class{
			{"a byte in the kernel", file(kernel, (*bootFile).flip), report.BootAltered},
			{"a byte in the initrd", file(initrd, (*bootFile).flip), report.BootAltered},
			{"the kernel is longer", file(kernel, func(f *bootFile) { f.m.write("/boot/"+f.name, f.m.read("/boot/"+f.name)+"x") }), report.BootAltered},
			{"no initrd", file(initrd, func(f *bootFile) { f.m.remove("/boot/" + f.name) }), report.BootAltered},
			{"init= of a stranger", file(entries, func(f *bootFile) { f.edit(string(top)+"/init", string(stranger)+"/init") }), report.OtherEntry},
			{"init= that is no system's", file(entries, func(f *bootFile) { f.edit(string(top)+"/init", "/evil") }), report.OtherEntry},
			{"another option", file(entries, func(f *bootFile) { f.edit("loglevel=4", fmt.Sprintf("loglevel=%d", 5+f.r.IntN(3))) }), report.BootAltered},
			{"a further option", file(entries, func(f *bootFile) { f.edit("loglevel=4", "loglevel=4 rd.break") }), report.BootAltered},
			{"another kernel", file(entries, starts), report.BootAltered},
			{"a link for the kernel", file(kernel, func(f *bootFile) { f.m.link("/boot/"+f.name, string(kernelPath)+"/bzImage") }), report.BootUnchecked},
		}
	}
	evil := func(old, by string) func(*bootFile) {
		return func(f *bootFile) {
			f.m.write("/boot/"+strings.TrimPrefix(by, "../"), "evil")
			f.edit(old, by)
		}
	}
	// An entry that is higher in the order, or is the default.
	higher := func(f *bootFile) {
		f.m.write("/boot/loader/entries/nixos-higher.conf", fmt.Sprintf("title NixOS\nsort-key a\nversion 1\nlinux /EFI/nixos/%s\noptions init=%s/init\n", bootName(kernelPath, "bzImage.efi"), stranger))
		f.m.write("/boot/loader/loader.conf", "timeout 5\n")
	}
	typed := "loader/entries/nixos-generation-2.conf"
	counted := classes("EFI/nixos/*bzImage.efi", "EFI/nixos/*initrd.efi", "loader/entries/*", evil("/EFI/nixos/"+bootName(kernelPath, "bzImage.efi"), "/EFI/nixos/evil.efi"))
	counted = slices.DeleteFunc(counted, func(c class) bool { return strings.HasPrefix(c.name, "init=") || strings.Contains(c.name, "option") })
	for _, layout := range []struct {
		name    string
		lay     func(*twoSystems)
		classes []class
	}{
		{"systemd-boot", (*twoSystems).systemdBoot, append(
			classes("EFI/nixos/*bzImage.efi", "EFI/nixos/*initrd.efi", typed, evil("/EFI/nixos/"+bootName(kernelPath, "bzImage.efi"), "/EFI/nixos/evil.efi")),
			class{"another default", file("loader/loader.conf", func(f *bootFile) { f.edit("generation-2", "generation-1") }), report.PendingReboot},
			class{"a higher entry", higher, report.OtherEntry},
			class{"a loader", file("EFI/*/*.[eE][fF][iI]", func(f *bootFile) {
				if strings.HasPrefix(f.name, "EFI/nixos/") {
					f.name = "EFI/BOOT/BOOTX64.EFI"
				}
				f.flip()
			}), report.LoaderUnknown},
		)},
		{"systemd-boot that counts", (*twoSystems).counted, append(counted,
			class{"another is preferred", file("loader/loader.conf", func(f *bootFile) {
				f.edit(strings.TrimSuffix(filepath.Base(f.m.entryOf(top)), "+3.conf"), strings.TrimSuffix(filepath.Base(f.m.entryOf(nextTop)), "+3.conf"))
			}), report.PendingReboot},
			class{"a higher entry", higher, report.OtherEntry},
			class{"its tries are used up", func(f *bootFile) {
				name := f.m.entryOf(top)
				f.m.write(strings.Replace(name, "+3", "+0-3", 1), f.m.read(name))
				f.m.remove(name)
			}, report.PendingReboot},
		)},
		{"systemd-boot with images", (*twoSystems).unified, []class{
			{"a byte in a kernel", imagePart(".linux", (*bootFile).flipIn), report.BootAltered},
			{"a byte in an initrd", imagePart(".initrd", (*bootFile).flipIn), report.BootAltered},
			{"a byte in an os-release", imagePart(".osrel", (*bootFile).flipIn), report.BootAltered},
			{"a byte in a stub", imagePart(".text", (*bootFile).flipIn), report.LoaderUnknown},
			{"another option", file("EFI/nixos/*-uki.efi", func(f *bootFile) { f.edit("loglevel=4", "loglevel=7") }), report.BootAltered},
			{"the image of the other", func(f *bootFile) {
				images := f.images()
				if !strings.Contains(f.m.read("/boot/"+images[0]), "init="+string(top)+"/init") {
					slices.Reverse(images)
				}
				f.m.write("/boot/"+images[0], f.m.read("/boot/"+images[1]))
			}, report.PendingReboot},
			{"a section more", func(f *bootFile) {
				f.m.write("/boot/EFI/nixos/x-uki.efi", f.m.image(generations()[0], efiimage.Section{Name: ".ucode", Data: []byte("x")}))
				f.m.write("/boot/loader/entries/nixos-x.conf", "title x\nversion 0\nuki /EFI/nixos/x-uki.efi\n")
			}, report.BootAltered},
			{"a link for an image", file("EFI/nixos/*-uki.efi", func(f *bootFile) {
				text := f.m.read("/boot/" + f.name)
				f.m.write("/boot/elsewhere", text)
				f.m.link("/boot/"+f.name, "../../elsewhere")
			}), report.LiveUnknown},
		}},
		{"GRUB", (*twoSystems).grub, append(
			classes("kernels/*bzImage", "kernels/*initrd", "grub/grub.cfg", evil("//kernels/"+bootName(kernelPath, "bzImage"), "//kernels/evil")),
			class{"another default", file("grub/grub.cfg", func(f *bootFile) { f.edit("set default=0", "set default='1>1'") }), report.PendingReboot},
			class{"once another", func(f *bootFile) {
				f.m.write("/boot/grub/grubenv", "# GRUB Environment Block\nnext_entry=1>1\n")
			}, report.PendingReboot},
			class{"a higher entry", file("grub/grub.cfg", func(f *bootFile) {
				f.edit("menuentry \"NixOS\"", "menuentry evil {\nlinux ($drive1)//kernels/"+bootName(kernelPath, "bzImage")+" init="+string(stranger)+"/init\n}\nmenuentry \"NixOS\"")
			}), report.OtherEntry},
			class{"a module", file("grub/i386-pc/*", (*bootFile).flip), report.LoaderUnknown},
		)},
		{"extlinux", (*twoSystems).extlinux, append(
			classes("nixos/*bzImage", "nixos/*initrd", "extlinux/extlinux.conf", evil("../nixos/"+bootName(kernelPath, "bzImage"), "../nixos/evil")),
			class{"another default", file("extlinux/extlinux.conf", func(f *bootFile) { f.edit("DEFAULT nixos-default", "DEFAULT nixos-1-default") }), report.PendingReboot},
			class{"a higher entry", file("extlinux/extlinux.conf", func(f *bootFile) {
				f.edit("\nLABEL nixos-default\n", "\nLABEL nixos-default\n  LINUX ../nixos/"+bootName(kernelPath, "bzImage")+"\n  APPEND init="+string(stranger)+"/init\nLABEL nixos-default\n")
			}), report.OtherEntry},
			class{"a byte in a device tree", file("nixos/*-dtbs/acme/*", (*bootFile).flip), report.BootAltered},
		)},
	} {
		t.Run(layout.name, func(t *testing.T) {
			m := newBootable(t)
			m.t = t
			m.write(string(stranger)+"/init", "evil")
			for _, c := range layout.classes {
				m.remove("/boot")
				layout.lay(m)
				before := m.runMenu(t.Context())
				if v := before.Verdict(); v != report.Verified || len(before.Findings) > 0 && c.want != report.LoaderUnknown {
					t.Fatalf("before anything is planted: %s %+v", v, before.Findings)
				}
				c.do(&bootFile{m: m, r: r})
				after := m.runMenu(t.Context())
				if !slices.ContainsFunc(after.Findings, func(f report.Finding) bool { return f.Cause == c.want && strings.HasPrefix(f.Path, "/boot/") }) {
					t.Errorf("%s: %s, and not %s: %+v", c.name, after.Verdict(), c.want, after.Findings)
				}
			}
		})
	}
}

// images returns the unified kernel images.
func (f *bootFile) images() []string {
	names, err := filepath.Glob(f.m.root + "/boot/EFI/nixos/*-uki.efi")
	if err != nil || len(names) != 2 {
		f.m.t.Fatalf("the images %q: %v", names, err)
	}
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], f.m.root+"/boot/")
	}
	return names
}

// imagePart does something to a section of one of the images.
func imagePart(part string, do func(*bootFile, string)) func(*bootFile) {
	return func(f *bootFile) {
		f.name = f.images()[f.r.IntN(2)]
		do(f, part)
	}
}

// flipIn changes one byte of a section.
func (f *bootFile) flipIn(part string) {
	text := f.m.read("/boot/" + f.name)
	offset, size := efiimage.Place([]byte(text), part)
	data := []byte(text)
	data[offset+f.r.IntN(size)] ^= byte(1 + f.r.IntN(255))
	f.m.write("/boot/"+f.name, string(data))
}
