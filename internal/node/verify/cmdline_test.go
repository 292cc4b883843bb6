package verify

import (
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
)

// Whether there is a boot menu or none, the kernel was started with the parameters of the
// system that it booted, and with what loaders are known to add.
func TestBootedLine(t *testing.T) {
	line := func(before, after string) string {
		return strings.TrimSpace(before+" init="+string(top)+"/init loglevel=4 "+top.Name()+" "+after) + "\n"
	}
	const nowhere = "no menu"
	layouts := map[string]func(m *twoSystems){
		nowhere:        func(*twoSystems) {},
		"systemd-boot": (*twoSystems).systemdBoot,
		"GRUB":         (*twoSystems).grub,
		"extlinux":     (*twoSystems).extlinux,
		"the menu of another system": func(m *twoSystems) {
			m.systemdBoot()
			m.remove("/boot/loader")
			m.entry(2, string(nextTop)+"/init")
		},
	}
	initrd := `\EFI\nixos\` + bootName(initrdPath, "initrd.efi")
	tests := []struct {
		name, line string
		detail     string // of the finding, "" for none
		only       string // the one layout, "" for all
	}{
		{"as the release says", line("", ""), "", ""},
		{"by iPXE and a BIOS", line("", "initrd=initrd"), "", nowhere},
		{"by iPXE and UEFI", line("kernel", "initrd=initrd initrd=initrd.magic"), "", nowhere},
		{"by iPXE and UEFI, NixOS's own names", line("bzImage initrd=initrd", ""), "", nowhere},
		{"by GRUB", line("BOOT_IMAGE=(hd0)/kernels/k", ""), "", ""},
		{"by SYSLINUX", line("BOOT_IMAGE=/boot/nix/store/x/bzImage", "initrd=/boot/nix/store/y/initrd"), "", nowhere},
		{"by systemd-boot", line("initrd="+initrd, ""), "", "systemd-boot"},
		{"by kexec, as NixOS reboots", "loglevel=4 " + top.Name() + " init=" + string(top) + "/init\n", "", ""},
		{"older NixOS", line("systemConfig="+string(top), ""), "", ""},
		{"init= of a shell besides", line("init=/bin/sh", ""), "it was booted with init=/bin/sh besides", ""},
		{"a shell for whoever is there", line("", "systemd.debug-shell"), "it was booted with systemd.debug-shell besides", ""},
		{"a stop in the first stage", line("rd.break", ""), "it was booted with rd.break besides", ""},
		{"a program of the first stage", line("", "rdinit=/bin/sh"), "it was booted with rdinit=/bin/sh besides", ""},
		{"security off", line("", "selinux=0 lsm= lockdown=none"), "it was booted with selinux=0 lsm= lockdown=none besides", ""},
		{"a module kept out", line("", "module_blacklist=overlay"), "it was booted with module_blacklist=overlay besides", ""},
		{"another target", line("", "systemd.unit=rescue.target"), "it was booted with systemd.unit=rescue.target besides", ""},
		{"a unit masked", line("", "systemd.mask=ec-verify.service"), "it was booted with systemd.mask=ec-verify.service besides", ""},
		{"a root to write to", line("", "rw"), "it was booted with rw besides", ""},
		{"a password, as NixOS's netboot takes one", line("", "live.nixos.password=x"), "it was booted with live.nixos.password=x besides", ""},
		{"a variable for the first process", line("", "LD_PRELOAD=/tmp/x.so"), "it was booted with LD_PRELOAD=/tmp/x.so besides", ""},
		{"the name of a kernel that is no first word", line("quiet kernel", ""), "it was booted with quiet kernel besides", ""},
		{"a parameter missing", "init=" + string(top) + "/init loglevel=4\n", "it was booted without " + top.Name(), ""},
		{"a parameter changed", "init=" + string(top) + "/init loglevel=7 " + top.Name() + "\n", "it was booted with loglevel=7 besides, and it was booted without loglevel=4", ""},
		{"a parameter twice", line("", "loglevel=4"), "it was booted with loglevel=4 besides", ""},
		{"another order, of which the last may count", "init=" + string(top) + "/init " + top.Name() + " loglevel=4\n", "it was booted with the parameters in another order", ""},
		{"a blank that is none", "init=" + string(top) + "/init loglevel=4\u00a0" + top.Name() + "\n", "it was booted with loglevel=4\u00a0" + top.Name() + " besides, and it was booted without loglevel=4 " + top.Name(), ""},
		{"parameters hidden between quotes, from the kernel", line(`BOOT_IMAGE="`, `BOOT_IMAGE="`), `it was booted with BOOT_IMAGE=" init=` + string(top) + `/init loglevel=4 ` + top.Name() + ` BOOT_IMAGE=" besides, and it was booted without loglevel=4 ` + top.Name(), ""},
		{"parameters hidden between quotes, from systemd", line(`BOOT_IMAGE='`, `BOOT_IMAGE='`), `it was booted with BOOT_IMAGE=' BOOT_IMAGE=' besides`, ""},
		{"a blank of the kernel's in the name of a kernel", line("BOOT_IMAGE=k\u00a0rdinit=/bin/sh", ""), "it was booted with BOOT_IMAGE=k\u00a0rdinit=/bin/sh besides", ""},
		{"a form feed in the name of an initrd", line("", "initrd=initrd\frdinit=/bin/sh"), "it was booted with initrd=initrd\frdinit=/bin/sh besides", nowhere},
		{"a backslash before a blank", line("", "initrd=initrd\\"), "it was booted with initrd=initrd\\ besides", nowhere},
		{"a second initrd", line("", "initrd=initrd initrd=evil"), "it was booted with initrd=evil besides", nowhere},
		{"a second initrd before that of the entry", line(`initrd=\evil.efi initrd=`+initrd, ""), `it was booted with initrd=\evil.efi besides`, "systemd-boot"},
	}
	for name, layout := range layouts {
		m := newBootable(t)
		layout(m)
		for _, test := range tests {
			if test.only != "" && test.only != name {
				continue
			}
			t.Run(name+"/"+test.name, func(t *testing.T) {
				m.line = test.line
				r := m.runMenu(t.Context())
				var got []string
				for i := range r.Findings {
					if f := &r.Findings[i]; f.Path == kernelCommand {
						got = append(got, f.Detail)
						if f.Cause != report.CommandLineAltered || f.Field != "options" {
							t.Errorf("%s %s", f.Cause, f.Field)
						}
					}
				}
				if got := strings.Join(got, "; "); got != test.detail {
					t.Errorf("%q, want %q", got, test.detail)
				}
				if (r.Verdict() == report.Drifted) != (test.detail != "") {
					t.Errorf("%s: %q", r.Verdict(), summary(r))
				}
			})
		}
	}
}

// What is between quotes is one parameter. GRUB quotes one with a blank as a whole, and
// no other, which changes nothing; loaders add nothing in there.
func TestQuotedParameters(t *testing.T) {
	const want = `acpi_osi="!Windows 2020" dyndbg="file  a.c +p" root="fstab" quiet`
	init := "init=" + string(top) + "/init "
	for _, test := range []struct {
		line string
		same bool
	}{
		{init + want, true},
		{"BOOT_IMAGE=(hd0,msdos1)//kernels/k " + init + `"acpi_osi=!Windows 2020" "dyndbg=file  a.c +p" root=fstab quiet`, true},
		{init + `acpi_osi="!Windows BOOT_IMAGE=k 2020" dyndbg="file  a.c +p" root="fstab" quiet`, false},
		{`acpi_osi="!Windows ` + init + `2020" dyndbg="file  a.c +p" root="fstab" quiet`, false},
		{init + `acpi_osi="!Windows 2020" dyndbg="file a.c +p" root="fstab" quiet`, false},
		{init + `acpi_osi="!Windows 2020" dyndbg="file  a.c +p" root="fstab" "quiet"`, false},
		{init + `acpi_osi="!Windows 2020 dyndbg="file  a.c +p root="fstab" quiet"`, false},
		{init + `"acpi_osi="!Windows 2020 dyndbg="file  a.c +p" root="fstab" quiet`, false},
		{`"init=` + string(top) + `/init" ` + want, false},
	} {
		got := strings.Join(withoutAdditions(test.line, nil), " ")
		if _, same := bootedBy(nil).accepts(top, want, paramsOf(top, got)); same != test.same {
			t.Errorf("%s: %t, want %t", test.line, same, test.same)
		}
	}
}

// Where kernel and initrd could not be compared, or a part of the medium, the tier says so,
// and so does the verdict line.
func TestBootUnseen(t *testing.T) {
	booted := "init=" + string(top) + "/init " + params(top) + "\n"
	const noMenu = "no boot menu here has the booted entry"
	for _, test := range []struct {
		name   string
		layout func(m *twoSystems)
		want   string
		more   string // in the command line
	}{
		{"no menu", func(*twoSystems) {}, noMenu, ""},
		{"a menu", (*twoSystems).systemdBoot, "", ""},
		{"the menu of another system", func(m *twoSystems) {
			m.systemdBoot()
			m.remove("/boot/loader")
			m.entry(1, string(nextTop)+"/init")
		}, noMenu, ""},
		{"an initrd that no menu has", (*twoSystems).systemdBoot, noMenu, ` initrd=\evil.efi`},
		{"an image", (*twoSystems).unified, "", ""},
		{"an initrd besides an image", (*twoSystems).unified, noMenu, ` initrd=\evil.efi`},
		{"the initrd of the menu", (*twoSystems).systemdBoot, "", ` initrd=\EFI\nixos\` + bootName(initrdPath, "initrd.efi")},
		{"a medium for a BIOS", (*twoSystems).iso, "", ""},
		{"a medium for UEFI", (*twoSystems).isoUEFI, "", ""},
		{"a medium that is not mounted", func(m *twoSystems) { m.mkdir("/iso") }, noMenu, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newBootable(t)
			test.layout(m)
			m.line = strings.TrimSpace(booted) + test.more + "\n"
			r := m.runMenu(t.Context())
			i := slices.IndexFunc(r.Tiers, func(t report.Tier) bool { return t.Name == report.TierLive })
			if r.Verdict() != report.Verified || !strings.Contains(r.Tiers[i].Why, test.want) || test.want == "" && r.Tiers[i].Why != "" {
				t.Errorf("%s: %q, want %q; %q", r.Verdict(), r.Tiers[i].Why, test.want, summary(r))
			}
			if !strings.Contains(r.Headline(), r.Tiers[i].Why) {
				t.Errorf("the verdict line does not say so: %s", r.Headline())
			}
		})
	}
}

// Without a boot menu a host or a firmware gives the kernel its command line. What these
// are known to add changes nothing of what runs, and is shown; all else is drift.
func TestBootedByHost(t *testing.T) {
	const (
		pi = "coherent_pool=1M 8250.nr_uarts=0 snd_bcm2835.enable_compat_alsa=0 snd_bcm2835.enable_hdmi=1 bcm2708_fb.fbwidth=1920 bcm2708_fb.fbheight=1080 " +
			"bcm2708_fb.fbswap=1 smsc95xx.macaddr=DC:A6:32:00:00:01 vc_mem.mem_base=0x3ec00000 vc_mem.mem_size=0x40000000"
		pi5 = "reboot=w coherent_pool=1M 8250.nr_uarts=1 pci=pcie_bus_safe cgroup_disable=memory numa_policy=interleave nvme.max_host_mem_size_mb=0 " +
			"numa=fake=8 system_heap.max_order=0 smsc95xx.macaddr=2C:CF:67:00:00:01 vc_mem.mem_base=0x3fc00000 vc_mem.mem_size=0x40000000"
		firecracker = "console=ttyS0 noapic acpi=off reboot=k panic=1 verbose i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd"
		registered  = "regInfo=/nix/store/00000000000000000000000000000000-closure-info/registration"
	)
	tests := []struct {
		name, before, after string
		detail              string // of the finding, "" for none
	}{
		{"a Raspberry Pi's firmware", pi, "", ""},
		{"a Raspberry Pi 5's firmware", pi5, "", ""},
		{"a Raspberry Pi, and its cmdline.txt altered", pi, "rd.break", "it was booted with "},
		{"microvm.nix and QEMU", "earlyprintk=ttyS0 console=ttyS0 reboot=t panic=-1", "", ""},
		{"microvm.nix and Firecracker", firecracker, "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6", ""},
		{"nixos-rebuild build-vm", "", registered + " console=ttyS0,115200n8 console=tty0", ""},
		{"a list of paths from elsewhere", "", "regInfo=/tmp/registration", "regInfo=/tmp/registration besides"},
		{"a list of paths of another kind", "", "regInfo=/nix/store/00000000000000000000000000000000-evil/registration", "besides"},
		{"Firecracker, and a root of its own", "console=ttyS0", "root=/dev/vda rw", "root=/dev/vda rw besides"},
		{"a shell", "console=ttyS0 init=/bin/sh", "", "init=/bin/sh besides"},
		{"a program of the first stage", "console=ttyS0", "rdinit=/bin/sh", "rdinit=/bin/sh besides"},
		{"a console that is none", "", "console=ttyS0;rd.break", "console=ttyS0;rd.break besides"},
		{"among the parameters", "loglevel=4 console=ttyS0", "", "besides"},
	}
	for layout, lay := range map[string]func(m *twoSystems){"no menu": func(*twoSystems) {}, "a menu": (*twoSystems).systemdBoot} {
		m := newBootable(t)
		lay(m)
		for _, test := range tests {
			t.Run(layout+"/"+test.name, func(t *testing.T) {
				m.line = strings.TrimSpace(test.before+" init="+string(top)+"/init "+params(top)+" "+test.after) + "\n"
				if test.name == "among the parameters" {
					m.line = "init=" + string(top) + "/init loglevel=4 console=ttyS0 " + top.Name() + "\n"
				}
				r := m.runMenu(t.Context())
				i := slices.IndexFunc(r.Findings, func(f report.Finding) bool { return f.Cause == report.CommandLineAltered })
				switch besides := strings.TrimSpace(test.before + " " + test.after); {
				case test.detail == "" && layout == "no menu":
					if !strings.Contains(r.Headline(), "gave the kernel "+besides[:min(len(besides), 150)]) || r.Verdict() != report.Verified {
						t.Errorf("%s; %q", r.Headline(), summary(r))
					}
				case i < 0 || !strings.Contains(r.Findings[i].Detail, test.detail) || r.Verdict() != report.Drifted:
					t.Errorf("%s: %q, want %q", r.Verdict(), summary(r), test.detail)
				}
			})
		}
	}
}
