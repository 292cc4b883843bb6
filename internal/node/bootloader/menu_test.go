package bootloader

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// mapDir is a directory in memory.
type mapDir map[string]string

func (d mapDir) ReadFile(name string, limit int64) ([]byte, error) {
	text, ok := d[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is too large", name)
	}
	return []byte(text), nil
}

func (d mapDir) Names(name string, most int) ([]string, error) {
	tree := fstest.MapFS{}
	for file := range d {
		tree[file] = &fstest.MapFile{}
	}
	entries, err := tree.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	if len(out) > most {
		return nil, errTooMany
	}
	return out, nil
}

type mapFile struct{ *strings.Reader }

func (mapFile) Close() error { return nil }

func (d mapDir) Open(name string) (File, error) {
	text, ok := d[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return mapFile{strings.NewReader(text)}, nil
}

const (
	nixosEntry = `title NixOS
sort-key nixos
version Generation %d NixOS 26.05 (Linux 6.12), built on 2026-02-28
linux /EFI/nixos/k-linux-6.12-bzImage.efi
initrd /EFI/nixos/i-initrd-linux-6.12-initrd.efi
options init=/nix/store/%s/init loglevel=4
machine-id 0123456789abcdef0123456789abcdef
`
	grubConfig = `search --set=drive1 --fs-uuid AAAA-BBBB
if [ -s $prefix/grubenv ]; then
  load_env
fi
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
function savedefault {
    if [ -z "${boot_once}"]; then
    saved_entry="${chosen}"
    save_env saved_entry
    fi
}
menuentry "NixOS" --class nixos --unrestricted {
search --set=drive1 --fs-uuid AAAA-BBBB
  linux ($drive1)//kernels/k-bzImage init=/nix/store/b/init loglevel=4
  initrd ($drive1)//kernels/i-initrd ($drive1)//kernels/secrets
}

submenu "NixOS - All configurations" --class submenu {
menuentry "NixOS - Configuration 2 (2026-02-28 - 26.05)" --class nixos {
  linux ($drive1)//kernels/k-bzImage init=/nix/store/b/init loglevel=4
  initrd ($drive1)//kernels/i-initrd
}
menuentry "NixOS - Configuration 1 (2026-01-31 - 26.05)" --class nixos {
  linux ($drive1)//kernels/k0-bzImage init=/nix/store/a/init loglevel=4
  initrd ($drive1)//kernels/i0-initrd
}
}
menuentry "memtest" {
  linux16 ($drive1)//memtest.bin
}
menuentry 'Windows' {
  chainloader (hd0,1)+1
}
`
	extlinuxConfig = `# Generated file, all changes will be lost on nixos-rebuild!
DEFAULT nixos-default

MENU TITLE ------------------------------------------------------------
TIMEOUT 50

LABEL nixos-default
  MENU LABEL NixOS - Default
  LINUX ../nixos/k-linux-Image
  INITRD ../nixos/i-initrd
  APPEND init=/nix/store/b/init loglevel=4
  FDTDIR ../nixos/k-linux-dtbs

LABEL nixos-1
  MENU LABEL NixOS - Configuration 1 (2026-01-31 12:00 - 26.05)
  LINUX ../nixos/k0-linux-Image
  INITRD ../nixos/i0-initrd
  APPEND init=/nix/store/a/init loglevel=4
  FDT ../nixos/k0-linux-dtbs/board.dtb
`
)

// show returns entries in the notation of the tests.
func show(entries []Entry) []string {
	var out []string
	for i := range entries {
		e := &entries[i]
		s := e.Name()
		if e.Loader == SystemdBoot {
			s = path.Base(s)
		}
		if e.Default {
			s = "* " + s
		}
		for _, part := range append(append([]string{e.Kernel}, e.Initrds...), e.Devicetree, e.DevicetreeDir, e.Options) {
			if part != "" {
				s += " | " + part
			}
		}
		if e.Foreign != "" {
			s += " ! " + e.Foreign
		}
		out = append(out, s)
	}
	return out
}

func TestRead(t *testing.T) {
	const nixos = " | /EFI/nixos/k-linux-6.12-bzImage.efi | /EFI/nixos/i-initrd-linux-6.12-initrd.efi | "
	typed := func(name string, generation int, system string) mapDir {
		return mapDir{"loader/entries/" + name: fmt.Sprintf(nixosEntry, generation, system)}
	}
	merge := func(dirs ...mapDir) mapDir {
		out := mapDir{}
		for _, d := range dirs {
			for name, text := range d {
				out[name] = text
			}
		}
		return out
	}
	two := merge(typed("nixos-generation-9.conf", 9, "a"), typed("nixos-generation-10.conf", 10, "b"))
	for _, test := range []struct {
		name      string
		dir       mapDir
		variables Variables
		want      []string
		problems  int
	}{
		{name: "nothing", dir: mapDir{"other": ""}},
		{name: "systemd-boot", dir: merge(two, mapDir{"loader/loader.conf": "timeout 5\ndefault nixos-generation-9.conf\neditor 0\n"}), want: []string{
			"nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{name: "the newest by a pattern", dir: merge(two, mapDir{"loader/loader.conf": "default nixos-*\n"}), want: []string{
			"* nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{name: "tries are used up", dir: merge(typed("nixos-generation-9.conf", 9, "a"), typed("nixos-generation-10+0-3.conf", 10, "b")), want: []string{
			"nixos-generation-10+0-3.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{
			name: "the firmware names one for once, and one for ever", dir: merge(two, typed("nixos-generation-8.conf", 8, "c")),
			variables: Variables{OneShot: "nixos-generation-8.conf", Default: "nixos-generation-9.conf"},
			want: []string{
				"nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
				"* nixos-generation-8.conf" + nixos + "init=/nix/store/c/init loglevel=4",
				"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
			},
		},
		{name: "an EFI program, and a second options line", dir: mapDir{
			"loader/entries/a.conf": "title x\nefi /EFI/shell.efi\n",
			"loader/entries/b.conf": "linux /k\noptions a\n  options\tb\n",
		}, want: []string{"a.conf ! it starts the EFI program /EFI/shell.efi", "* b.conf | /k | a b"}},
		{name: "too large", dir: mapDir{"loader/entries/a.conf": strings.Repeat("x", maxEntry+1)}, problems: 1},
		{name: "no EFI program", dir: mapDir{"EFI/Linux/a.efi": "MZ"}, problems: 1},
		{name: "GRUB", dir: mapDir{"grub/grub.cfg": grubConfig}, want: []string{
			"* grub/grub.cfg: NixOS | ($drive1)//kernels/k-bzImage | ($drive1)//kernels/i-initrd | ($drive1)//kernels/secrets | init=/nix/store/b/init loglevel=4",
			"grub/grub.cfg: NixOS - All configurations > NixOS - Configuration 2 (2026-02-28 - 26.05) | ($drive1)//kernels/k-bzImage | ($drive1)//kernels/i-initrd | init=/nix/store/b/init loglevel=4",
			"grub/grub.cfg: NixOS - All configurations > NixOS - Configuration 1 (2026-01-31 - 26.05) | ($drive1)//kernels/k0-bzImage | ($drive1)//kernels/i0-initrd | init=/nix/store/a/init loglevel=4",
			"grub/grub.cfg: memtest | ($drive1)//memtest.bin",
			"grub/grub.cfg: Windows ! it has the command chainloader (hd0,1)+1",
		}},
		{name: "GRUB, once another", dir: mapDir{"grub/grub.cfg": grubConfig, "grub/grubenv": "# GRUB Environment Block\nnext_entry=1>1\n####"}, want: []string{
			"* grub/grub.cfg: NixOS | ($drive1)//kernels/k-bzImage | ($drive1)//kernels/i-initrd | ($drive1)//kernels/secrets | init=/nix/store/b/init loglevel=4",
			"grub/grub.cfg: NixOS - All configurations > NixOS - Configuration 2 (2026-02-28 - 26.05) | ($drive1)//kernels/k-bzImage | ($drive1)//kernels/i-initrd | init=/nix/store/b/init loglevel=4",
			"* grub/grub.cfg: NixOS - All configurations > NixOS - Configuration 1 (2026-01-31 - 26.05) | ($drive1)//kernels/k0-bzImage | ($drive1)//kernels/i0-initrd | init=/nix/store/a/init loglevel=4",
			"grub/grub.cfg: memtest | ($drive1)//memtest.bin",
			"grub/grub.cfg: Windows ! it has the command chainloader (hd0,1)+1",
		}},
		{name: "GRUB starts something by itself", dir: mapDir{"grub/grub.cfg": "linux /evil init=/evil\nboot\nmenuentry \"x\" {\nlinux /k init=/a\n}\n"}, want: []string{
			"* grub/grub.cfg: linux | /evil | init=/evil ! outside of a menu entry: linux /evil init=/evil",
			"* grub/grub.cfg: boot ! outside of a menu entry: boot",
			"* grub/grub.cfg: x | /k | init=/a",
		}},
		{name: "extlinux", dir: mapDir{"extlinux/extlinux.conf": extlinuxConfig}, want: []string{
			"* extlinux/extlinux.conf: nixos-default | ../nixos/k-linux-Image | ../nixos/i-initrd | ../nixos/k-linux-dtbs | init=/nix/store/b/init loglevel=4",
			"extlinux/extlinux.conf: nixos-1 | ../nixos/k0-linux-Image | ../nixos/i0-initrd | ../nixos/k0-linux-dtbs/board.dtb | init=/nix/store/a/init loglevel=4",
		}},
		{name: "another loader.conf", dir: merge(two, mapDir{"loader/loader.conf": "default \"nixos-generation-9.conf\"\n"}), want: []string{
			"nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{name: "a class with a caret", dir: merge(two, mapDir{"loader/loader.conf": "default [^n]ixos-generation-9.conf\n"}), want: []string{
			"nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{name: "one is preferred", dir: merge(two, mapDir{"loader/loader.conf": "preferred nixos-generation-9.conf\n"}), want: []string{
			"* nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{name: "one is preferred that is bad", dir: merge(typed("nixos-generation-9+0-3.conf", 9, "a"), typed("nixos-generation-10.conf", 10, "b"),
			mapDir{"loader/loader.conf": "preferred nixos-generation-9.conf\ndefault nixos-*\n"}), want: []string{
			"* nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
			"nixos-generation-9+0-3.conf" + nixos + "init=/nix/store/a/init loglevel=4",
		}},
		{
			name: "the last one again", dir: merge(two, mapDir{"loader/loader.conf": "default @saved\n"}),
			variables: Variables{LastBooted: "nixos-generation-9.conf"},
			want: []string{
				"nixos-generation-10.conf" + nixos + "init=/nix/store/b/init loglevel=4",
				"* nixos-generation-9.conf" + nixos + "init=/nix/store/a/init loglevel=4",
			},
		},
		{name: "the first are not listed", dir: mapDir{
			"loader/entries/a.conf":      "sort-key a\narchitecture riscv64\nlinux /k\n",
			"loader/entries/auto-b.conf": "sort-key b\nlinux /k\n",
			"loader/entries/c.conf":      "sort-key c\nlinux /k\n",
			"loader/entries/d.conf":      "sort-key d\nlinux /k\n",
		}, want: []string{"* a.conf | /k", "* auto-b.conf | /k", "* c.conf | /k", "d.conf | /k"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, problems := Read([]Dir{test.dir}, test.variables)
			if diff := cmp.Diff(test.want, show(entries)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if len(problems) != test.problems {
				t.Errorf("problems %+v, want %d", problems, test.problems)
			}
		})
	}
}

func TestCompareVersions(t *testing.T) {
	ascending := []string{"~rc", "", "1", "1.2", "2", "9", "10", "10a", "10b"}
	for i, a := range ascending {
		for j, b := range ascending {
			got := compareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%q to %q: %d", a, b, got)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(fmt.Sprintf(nixosEntry, 1, "a"), "default nixos-*", grubConfig, "next_entry=1>0\n", extlinuxConfig, "MZ")
	f.Fuzz(func(t *testing.T, entry, conf, grub, env, extlinux, image string) {
		entries, _ := Read([]Dir{mapDir{
			"loader/entries/a.conf": entry, "loader/entries/b+1.conf": entry + "\nversion 2", "loader/loader.conf": conf,
			"grub/grub.cfg": grub, "grub/grubenv": env, "extlinux/extlinux.conf": extlinux, "EFI/Linux/a.efi": image,
		}}, Variables{Default: conf})
		if len(entries) > 2*maxEntries+3 {
			t.Errorf("%d entries", len(entries))
		}
		for i := range entries {
			if entries[i].Kernel == "" && entries[i].Image == "" && entries[i].Foreign == "" {
				t.Errorf("an entry that starts nothing: %+v", entries[i])
			}
		}
	})
}

// The comparison of versions is a total order, whatever the versions are.
func FuzzCompareVersions(f *testing.F) {
	f.Add("Generation 9 x", "Generation 10 x")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b) != -compareVersions(b, a) || compareVersions(a, a) != 0 {
			t.Errorf("%q, %q: %d and %d", a, b, compareVersions(a, b), compareVersions(b, a))
		}
	})
}

// TestDefaultOfTwo: which directory is the EFI system partition is not known, so that
// the loader.conf of each counts.
func TestDefaultOfTwo(t *testing.T) {
	boot := mapDir{"loader/loader.conf": "default b.conf\n", "loader/entries/a.conf": "linux /a\n", "loader/entries/b.conf": "linux /b\n"}
	entries, _ := Read([]Dir{boot, mapDir{"loader/loader.conf": "default a.conf\n"}}, Variables{})
	if diff := cmp.Diff([]string{"* a.conf | /a", "* b.conf | /b"}, show(entries)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestGrubScript: a command is found however it is written, and so is a default.
func TestGrubScript(t *testing.T) {
	const menu = `
menuentry "new" --class nixos {
  linux /n init=/n
}
menuentry "old" --id old-id {
  linux /o init=/o
}
`
	const newest, oldest = "new | /n | init=/n", "old | /o | init=/o"
	outside := func(text string) string { return "* " + text + " ! outside of a menu entry: " }
	evil := []string{outside("linux | /evil") + "linux /evil", "* " + newest, oldest}
	for _, test := range []struct {
		name, text, env string
		want            []string
	}{
		{"what NixOS writes for a font, a picture, a theme, users and a serial line", `# Automatically generated.  DO NOT EDIT THIS FILE!
set superusers="root admin"
password_pbkdf2 root grub.pbkdf2.sha512.10000.AA.BB
# Setup the graphics stack for bios and efi systems
if [ "${grub_platform}" = "efi" ]; then
  insmod efi_gop
else
  insmod vbe
fi
insmod font
if loadfont ($drive1)//converted-font.pf2; then
  insmod gfxterm
  if [ "${grub_platform}" = "efi" ]; then
    set gfxmode=auto
    set gfxpayload=keep
  else
    set gfxmode=1024x768
  fi
  terminal_output gfxterm
fi
background_color '#2F302F'
insmod png
if background_image --mode 'stretch' ($drive1)//background.png; then
  set color_normal=white/black
else
  set menu_color_normal=cyan/blue
fi
set theme=($drive1)//theme/theme.txt
export theme
loadfont ($drive1)//theme/x.pf2
serial --unit=0 --speed=115200; terminal_input --append serial; terminal_output --append serial
`, "", []string{"* " + newest, oldest}},
		{"comments and blanks", "# linux /evil\n\tset\ttimeout=5 # ; linux /evil\nset x='; linux /evil'\necho \"} linux\" boot\n", "", []string{"* " + newest, oldest}},
		{"behind another", "set timeout=0; linux /evil\n", "", evil},
		{"behind a condition", "if true; then linux /evil; fi\n", "", evil},
		{"behind a comment that goes on", "# x \\\nlinux /evil\n", "", evil},
		{"behind a backslash", "echo \\\\\nlinux /evil\n", "", evil},
		{"behind a quote in a comment", "set x=\"\n#\"\nset y=\"\nlinux /evil\n", "", evil},
		{"in quotes", "'lin'\"ux\" /evil\n", "", evil},
		{"with a backslash", "li\\nux /evil\n", "", evil},
		{"in two lines", "lin\\\nux /evil\n", "", evil},
		{"with a carriage return", "li\rnux /evil\n", "", evil},
		{"in a function", "function x { linux /evil; }\n", "", evil},
		{"by a variable", "x=linux\n$x /evil\n", "", []string{outside("$x") + "$x /evil", "* " + newest, oldest}},
		{"by a part of a variable", "li\"${x}\"nux /evil\n", "", []string{outside("li${x}nux") + "li${x}nux /evil", "* " + newest, oldest}},
		{"by a text", "eval 'linux /evil'\n", "", []string{outside("eval") + "eval 'linux /evil'", "* " + newest, oldest}},
		{"another menuentry", "function menuentry { true; }\n", "", []string{outside("function") + "function menuentry", "* " + newest, oldest}},
		{"behind a zero byte", "echo \x00'\nlinux /evil\necho \x00'\n", "", evil},
		{"a table of the firmware", "acpi /evil.aml\n", "", []string{outside("acpi") + "acpi /evil.aml", "* " + newest, oldest}},
		{"a module of another place", "insmod /evil.mod\n", "", []string{outside("insmod") + "insmod /evil.mod", "* " + newest, oldest}},
		{"all modules of another place", "set x=y prefix=/evil\n", "", []string{outside("set") + "set x=y prefix=/evil", "* " + newest, oldest}},
		{"all of another place, by the environment", "load_env\n", "prefix=$x/evil\n", []string{outside("grubenv") + "grubenv sets prefix, where the modules are", "* " + newest, oldest}},
		{"a table of the firmware in an entry", "menuentry x {\nacpi /evil.aml\nlinux /n init=/n\n}\n", "", []string{"* x | /n | init=/n ! it has the command acpi /evil.aml", newest, oldest}},
		{"an initrd that is not loaded", "menuentry x {\nlinux /n init=/n\ninitrd /evil\nif false; then initrd /i; fi\n}\n", "", []string{"* x | /n | /i | init=/n ! it has the command initrd twice", newest, oldest}},
		{"a device tree that is not loaded", "menuentry x {\nlinux /n init=/n\ndevicetree /evil\nif false; then devicetree /d; fi\n}\n", "", []string{"* x | /n | /d | init=/n ! it has the command devicetree twice", newest, oldest}},
		{"in an entry", "menuentry x { search y; linux /evil; initrd /i; }\n", "", []string{"* x | /evil | /i", newest, oldest}},
		{"twice in an entry", "menuentry x {\n'linux' /evil\nlinux /n init=/n\n}\n", "", []string{"* x | /n | init=/n ! it names two kernels", newest, oldest}},
		{"by a variable in an entry", "menuentry x {\nlinux /n init=/n\n$y\n}\n", "", []string{"* x | /n | init=/n ! it has the command $y ", newest, oldest}},
		{"an entry in an entry", "menuentry x {\nlinux /n init=/n\nmenuentry y {\ntrue\n}\n}\n", "", []string{"* x | /n | init=/n ! it has a menu of its own", newest, oldest}},
		{"an entry without a block", "menuentry x --source='linux /evil'\n", "", []string{"* x ! its commands are no block", newest, oldest}},
		{"a default", "set default=1\n", "", []string{newest, "* " + oldest}},
		{"a default without set", "default='1'\n", "", []string{newest, "* " + oldest}},
		{"a default by its id", "set default=old-id\n", "", []string{newest, "* " + oldest}},
		{"a default that is not there", "set default=7\n", "", []string{"* " + newest, oldest}},
		{"a default of the environment", "load_env\n", "default=1\n", []string{newest, "* " + oldest}},
		{"the saved one, of none", "set default=\"${saved_entry}\"\n", "", []string{"* " + newest, oldest}},
		{"the saved one", "set default=\"${saved_entry}\"\n", "saved_entry=old\n", []string{newest, "* " + oldest}},
		{"the saved one is set", "saved_entry=1\nset default=\"${saved_entry}\"\n", "", []string{newest, "* " + oldest}},
		{"any", "set default=$x$y\n", "", []string{"* " + newest, "* " + oldest}},
		{"any, by another command", "regexp --set 1:default (.) 1\n", "", []string{"* " + newest, "* " + oldest}},
		{"any, of another environment", "load_env -f /evil\n", "", []string{outside("load_env") + "load_env -f /evil", "* " + newest, "* " + oldest}},
		{"any, of another environment by short options", "load_env -sf /evil\n", "", []string{outside("load_env") + "load_env -sf /evil", "* " + newest, "* " + oldest}},
		{"any, of an environment by a value", "load_env $x\n", "", []string{outside("load_env") + "load_env $x", "* " + newest, "* " + oldest}},
		{"modules of another place by short options", "regexp -rs prefix (.*) /evil\n", "", []string{outside("regexp") + "regexp -rs prefix (.*) /evil", "* " + newest, oldest}},
		{"modules of another place by a value's options", "regexp $x (.*) /evil\n", "", []string{outside("regexp") + "regexp $x (.*) /evil", "* " + newest, oldest}},
		{"a default in hexadecimal digits", "set default=0x1\n", "", []string{newest, "* " + oldest}},
		{"a default with something behind it", "set default='1 new'\n", "", []string{newest, "* " + oldest}},
		{"a default of none", "set default=99999999999999999999\n", "", []string{"* " + newest, oldest}},
		{"a default in octal digits", "set default=01\n", "", []string{newest, "* " + oldest}},
		{"a title with a backslash", "set default='a\\b'\nmenuentry \"a\\b\" {\nlinux /x init=/x\n}\n", "", []string{`* a\b | /x | init=/x`, newest, oldest}},
		{"a title by a variable", "set default=zz\nmenuentry \"z$y\" {\nlinux /x init=/x\n}\n", "", []string{"* z$y | /x | init=/x", newest, oldest}},
		{"a title with an option's dash", "set default=--x\nmenuentry -- --x {\nlinux /x init=/x\n}\n", "", []string{"* --x | /x | init=/x", newest, oldest}},
		{"an entry that a condition leaves out", "if false; then\nmenuentry x {\nlinux /x init=/x\n}\nfi\n", "", []string{"* x | /x | init=/x", "* " + newest, oldest}},
		{"a named one that a condition leaves out", "set default=x\nif false; then\nmenuentry x {\nlinux /x init=/x\n}\nfi\n", "", []string{"* x | /x | init=/x", "* " + newest, oldest}},
		{"one that is not in its submenu", "set default='0>7'\nsubmenu s {\nmenuentry x {\nlinux /x init=/x\n}\nmenuentry y {\nlinux /y init=/y\n}\n}\n", "",
			[]string{"* s > x | /x | init=/x", "s > y | /y | init=/y", newest, oldest}},
		{"what is started if the default fails", "set fallback=1\n", "", []string{"* " + newest, "* " + oldest}},
		{"entries of another file", "syslinux_source /evil\n", "", []string{outside("syslinux_source") + "syslinux_source /evil", "* " + newest, oldest}},
		{"entries of another old file", "legacy_source /evil\n", "", []string{outside("legacy_source") + "legacy_source /evil", "* " + newest, oldest}},
		{"entries for images", "uki\n", "", []string{outside("uki") + "uki", "* " + newest, oldest}},
		{"modules of another place, by a loop", "for prefix in /evil; do true; done\n", "", []string{outside("for") + "for prefix in /evil", "* " + newest, oldest}},
		{"modules of another place, by a search", "search --set=prefix --file /evil\n", "", []string{outside("search") + "search --set=prefix --file /evil", "* " + newest, oldest}},
		{"modules of another place, by a pattern", "regexp --set 1:prefix (.*) /evil\n", "", []string{outside("regexp") + "regexp --set 1:prefix (.*) /evil", "* " + newest, oldest}},
		{"modules of another place, by a name that is computed", "set $x=/evil\n", "", []string{outside("set") + "set $x=/evil", "* " + newest, oldest}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, _ := Read([]Dir{mapDir{"grub/grub.cfg": test.text + menu, "grub/grubenv": test.env}}, Variables{})
			got := show(entries)
			for i := range got {
				got[i] = strings.Replace(got[i], "grub/grub.cfg: ", "", 1)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestGrubErrors: where GRUB finds no command it leaves out an entry, or all that follows, so
// that any other can be what it starts. Each was tried with its program grub-script-check.
func TestGrubErrors(t *testing.T) {
	const menu = "menuentry old {\nlinux /o init=/o\n}\nmenuentry new {\nlinux /n init=/n\n%s\n}\n"
	for _, test := range []struct {
		text string
		odd  bool
	}{
		{"set x=a>b", true}, {"set x=<", true}, {"a && b", true}, {"a | b", true}, {"a; ; b", true}, {"a\n; b", true}, {"a;;", true},
		{"if a; then ; fi", true}, {"if a; then b", true}, {"if a; then b; fi c", true}, {"fi", true}, {"done", true}, {"case", true},
		{"while a; do b; fi", true}, {"then", true}, {"set x=[[\nset y=a ]]", true}, {"}", true}, {"{", true}, {"set x=\"$\"", true},
		{"x { }", true}, {"{\nx\n}", true}, {"if a; fi", true}, {"if a; then then b; fi", true}, {"if a; then else b; fi", true}, {"function x", true},
		{"time if a; then b; fi", true}, {"! b", false}, {"set x=$-", true}, {"set x='", true}, {"set x=${a", true},
		{"set x=\"a$1\"", false}, {"set y=$?", false}, {"set x=${a}", false}, {"a;\nb", false}, {"if a\nthen\nb\nelse\nc\nfi", false},
		{"for i in a b; do echo $i; done", false}, {"if ! a; then b; fi", false}, {"if [ a ] ; then b ; fi", false}, {"echo done fi if", false},
		{"while a; do if b; then c; fi; done", false}, {"# it's > a comment", false}, {"echo '> & | ; ;'", false}, {"echo a\\>b", false},
	} {
		entries, problems := Read([]Dir{mapDir{"grub/grub.cfg": "set default=1\n" + fmt.Sprintf(menu, test.text)}}, Variables{})
		if odd := len(problems) > 0; odd != test.odd || len(entries) < 2 || entries[0].Default != test.odd {
			t.Errorf("%s: problems %v, entries %q", test.text, problems, show(entries))
		}
	}
}

// TestExtlinuxDefault: U-Boot takes a default from a label too, the first of two
// labels of one name, and what an included file names.
func TestExtlinuxDefault(t *testing.T) {
	const menu = "DEFAULT new\nLABEL new\nLINUX /n\nLABEL old\nLINUX /o\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"as it says", menu, []string{"* new | /n", "old | /o"}},
		{"none of its labels", "DEFAULT x\n" + menu[len("DEFAULT new\n"):], []string{"* new | /n", "old | /o"}},
		// Old ones of U-Boot take it, new ones only where nothing else is named.
		{"in a label", menu + "MENU\tDEFAULT\n", []string{"* new | /n", "* old | /o"}},
		{"only in a label", menu[len("DEFAULT new\n"):] + "MENU\tDEFAULT\n", []string{"new | /n", "* old | /o"}},
		{"where it falls back", "FALLBACK old\n" + menu, []string{"* new | /n", "* old | /o"}},
		{"a blank more", "DEFAULT old \n" + menu[len("DEFAULT new\n"):], []string{"* new | /n", "old | /o"}},
		{"two of one name", "LABEL new\nLINUX /evil\n" + menu, []string{"* new | /evil", "* new | /n", "old | /o"}},
		{"included", "include x\n" + menu, []string{"* include ! it includes x", "* new | /n", "old | /o"}},
		{"included by the menu", menu + "menu include x\n", []string{"* new | /n", "old | /o", "* include ! it includes x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, _ := Read([]Dir{mapDir{"extlinux/extlinux.conf": test.text}}, Variables{})
			got := show(entries)
			for i := range got {
				got[i] = strings.Replace(got[i], "extlinux/extlinux.conf: ", "", 1)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestSystemdText: systemd-boot takes a text apart in its own way.
func TestSystemdText(t *testing.T) {
	const good = "linux /n\ninitrd /i\noptions init=/n\n"
	const want = " | /n | /i | init=/n"
	for _, test := range []struct{ name, text, want string }{
		{"as it is", good, want},
		{"lines of another system", strings.ReplaceAll(good, "\n", "\r\n"), want},
		{"a line behind a carriage return", good + "title x\rlinux /evil\n", " | /evil | /i | init=/n"},
		{"a line behind a comment", good + "# x\rinitrd /evil\n", " | /n | /i | /evil | init=/n"},
		{"behind a zero byte", "linux /evil\ninitrd /i\noptions init=/n\n\x00\n" + good, " | /evil | /i | init=/n"},
		{"in quotes", strings.Replace(good, "/n", `"/n"`, 1), want},
		{"a key without a value", good + "linux\n", want},
		{"blanks that are none", strings.Replace(good, "/n\n", "/n\u00a0\n", 1), " | /n\u00a0 | /i | init=/n"},
		{"blanks", strings.ReplaceAll(strings.ReplaceAll(good, " ", " \t "), "\n", "\t \n \t"), want},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, problems := Read([]Dir{mapDir{"loader/entries/a.conf": test.text}}, Variables{})
			if diff := cmp.Diff([]string{"* a.conf" + test.want}, show(entries)); diff != "" || problems != nil {
				t.Errorf("%v, -want +got\n%s", problems, diff)
			}
		})
	}
	for _, test := range []struct{ name, text, want string }{
		{"behind a carriage return", "timeout 5\rdefault a.conf\r", "a.conf"},
		{"before a zero byte", "default a.conf\n\x00default b.conf\n", "a.conf"},
		{"before a special name", "default a.conf\ndefault @current\n", "a.conf"},
		{"the last one", "default b.conf\ndefault @SAVED\n", "a.conf"},
		{"in quotes", "default \t \"a.conf\" \n", "a.conf"},
	} {
		t.Run("default "+test.name, func(t *testing.T) {
			dir := mapDir{"loader/loader.conf": test.text, "loader/entries/a.conf": good, "loader/entries/b.conf": good}
			entries, _ := Read([]Dir{dir}, Variables{LastBooted: "a.conf"})
			for i := range entries {
				if e := &entries[i]; e.Default != (path.Base(e.File) == test.want) {
					t.Errorf("%s: %v", e.File, e.Default)
				}
			}
		})
	}
}

// TestExtlinuxText: U-Boot takes a text apart in its own way, and of some keys the
// first, of others the last.
func TestExtlinuxText(t *testing.T) {
	const good = "LABEL a\nLINUX /n\nINITRD /i\nAPPEND init=/n\n"
	const want = "* a | /n | /i | init=/n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"as it is", good, []string{want}},
		{"what it says to people", "TIMEOUT 5\n" + strings.ReplaceAll(good, "\n", "\n\n# x\nMENU LABEL x\nsay x\n"), []string{want}},
		{"a carriage return", strings.ReplaceAll(good, "\n", "\r\n"), []string{"* a\r | /n\r | /i\r | init=/n\r"}},
		{"a blank at the end", strings.ReplaceAll(good, "/n\n", "/n \n"), []string{"* a | /n  | /i | init=/n "}},
		{"another blank before", strings.ReplaceAll(good, "LINUX ", "LINUX\v"), []string{"* a | \v/n | /i | init=/n"}},
		{"behind a zero byte", "LABEL a\nLINUX /evil\n\x00\n" + good, []string{"* a | /evil"}},
		{"two initrds", strings.Replace(good, "INITRD", "INITRD /evil\nINITRD", 1), []string{want + " ! it says initrd twice"}},
		{"two kernels", good + "KERNEL /n\n", []string{want + " ! it says kernel twice"}},
		{"two directories of device trees", good + "FDTDIR /evil\nDEVICETREEDIR /d\n", []string{"* a | /n | /i | /d | init=/n ! it says devicetreedir twice"}},
		{"behind the end of the label", "LABEL a\nLINUX /n\nAPPEND init=/n\nTIMEOUT 5\nINITRD /i\n", []string{want + " ! initrd follows timeout, by which the entry ends"}},
		{"behind an unknown key", "LABEL a\nLINUX /n\nAPPEND init=/n\nHELLO\nINITRD /i\n", []string{want + " ! initrd follows hello, by which the entry ends"}},
		{"a part of an image", strings.Replace(good, "/n", "/n#x", 1), []string{"* a | /n#x | /i | init=/n ! it chooses a part of the image /n#x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, _ := Read([]Dir{mapDir{"extlinux/extlinux.conf": test.text}}, Variables{})
			got := show(entries)
			for i := range got {
				got[i] = strings.Replace(got[i], "extlinux/extlinux.conf: ", "", 1)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
