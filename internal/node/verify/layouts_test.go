package verify

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/tests/bootlayouts"
	"every.channel/ec-verify/internal/tests/efiimage"
	"every.channel/ec-verify/pkg/closure"
)

// grubModules are those of the release's GRUB.
var grubModules = map[string]string{"boot.img": "boot", "linux.mod": "linux", "normal.mod": "normal"}

// params are the kernel's parameters of a system.
func params(p closure.StorePath) string { return "loglevel=4 " + p.Name() }

func osRelease(p closure.StorePath) string {
	return "ID=nixos\nNAME=NixOS\nPRETTY_NAME=\"NixOS 26.05\"\nVERSION_ID=\"26.05\"\n# " + p.Name() + "\n"
}

// bootJSON is the bootspec of a system.
func bootJSON(p closure.StorePath) string {
	return fmt.Sprintf(`{
  "org.nixos.bootspec.v1": {
    "init": "%[1]s/init", "initrd": "%[2]s/initrd", "kernel": "%[3]s/bzImage",
    "kernelParams": ["loglevel=4", "%[4]s"], "label": "NixOS 26.05 (Linux 6.12)", "system": "x86_64-linux", "toplevel": "%[1]s"
  },
  "org.nixos.specialisation.v1": {},
  "org.nixos.systemd-boot": { "sortKey": "nixos" }
}
`, p, initrdPath, kernelPath, p.Name())
}

// generations are both systems, that which runs as the newest.
func generations() []bootlayouts.System {
	system := func(n int, p closure.StorePath) bootlayouts.System {
		return bootlayouts.System{
			Generation: n, Toplevel: string(p), Params: params(p),
			Kernel: string(kernelPath) + "/bzImage", Initrd: string(initrdPath) + "/initrd", DTBs: string(kernelPath) + "/dtbs",
		}
	}
	return []bootlayouts.System{system(2, top), system(1, nextTop)}
}

// lay writes the files of a layout to /boot.
func (m *twoSystems) lay(files map[string]bootlayouts.File) { m.t.Helper(); m.layAt("/boot", files) }

// iso is a medium that has the running system.
func (m *twoSystems) iso() {
	m.layAt("/iso", bootlayouts.ISO(generations()[0]))
	m.write("/iso/isolinux/vesamenu.c32", m.read(string(syslinuxPath)+"/share/syslinux/vesamenu.c32"))
}

// isoUEFI is one that UEFI can start, too.
func (m *twoSystems) isoUEFI() {
	m.iso()
	m.efiImage(nil)
}

// efiImage gives the medium its file system for UEFI, as NixOS makes it but for files.
func (m *twoSystems) efiImage(files map[string]string) {
	m.t.Helper()
	tree := m.t.TempDir()
	all := map[string]string{"EFI/BOOT/grub.cfg": m.read("/iso/EFI/BOOT/grub.cfg"), "EFI/BOOT/BOOTX64.EFI": "MZ, GRUB"}
	maps.Copy(all, files)
	for name, text := range all {
		name = filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			m.t.Fatal(err)
		}
	}
	imagetest.FAT(m.t, tree, m.root+mediumImage, 12, 4<<20)
}

func (m *twoSystems) layAt(dir string, files map[string]bootlayouts.File) {
	m.t.Helper()
	for name, text := range m.contents(files) {
		m.write(dir+"/"+name, text)
	}
}

// contents returns the files of a layout by name.
func (m *twoSystems) contents(files map[string]bootlayouts.File) map[string]string {
	m.t.Helper()
	out := make(map[string]string)
	for name, file := range files {
		switch {
		case file.From == "":
			out[name] = file.Text
		case strings.HasSuffix(file.From, "/dtbs"):
			out[name+"/acme/board.dtb"] = m.read(file.From + "/acme/board.dtb")
		default:
			out[name] = m.read(file.From)
		}
	}
	return out
}

func bootName(p closure.StorePath, rest string) string { return p.Base() + "-" + rest }

// systemdBoot lays out /boot for both systems, the first as the default.
func (m *twoSystems) systemdBoot() {
	m.lay(bootlayouts.SystemdBoot(generations()...))
	for _, place := range []string{"systemd/systemd-bootx64.efi", "BOOT/BOOTX64.EFI"} {
		m.write("/boot/EFI/"+place, m.read(string(systemdPath)+loaderDir+"/systemd-bootx64.efi"))
	}
}

func (m *twoSystems) counted() { m.lay(bootlayouts.CountedSystemdBoot(3, generations()...)) }

func (m *twoSystems) unified() {
	m.lay(bootlayouts.UnifiedSystemdBoot(func(s bootlayouts.System) string { return m.image(s) }, generations()...))
}

// image returns the unified kernel image of a system, with further sections.
func (m *twoSystems) image(s bootlayouts.System, more ...efiimage.Section) string {
	parts := append([]efiimage.Section{
		{Name: ".osrel", Data: []byte(m.read(s.Toplevel + "/etc/os-release"))},
		{Name: ".cmdline", Data: []byte("init=" + s.Toplevel + "/init " + s.Params)},
		{Name: ".uname", Data: []byte("6.12")},
		{Name: ".initrd", Data: []byte(m.read(s.Initrd))},
		{Name: ".linux", Data: []byte(m.read(s.Kernel))},
	}, more...)
	return string(efiimage.Add(stub, parts...))
}

func (m *twoSystems) grub() {
	m.lay(bootlayouts.Grub(generations()...))
	for name, text := range grubModules {
		m.write("/boot/grub/i386-pc/"+name, text)
	}
}

func (m *twoSystems) extlinux() { m.lay(bootlayouts.Extlinux(generations()...)) }

// entryOf returns the file with the entry of a system that is named by its hash, "?"
// for none.
func (m *twoSystems) entryOf(p closure.StorePath) string {
	names, err := filepath.Glob(m.root + "/boot/loader/entries/nixos-*.conf")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, name := range names {
		text := m.read(strings.TrimPrefix(name, m.root))
		if len(filepath.Base(name)) > 64 && strings.Contains(text, "Generation "+map[closure.StorePath]string{top: "2", nextTop: "1"}[p]+" ") {
			return strings.TrimPrefix(name, m.root)
		}
	}
	return "?"
}
