package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/tests/bootlayouts"
	"every.channel/ec-verify/internal/tests/efiimage"
	"every.channel/ec-verify/pkg/closure"
)

var (
	kernelPath, initrdPath = object("k", "linux-6.12"), object("j", "initrd-linux")
	systemdPath, grubPath  = object("s", "systemd-260"), object("g", "grub-2.12")
	syslinuxPath           = object("p", "syslinux-6.04")
	firmwarePath           = object("f", "raspberrypi-firmware-1.2026")
	// stub is what unified kernel images are made of.
	stub = efiimage.Make(efiimage.Section{Name: ".text", Data: []byte("stub")}, efiimage.Section{Name: ".sbat", Data: []byte("sbat")})
)

const loaderDir = "/lib/systemd/boot/efi"

// newBootable is a machine with two systems that have kernels, as NixOS lays them out.
func newBootable(t *testing.T) *twoSystems {
	t.Helper()
	m := newTwoSystems(t)
	m.write(string(kernelPath)+"/bzImage", strings.Repeat("kernel", 100_000))
	m.write(string(kernelPath)+"/dtbs/acme/board.dtb", "a device tree")
	m.write(string(initrdPath)+"/initrd", "initrd")
	m.write(string(systemdPath)+loaderDir+"/systemd-bootx64.efi", "MZ, systemd-boot")
	m.write(string(systemdPath)+loaderDir+"/linuxx64.efi.stub", string(stub))
	m.write(string(syslinuxPath)+"/share/syslinux/vesamenu.c32", "a menu")
	m.write(string(firmwarePath)+"/share/raspberrypi/boot/start4.elf", "a part of the firmware")
	m.write(string(firmwarePath)+"/share/raspberrypi/boot/overlays/disable-bt.dtbo", "an overlay")
	for name, text := range grubModules {
		m.write(string(grubPath)+"/lib/grub/i386-pc/"+name, text)
	}
	shared := []closure.PathInfo{
		m.manifest.Paths[0], m.manifest.Paths[1], m.manifest.Paths[2],
		m.info(kernelPath), m.info(initrdPath), m.info(systemdPath), m.info(grubPath), m.info(syslinuxPath), m.info(firmwarePath),
	}
	build := func(manifest *closure.Manifest, own ...closure.PathInfo) {
		p := manifest.Toplevel.OutPath
		m.link(string(p)+"/kernel", string(kernelPath)+"/bzImage")
		m.link(string(p)+"/initrd", string(initrdPath)+"/initrd")
		m.link(string(p)+"/dtbs", string(kernelPath)+"/dtbs")
		m.write(string(p)+"/kernel-params", params(p))
		m.write(string(p)+"/nixos-version", "26.05")
		m.write(string(p)+"/etc/os-release", osRelease(p))
		m.write(string(p)+"/boot.json", bootJSON(p))
		refs := []closure.StorePath{lib, src, kernelPath, initrdPath, systemdPath, grubPath, syslinuxPath, firmwarePath}
		for _, info := range own {
			refs = append(refs, info.Path)
		}
		slices.Sort(refs)
		manifest.Paths = append(append(slices.Clone(shared), own...), m.info(p, refs...))
		slices.SortFunc(manifest.Paths, func(a, b closure.PathInfo) int { return strings.Compare(string(a.Path), string(b.Path)) })
	}
	build(m.manifest)
	build(m.next, m.info(tool))
	was := m.manifest
	m.files = nil
	m.publish(testTag)
	m.manifest = m.next
	m.publish(nextTag)
	m.manifest = was
	m.remove("/nix/var/nix/db")
	all := slices.Clone(m.manifest.Paths)
	for _, info := range m.next.Paths {
		if !slices.ContainsFunc(all, func(has closure.PathInfo) bool { return has.Path == info.Path }) {
			all = append(all, info)
		}
	}
	m.register(all...)
	return m
}

func TestBootFiles(t *testing.T) {
	sd := func(p closure.StorePath, rest string) string { return "/boot/EFI/nixos/" + bootName(p, rest) }
	const entry = "/boot/loader/entries/nixos-generation-2.conf"
	const (
		isolinux, isoGrub = "/iso/isolinux/isolinux.cfg", "/iso/EFI/BOOT/grub.cfg"
		refind            = "unaccepted-entry " + isoGrub + ": rEFInd"
		installer         = "NixOS 26.05 (Linux 6.12) Installer"
	)
	ofEachEntry := func(before, after string) (out []string) {
		out = append(out, before+isoGrub+": "+installer+after)
		for _, o := range bootlayouts.ISOOptions() {
			out = append(out, before+isoGrub+": Options > "+o+" > "+installer+after)
		}
		slices.Sort(out)
		return out
	}
	replace := func(m *twoSystems, name, old, by string) {
		m.write(name, strings.Replace(m.read(name), old, by, 1))
	}
	for _, test := range []struct {
		name     string
		layout   func(m *twoSystems)
		do       func(m *twoSystems)
		verdict  report.Verdict
		findings []string
	}{
		{"systemd-boot", (*twoSystems).systemdBoot, nil, report.Verified, nil},
		{"GRUB", (*twoSystems).grub, nil, report.Verified, nil},
		{"extlinux", (*twoSystems).extlinux, nil, report.Verified, nil},
		{"boots are counted", (*twoSystems).counted, nil, report.Verified, nil},
		{"unified kernel images", (*twoSystems).unified, nil, report.Verified, nil},
		{"a medium", (*twoSystems).iso, nil, report.Verified, []string{refind}},
		{"a medium, booted by UEFI", (*twoSystems).iso, func(m *twoSystems) {
			m.line = "BOOT_IMAGE=/boot/" + string(kernelPath) + "/bzImage init=" + string(top) + "/init " + params(top) + "\n"
		}, report.Verified, []string{refind}},
		{"a medium, booted by a BIOS and another entry", (*twoSystems).iso, func(m *twoSystems) {
			m.line = "BOOT_IMAGE=/boot/" + string(kernelPath) + "/bzImage init=" + string(top) + "/init " + params(top) + " copytoram initrd=/boot/" + string(initrdPath) + "/initrd\n"
		}, report.Verified, []string{refind}},
		{"a medium, booted as no entry says", (*twoSystems).iso, func(m *twoSystems) {
			m.line = "init=" + string(top) + "/init " + params(top) + " copytoram nomodeset\n"
		}, report.Drifted, []string{"command-line-altered /proc/cmdline options", refind}},
		{"a byte in the kernel of a medium", (*twoSystems).iso, func(m *twoSystems) { replace(m, "/iso/boot"+string(kernelPath)+"/bzImage", "kernel", "Kernel") },
			report.Drifted, []string{"boot-altered /iso/boot" + string(kernelPath) + "/bzImage kernel", refind}},
		{"more behind the initrd of a medium", (*twoSystems).iso, func(m *twoSystems) { m.write("/iso/boot"+string(initrdPath)+"/initrd", "initrd, and evil") },
			report.Drifted, []string{"boot-altered /iso/boot" + string(initrdPath) + "/initrd initrd", refind}},
		{"no kernel on a medium", (*twoSystems).iso, func(m *twoSystems) { m.remove("/iso/boot" + string(kernelPath)) },
			report.Drifted, []string{"boot-altered /iso/boot" + string(kernelPath) + "/bzImage kernel", refind}},
		{"another option on a medium, BIOS", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, params(top), params(top)+" rd.break") },
			report.Drifted, []string{"boot-altered " + isolinux + ": boot options", refind}},
		{"another option on a medium, UEFI", (*twoSystems).iso, func(m *twoSystems) { replace(m, isoGrub, params(top), params(top)+" rd.break") },
			report.Drifted, []string{"boot-altered " + isoGrub + ": " + installer + " options", refind}},
		{"what another entry may have, where nobody chooses", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, params(top), params(top)+" copytoram") },
			report.Drifted, []string{"boot-altered " + isolinux + ": boot options", refind}},
		{"init= of a medium", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, "init=", "init=/evil init=/evil #") },
			report.Drifted, []string{"other-entry " + isolinux + ": boot", refind}},
		{"an option by the variable of a medium", (*twoSystems).iso, func(m *twoSystems) {
			replace(m, isoGrub, "findiso=${iso_path}", "rd.break")
		}, report.Drifted, append(ofEachEntry("boot-altered ", " options"), refind)},
		{"where the image is, said by the medium", (*twoSystems).iso, func(m *twoSystems) {
			replace(m, isoGrub, "set timeout=10", "set timeout=10; iso_path=/evil.iso")
		}, report.Drifted, append(ofEachEntry("boot-altered ", " options"), refind)},
		{"a command that may give the variable a value", (*twoSystems).iso, func(m *twoSystems) {
			replace(m, isoGrub, "set timeout=10", "set timeout=10\nregexp --set=1:isoboot (.*) rd.break")
		}, report.Unsettled, append(ofEachEntry("boot-unchecked ", ""), refind)},
		{"a name that is computed", (*twoSystems).iso, func(m *twoSystems) {
			replace(m, isoGrub, "set timeout=10", "set x=iso; set ${x}boot=rd.break")
		}, report.Drifted, slices.Concat([]string{"other-entry " + isoGrub + ": set"}, ofEachEntry("boot-unchecked ", ""), []string{refind})},
		{"a start outside of the entries of a medium", (*twoSystems).iso, func(m *twoSystems) {
			replace(m, isoGrub, "terminal_output console\n}", "linux /evil init=/evil\n  boot\n}")
		}, report.Drifted, []string{"other-entry " + isoGrub + ": boot", "other-entry " + isoGrub + ": linux", refind}},
		{"another menu program on a medium", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, "vesamenu.c32", "evil.c32") },
			report.Drifted, []string{"other-entry " + isolinux + ": ui", refind}},
		{"a program in an entry of a medium", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, "  INITRD", "  COM32 evil.c32\n  INITRD") },
			report.Unsettled, []string{"boot-unchecked " + isolinux + ": boot", refind}},
		{"a command by default on a medium", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, "DEFAULT boot", "DEFAULT /evil rd.break") },
			report.Drifted, []string{"other-entry " + isolinux + ": default", refind}},
		{"a further file of settings on a medium", (*twoSystems).iso, func(m *twoSystems) { replace(m, isolinux, "DEFAULT boot", "DEFAULT boot\nINCLUDE /evil") },
			report.Drifted, []string{"other-entry " + isolinux + ": include", refind}},
		{"the menu program of a medium altered", (*twoSystems).iso, func(m *twoSystems) {
			m.write("/iso/isolinux/vesamenu.c32", "evil")
			m.write("/iso/isolinux/isolinux.bin", "made for the medium")
		}, report.Verified, []string{"loader-unknown /iso/isolinux", refind}},
		{"a part of SYSLINUX where it looks first", (*twoSystems).iso, func(m *twoSystems) { m.write("/iso/boot/isolinux/ldlinux.c32", "evil") },
			report.Verified, []string{"loader-unknown /iso/boot/isolinux", refind}},
		{"a menu that can't be read on a medium", (*twoSystems).iso, func(m *twoSystems) { m.remove(isoGrub); m.link(isoGrub, "/etc/passwd") },
			report.Unsettled, []string{"live-unknown " + isoGrub}},
		{"a byte in the kernel", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, sd(kernelPath, "bzImage.efi"), "kernel", "Kernel")
		}, report.Drifted, []string{"boot-altered " + sd(kernelPath, "bzImage.efi") + " kernel"}},
		{"the kernel is cut off", (*twoSystems).systemdBoot, func(m *twoSystems) { m.write(sd(kernelPath, "bzImage.efi"), "kernel") },
			report.Drifted, []string{"boot-altered " + sd(kernelPath, "bzImage.efi") + " kernel"}},
		{"more behind the initrd", (*twoSystems).systemdBoot, func(m *twoSystems) { m.write(sd(initrdPath, "initrd.efi"), "initrd, and evil") },
			report.Drifted, []string{"boot-altered " + sd(initrdPath, "initrd.efi") + " initrd"}},
		{"no initrd", (*twoSystems).systemdBoot, func(m *twoSystems) { m.remove(sd(initrdPath, "initrd.efi")) },
			report.Drifted, []string{"boot-altered " + sd(initrdPath, "initrd.efi") + " initrd"}},
		{"a link for the initrd", (*twoSystems).systemdBoot, func(m *twoSystems) { m.link(sd(initrdPath, "initrd.efi"), string(initrdPath)+"/initrd") },
			report.Unsettled, []string{"boot-unchecked " + sd(initrdPath, "initrd.efi") + " initrd"}},
		{"another option", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, "/boot/loader/entries/nixos-generation-2.conf", "loglevel=4", "loglevel=4 rd.break")
		}, report.Drifted, []string{"boot-altered /boot/loader/entries/nixos-generation-2.conf options"}},
		{"a second initrd", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, "/boot/loader/entries/nixos-generation-2.conf", "options", "initrd /evil\noptions")
		}, report.Drifted, []string{"boot-altered /boot/loader/entries/nixos-generation-2.conf initrd"}},
		{"a device tree that no system has", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, "/boot/loader/entries/nixos-generation-2.conf", "options", "devicetree /evil.dtb\noptions")
		}, report.Drifted, []string{"boot-altered /boot/loader/entries/nixos-generation-2.conf devicetree"}},
		{"the kernel of another", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/nixos/evil.efi", "evil")
			replace(m, "/boot/loader/entries/nixos-generation-1.conf", bootName(kernelPath, "bzImage.efi"), "evil.efi")
		}, report.Drifted, []string{"boot-altered /boot/EFI/nixos/evil.efi kernel"}},
		{"init= of the other system", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, "/boot/loader/entries/nixos-generation-1.conf", string(nextTop), string(top))
		}, report.Drifted, []string{"boot-altered /boot/loader/entries/nixos-generation-1.conf options"}},
		{"booted so", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.line = `initrd=\EFI\nixos\i.efi init=` + string(top) + "/init loglevel=4 " + top.Name() + "\n"
		}, report.Verified, nil},
		{"booted with another option", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.line = "init=" + string(top) + "/init loglevel=4 " + top.Name() + " rd.break\n"
		}, report.Drifted, []string{"command-line-altered /proc/cmdline options"}},
		{"booted before an entry was altered", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.line = "init=" + string(top) + "/init loglevel=4 " + top.Name() + "\n"
			replace(m, "/boot/loader/entries/nixos-generation-2.conf", "loglevel=4", "loglevel=4 rd.break")
		}, report.Drifted, []string{"boot-altered /boot/loader/entries/nixos-generation-2.conf options"}},
		{"a loader of nobody", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/systemd/systemd-bootx64.efi", "MZ, and evil")
		}, report.Verified, []string{"loader-unknown /boot/EFI/systemd/systemd-bootx64.efi"}},
		{"a driver of nobody", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/systemd/drivers/evilx64.efi", "MZ, and evil")
		}, report.Verified, []string{"loader-unknown /boot/EFI/systemd/drivers/evilx64.efi"}},
		{"a loader of nobody among many files", (*twoSystems).systemdBoot, func(m *twoSystems) {
			for i := range 1001 {
				m.write(fmt.Sprintf("/boot/EFI/BOOT/%d", i), "")
			}
			m.write("/boot/EFI/BOOT/BOOTX64.EFI", "MZ, and evil")
		}, report.Unsettled, []string{"boot-unchecked /boot/EFI/BOOT"}},
		{"no directory of loaders", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.remove("/boot/EFI/BOOT")
			m.write("/boot/EFI/BOOT", "")
		}, report.Verified, nil},
		{"another start of the same entry, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			replace(m, "/boot/grub/grub.cfg", "set default=0", "set default=0; linux /evil init=/evil; boot")
		}, report.Drifted, []string{"other-entry /boot/grub/grub.cfg: boot", "other-entry /boot/grub/grub.cfg: linux"}},
		{"another start within an entry, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			replace(m, "/boot/grub/grub.cfg", "initrd (", "initrd /evil; 'linux' /evil; boot\n  initrd (")
		}, report.Drifted, []string{"other-entry /boot/grub/grub.cfg: NixOS"}},
		{"a byte in the kernel, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			replace(m, "/boot/kernels/"+bootName(kernelPath, "bzImage"), "kernel", "Kernel")
		}, report.Drifted, []string{"boot-altered /boot/kernels/" + bootName(kernelPath, "bzImage") + " kernel"}},
		{"the kernel lies elsewhere, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			replace(m, "/boot/grub/grub.cfg", "($drive1)//kernels/", "($drive1)/evil/kernels/")
		}, report.Unsettled, []string{"boot-unchecked /boot/grub/grub.cfg: NixOS kernel"}},
		{"the kernel in the store, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			m.write("/boot/grub/grub.cfg", strings.ReplaceAll(m.read("/boot/grub/grub.cfg"), "//kernels/"+bootName(kernelPath, "bzImage"), string(kernelPath)+"/bzImage"))
		}, report.Verified, nil},
		{"another kernel in the store, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			replace(m, "/boot/grub/grub.cfg", "//kernels/"+bootName(kernelPath, "bzImage"), string(kernelPath)+"/evil")
		}, report.Drifted, []string{"boot-altered /boot/grub/grub.cfg: NixOS kernel"}},
		{"a name in quotes, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			name := bootName(kernelPath, "bzImage")
			m.write("/boot/kernels/'"+name+"'", m.read("/boot/kernels/"+name))
			m.write("/boot/kernels/"+name, "evil")
			m.write("/boot/grub/grub.cfg", strings.ReplaceAll(m.read("/boot/grub/grub.cfg"), "kernels/"+name, "kernels/'"+name+"'"))
		}, report.Unsettled, []string{"boot-unchecked /boot/grub/grub.cfg: NixOS kernel", "boot-unchecked /boot/grub/grub.cfg: NixOS - All configurations > NixOS - Configuration 1 (2026-02-28 - 26.05) kernel", "boot-unchecked /boot/grub/grub.cfg: NixOS - All configurations > NixOS - Configuration 2 (2026-02-28 - 26.05) kernel"}},
		{"the name of a variable, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			name := bootName(kernelPath, "bzImage")
			m.write("/boot/kernels/${x}", m.read("/boot/kernels/"+name))
			replace(m, "/boot/grub/grub.cfg", "kernels/"+name, "kernels/${x}")
		}, report.Unsettled, []string{"boot-unchecked /boot/grub/grub.cfg: NixOS kernel"}},
		{"behind a link, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			m.write("/boot/evil/there/x", "")
			m.write("/boot/evil/"+bootName(kernelPath, "bzImage"), "evil")
			m.link("/boot/kernels/l", "../evil/there")
			replace(m, "/boot/grub/grub.cfg", "kernels/"+bootName(kernelPath, "bzImage"), "kernels/l/../"+bootName(kernelPath, "bzImage"))
		}, report.Unsettled, []string{"boot-unchecked /boot/grub/grub.cfg: NixOS kernel"}},
		{"an initrd that is named first, extlinux", (*twoSystems).extlinux, func(m *twoSystems) {
			replace(m, "/boot/extlinux/extlinux.conf", "  INITRD", "  INITRD /evil\n  INITRD")
		}, report.Unsettled, []string{"boot-unchecked /boot/extlinux/extlinux.conf: nixos-default"}},
		{"a menu that U-Boot finds first", (*twoSystems).extlinux, func(m *twoSystems) {
			m.write("/extlinux/extlinux.conf", "LABEL x\n  LINUX /evil\n  APPEND init=/evil\n")
		}, report.Drifted, []string{"other-entry /extlinux/extlinux.conf: x"}},
		{"a script that U-Boot finds first", (*twoSystems).extlinux, func(m *twoSystems) { m.write("/boot.scr", "evil") },
			report.Drifted, []string{"other-entry /boot.scr"}},
		{"a script that U-Boot does not come to", (*twoSystems).extlinux, func(m *twoSystems) { m.write("/boot/boot.scr", "evil") }, report.Verified, nil},
		{"a blank that is none", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, entry, "loglevel=4 ", "loglevel=4\u00a0")
		}, report.Drifted, []string{"boot-altered " + entry + " options"}},
		{"a line behind a carriage return", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, entry, "machine-id", "# built by NixOS\rlinux /EFI/nixos/evil.efi\nmachine-id")
		}, report.Drifted, []string{"boot-altered /boot/EFI/nixos/evil.efi kernel"}},
		{"a byte in a device tree, extlinux", (*twoSystems).extlinux, func(m *twoSystems) {
			m.write("/boot/nixos/"+bootName(kernelPath, "dtbs")+"/acme/board.dtb", "A device tree")
		}, report.Drifted, []string{"boot-altered /boot/nixos/" + bootName(kernelPath, "dtbs") + "/acme/board.dtb devicetree"}},
		{"a further device tree, extlinux", (*twoSystems).extlinux, func(m *twoSystems) {
			m.write("/boot/nixos/"+bootName(kernelPath, "dtbs")+"/acme/evil.dtb", "evil")
		}, report.Drifted, []string{"boot-altered /boot/nixos/" + bootName(kernelPath, "dtbs") + "/acme/evil.dtb devicetree"}},
		{"a module of nobody, GRUB", (*twoSystems).grub, func(m *twoSystems) {
			m.write("/boot/grub/i386-pc/linux.mod", "Linux")
			m.write("/boot/grub/i386-pc/core.img", "made for the machine")
			m.write("/boot/EFI/NixOS-boot/grubx64.efi", "MZ, made for the machine")
		}, report.Verified, []string{"loader-unknown /boot/EFI/NixOS-boot/grubx64.efi", "loader-unknown /boot/grub/i386-pc"}},
		{"an initrd that the machine makes", (*twoSystems).systemdBoot, func(m *twoSystems) {
			replace(m, entry, "options", "initrd /EFI/extra.efi\noptions")
			replace(m, string(top)+"/boot.json", "{\n", "{ \"org.nixos.extra-initrd.v1\": { \"paths\": [\"EFI/extra.efi\"] },\n")
		}, report.Drifted, []string{"disk-altered " + string(top), "boot-unchecked " + entry + " initrd"}},
		{"an image in EFI/Linux", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", m.image(generations()[0]))
		}, report.Verified, nil},
		{"a byte in the kernel of an image", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", strings.Replace(m.image(generations()[0]), "kernel", "Kernel", 1))
		}, report.Drifted, []string{"boot-altered /boot/EFI/Linux/nixos.efi kernel"}},
		{"a byte in the initrd of an image", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", strings.Replace(m.image(generations()[0]), "\x00initrd\x00", "\x00Initrd\x00", 1))
		}, report.Drifted, []string{"boot-altered /boot/EFI/Linux/nixos.efi initrd"}},
		{"the os-release of an image", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", strings.Replace(m.image(generations()[0]), "ID=nixos", "ID=other", 1))
		}, report.Drifted, []string{"boot-altered /boot/EFI/Linux/nixos.efi .osrel"}},
		{"another option in an image", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", strings.Replace(m.image(generations()[0]), "loglevel=4", "loglevel=7", 1))
		}, report.Drifted, []string{"boot-altered /boot/EFI/Linux/nixos.efi options"}},
		{"a stub of nobody", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", strings.Replace(m.image(generations()[0]), "stub", "Stub", 1))
		}, report.Verified, []string{"loader-unknown /boot/EFI/Linux/nixos.efi stub"}},
		{"a stub that begins elsewhere", (*twoSystems).systemdBoot, func(m *twoSystems) {
			image := []byte(m.image(generations()[0]))
			image[0x40+24+16]++
			m.write("/boot/EFI/Linux/nixos.efi", string(image))
		}, report.Verified, []string{"loader-unknown /boot/EFI/Linux/nixos.efi stub"}},
		{"microcode, a device tree and more in an image", (*twoSystems).systemdBoot, func(m *twoSystems) {
			var more []efiimage.Section
			for _, name := range []string{".ucode", ".dtb", ".dtbauto", ".pcrsig", ".evil"} {
				more = append(more, efiimage.Section{Name: name, Data: []byte("x")})
			}
			m.write("/boot/EFI/Linux/nixos.efi", m.image(generations()[0], more...))
		}, report.Drifted, []string{
			"boot-altered /boot/EFI/Linux/nixos.efi .dtbauto", "boot-altered /boot/EFI/Linux/nixos.efi .ucode",
			"boot-altered /boot/EFI/Linux/nixos.efi devicetree",
			"boot-unchecked /boot/EFI/Linux/nixos.efi .evil", "boot-unchecked /boot/EFI/Linux/nixos.efi .pcrsig",
		}},
		{"an image that ends too early", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos.efi", m.image(generations()[0])[:100_000])
		}, report.Unsettled, []string{"live-unknown /boot/EFI/Linux/nixos.efi"}},
		{"more is laid beside an image", (*twoSystems).systemdBoot, func(m *twoSystems) {
			m.write("/boot/EFI/Linux/nixos+3.efi", m.image(generations()[0]))
			m.write("/boot/EFI/Linux/nixos.efi.extra.d/evil.addon.efi", "MZ")
			m.write("/boot/loader/addons/evil.addon.efi", "MZ")
		}, report.Unsettled, []string{"boot-unchecked /boot/EFI/Linux/nixos.efi.extra.d image", "boot-unchecked /boot/loader/addons image"}},
		{"other options for an image", (*twoSystems).unified, func(m *twoSystems) {
			name := m.entryOf(top)
			m.write(name, m.read(name)+"\noptions init="+string(top)+"/init rd.break")
		}, report.Drifted, []string{"boot-altered ENTRY options"}},
		{"an initrd beside an image", (*twoSystems).unified, func(m *twoSystems) {
			name := m.entryOf(top)
			m.write(name, m.read(name)+"\ninitrd /evil")
		}, report.Drifted, []string{"boot-altered ENTRY image"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newBootable(t)
			test.layout(m)
			if test.do != nil {
				test.do(m)
			}
			r := m.runMenu(t.Context())
			if got := r.Verdict(); got != test.verdict {
				t.Errorf("verdict %s, want %s", got, test.verdict)
			}
			var got []string
			for _, f := range r.Findings {
				got = append(got, strings.ReplaceAll(strings.TrimSpace(strings.Join([]string{string(f.Cause), f.Path, f.Field}, " ")), m.entryOf(top), "ENTRY"))
			}
			if !slices.Equal(got, test.findings) {
				t.Errorf("findings\n\t%q\nwant\n\t%q", got, test.findings)
				for _, f := range r.Findings {
					t.Logf("%+v", f)
				}
			}
		})
	}
}

// However many entries name a file, it is read once, and so is what it is held to; and
// it is read no faster than the policy says.
func TestBootFilesAreReadOnce(t *testing.T) {
	m := newBootable(t)
	m.systemdBoot()
	m.remove("/boot/EFI/BOOT")
	m.remove("/boot/EFI/systemd")
	const kernel, initrd, rate = 600_000, 6, neighbour.MinRate
	for _, altered := range []bool{false, true} {
		progress := new(Progress)
		if altered {
			m.write("/boot/EFI/nixos/"+bootName(kernelPath, "bzImage.efi"), strings.Repeat("Kernel", 100_000))
		}
		m.v.Pacer = neighbour.New(neighbour.Limits{Rate: rate}, nil)
		r := m.v.begin(progress)
		r.tier(t.Context(), tiers()[0])
		r.live.running = top
		begin := time.Now()
		r.tier(t.Context(), tier{name: report.TierLive, check: func(r *run, ctx context.Context, t *report.Tier) error {
			r.checkEntries(ctx, t)
			return nil
		}})
		took := time.Since(begin)
		if got := progress.Snapshot().Boot; got != 2*(kernel+initrd) {
			t.Errorf("%d bytes were read, want %d", got, 2*(kernel+initrd))
		}
		// What may be read at once, after a time without reading, is not waited for.
		if least := time.Second * (2*kernel - 512<<10) / rate; took < least {
			t.Errorf("it took %s, want %s or more", took, least)
		}
		if found := r.report.Counts()[report.Drift] > 0; found != altered {
			t.Errorf("altered: %v, %q", altered, summary(r.report))
		}
		r.end()
	}
}
