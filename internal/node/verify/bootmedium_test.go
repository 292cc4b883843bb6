package verify

import (
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/tests/bootlayouts"
)

// TestMediumImage: what UEFI finds in the file system in a medium's file is held to the
// release as what a BIOS finds beside it.
func TestMediumImage(t *testing.T) {
	const (
		installer = "NixOS 26.05 (Linux 6.12) Installer"
		menu, own = "/iso/EFI/BOOT/grub.cfg: ", mediumImage + "/EFI/BOOT/grub.cfg: "
		refind    = "unaccepted-entry " + menu + "rEFInd"
		ownRefind = "unaccepted-entry " + own + "rEFInd"
		grub      = "loader-unknown " + mediumImage + "/EFI/BOOT/BOOTX64.EFI"
	)
	ofEachEntry := func(menu string) (out []string) {
		out = append(out, "boot-unchecked "+menu+installer)
		for _, o := range bootlayouts.ISOOptions() {
			out = append(out, "boot-unchecked "+menu+"Options > "+o+" > "+installer)
		}
		return out
	}
	altered := func(old, by string) func(m *twoSystems) {
		return func(m *twoSystems) {
			text := m.read("/iso/EFI/BOOT/grub.cfg")
			if !strings.Contains(text, old) {
				t.Fatalf("the menu has no %q", old)
			}
			m.efiImage(map[string]string{"EFI/BOOT/grub.cfg": strings.Replace(text, old, by, 1)})
		}
	}
	with := func(name, text string) func(m *twoSystems) {
		return func(m *twoSystems) { m.efiImage(map[string]string{name: text}) }
	}
	// laid has the loaders' files for both systems in it, and other bytes in the file of a name.
	laid := func(layout func(...bootlayouts.System) map[string]bootlayouts.File, name string) func(m *twoSystems) {
		return func(m *twoSystems) {
			files := m.contents(layout(generations()...))
			if name != "" {
				files[name] = strings.Replace(files[name], "kernelk", "kernelK", 1)
			}
			m.efiImage(files)
		}
	}
	sd, sub := "EFI/nixos/"+bootName(kernelPath, "bzImage.efi"), bootName(kernelPath, "bzImage")
	for _, test := range []struct {
		name     string
		do       func(m *twoSystems)
		verdict  report.Verdict
		findings []string
	}{
		{"systemd-boot", laid(bootlayouts.SystemdBoot, ""), report.Verified, []string{refind, grub}},
		{"GRUB", laid(bootlayouts.Grub, ""), report.Verified, []string{refind, grub}},
		{"extlinux", laid(bootlayouts.Extlinux, ""), report.Verified, []string{refind, grub}},
		{"systemd-boot, and a byte in the kernel", laid(bootlayouts.SystemdBoot, sd), report.Drifted, []string{"boot-altered " + mediumImage + "/" + sd + " kernel", refind, grub}},
		{"GRUB, and a byte in the kernel", laid(bootlayouts.Grub, "kernels/"+sub), report.Drifted, []string{"boot-altered " + mediumImage + "/kernels/" + sub + " kernel", refind, grub}},
		{"extlinux, and a byte in the kernel", laid(bootlayouts.Extlinux, "nixos/"+sub), report.Drifted, []string{"boot-altered " + mediumImage + "/nixos/" + sub + " kernel", refind, grub}},
		{"as NixOS makes it", (*twoSystems).isoUEFI, report.Verified, []string{refind, grub}},
		{"a comment more in its menu", altered("set timeout=10", "# more\nset timeout=10"), report.Verified, []string{refind, ownRefind, grub}},
		{"another init=", altered("init="+string(top), "init=/evil"), report.Drifted, []string{"other-entry " + own + installer, refind, ownRefind, grub}},
		{"an option more", altered(params(top), params(top)+" rd.break"), report.Drifted, []string{"boot-altered " + own + installer + " options", refind, ownRefind, grub}},
		{"another kernel", altered("linux /boot/", "linux /evil/"), report.Drifted, []string{"boot-altered /iso/evil" + string(kernelPath) + "/bzImage kernel", refind, ownRefind, grub}},
		{"another disk", altered("search --set=root --file /EFI/nixos-installer-image", "search --set=root --file /evil"), report.Unsettled, append(ofEachEntry(own), refind, ownRefind, grub)},
		{"the file by which GRUB knows the medium", with("EFI/nixos-installer-image", ""), report.Unsettled, append(ofEachEntry(menu), refind, grub)},
		{"systemd-boot's entry for another system", with("loader/entries/x.conf", "title x\nlinux /k\noptions init=/evil\n"), report.Drifted,
			[]string{"other-entry " + mediumImage + "/loader/entries/x.conf", refind, grub}},
		{"systemd-boot of the release", func(m *twoSystems) {
			m.efiImage(map[string]string{"EFI/BOOT/BOOTX64.EFI": m.read(string(systemdPath) + loaderDir + "/systemd-bootx64.efi")})
		}, report.Verified, []string{refind}},
		{"a program besides", with("EFI/Evil/evil.efi", "MZ"), report.Verified, []string{refind, grub, "loader-unknown " + mediumImage + "/EFI/Evil/evil.efi"}},
		{"a module besides", with("EFI/BOOT/x86_64-efi/evil.mod", "x"), report.Verified, []string{refind, grub, "loader-unknown " + mediumImage + "/EFI/BOOT/x86_64-efi"}},
		{"a module of the release", with("EFI/BOOT/i386-pc/linux.mod", grubModules["linux.mod"]), report.Verified, []string{refind, grub}},
		{"no file system", func(m *twoSystems) { m.write(mediumImage, "no FAT") }, report.Unsettled, []string{"live-unknown " + mediumImage, refind}},
		{"a link for it", func(m *twoSystems) { m.link(mediumImage, "/etc/passwd") }, report.Unsettled, []string{"live-unknown " + mediumImage, refind}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newBootable(t)
			m.iso()
			test.do(m)
			r := m.runMenu(t.Context())
			var got []string
			for _, f := range r.Findings {
				got = append(got, strings.TrimSpace(strings.Join([]string{string(f.Cause), f.Path, f.Field}, " ")))
			}
			slices.Sort(got)
			slices.Sort(test.findings)
			if r.Verdict() != test.verdict || !slices.Equal(got, test.findings) {
				t.Errorf("%s, want %s; findings\n\t%q\nwant\n\t%q", r.Verdict(), test.verdict, got, test.findings)
			}
		})
	}
}

// TestFirmware: files on the firmware's partition are those of a release, or named; where it
// is not mounted, the verdict line says so.
func TestFirmware(t *testing.T) {
	const file = "/boot/firmware/"
	fstab := func(m *twoSystems) {
		m.write(string(top)+"/etc/fstab", "/dev/disk/by-label/FIRMWARE /boot/firmware vfat nofail,noauto 0 2\n")
	}
	for _, test := range []struct {
		name   string
		do     func(m *twoSystems)
		detail string // of the finding, "" for none
		why    string
	}{
		{"no board", func(*twoSystems) {}, "", ""},
		{"not mounted", fstab, "", "the partition that the firmware starts from is not mounted on /boot/firmware"},
		{"an empty directory", func(m *twoSystems) { fstab(m); m.mkdir("/boot/firmware") }, "", "the partition that the firmware starts from is not mounted on /boot/firmware"},
		{"the release's", func(m *twoSystems) {
			fstab(m)
			m.write(file+"start4.elf", "a part of the firmware")
			m.write(file+"overlays/disable-bt.dtbo", "an overlay")
		}, "", ""},
		{"a kernel, settings and an overlay of nobody", func(m *twoSystems) {
			fstab(m)
			m.write(file+"start4.elf", "a part of the firmware")
			m.write(file+"kernel8.img", "evil")
			m.write(file+"config.txt", "kernel=kernel8.img")
			m.write(file+"overlays/disable-bt.dtbo", "An overlay")
		}, "config.txt kernel8.img overlays/disable-bt.dtbo", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newBootable(t)
			m.extlinux()
			test.do(m)
			m.line = "init=" + string(top) + "/init " + params(top) + "\n"
			r := m.runMenu(t.Context())
			var got []string
			for _, f := range r.Findings {
				if f.Cause == report.LoaderUnknown && f.Path == "/boot/firmware" {
					got = append(got, f.Detail)
				}
			}
			i := slices.IndexFunc(r.Tiers, func(t report.Tier) bool { return t.Name == report.TierLive })
			if strings.Join(got, "; ") != test.detail || !strings.Contains(r.Tiers[i].Why, test.why) || test.why == "" && r.Tiers[i].Why != "" {
				t.Errorf("%q, want %q; %q, want %q; %q", got, test.detail, r.Tiers[i].Why, test.why, summary(r))
			}
		})
	}
}
