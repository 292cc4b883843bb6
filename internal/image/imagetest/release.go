package imagetest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Configuration is the configuration of this package's releases, Tag their default tag.
const (
	Configuration = "ec-runner-x86_64-netboot"
	Tag           = "boot-v2026.02.28"
)

// The store paths of this package's releases.
const (
	Kernel   = "11111111111111111111111111111111-linux-6.12"
	InitrdP  = "22222222222222222222222222222222-initrd-linux"
	Program  = "33333333333333333333333333333333-program-1"
	Toplevel = "44444444444444444444444444444444-nixos-system-ec"
)

// StoreImage is the store path of the squashfs in the netboot image's initrd, to which
// the link nix-store.squashfs in its root leads.
const StoreImage = "66666666666666666666666666666666-squashfs.img"

// SecondArchive is a shell command that writes second.cpio from the directory second as
// nixpkgs' makeInitrdNG does: with the root, the directories on the way and an empty one.
const SecondArchive = `(cd second && find . -exec touch -h -d @1 {} + && find . -print0 | LC_ALL=C sort -z | cpio --quiet -o -H newc -R +0:+0 --reproducible --null | zstd -q >../second.cpio)`

// Names of the images of a release.
const (
	Bundle  = "ec-runner-x86_64-netboot-" + Tag + ".tar.gz"
	ISOName = "ec-runner-x86_64-netboot-" + Tag + ".iso"
)

// A Build is a store and the release made from it.
type Build struct {
	Dir   string // where everything is
	Store string // the store's paths
	Out   string // the release
}

// In returns the build that is, or will be, in dir.
func In(dir string) *Build {
	return &Build{Dir: dir, Store: filepath.Join(dir, "store"), Out: filepath.Join(dir, "release")}
}

// NewBuild creates a store in dir with a small system.
func NewBuild(t testing.TB, dir string) *Build {
	t.Helper()
	Need(t, "mksquashfs", "xorriso", "cpio", "zstd")
	b := In(dir)
	Shell(t, dir, `mkdir -p store/`+Kernel+` store/`+InitrdP+` store/`+Program+`/bin store/`+Program+`/share store/`+Toplevel+` main
seq 1 5000 >store/`+Kernel+`/bzImage
echo '#!/bin/sh' >main/init; chmod +x main/init; seq 1 3000 >main/module; find main -exec touch -d @1 {} +
cat >store/`+Program+`/bin/program <<'END'
#!/bin/sh
echo a program
END
chmod +x store/`+Program+`/bin/program; seq 1 40000 >store/`+Program+`/share/data
echo latin >"$(printf 'store/`+Program+`/share/caf\351')"; ln -s ../bin/program store/`+Program+`/share/link
cd store/`+Toplevel+`; echo '#!/bin/sh' >init; chmod +x init; printf 'console=ttyS0' >kernel-params
ln -s /nix/store/`+Kernel+`/bzImage kernel; ln -s /nix/store/`+InitrdP+`/initrd initrd; ln -s /nix/store/`+Program+` sw`)
	Cpio(t, filepath.Join(dir, "main"), filepath.Join(b.Store, InitrdP, "initrd"), "zstd -q")
	return b
}

// Images writes the images of the current store into the release.
func (b *Build) Images(t testing.TB) {
	t.Helper()
	Shell(t, b.Dir, `mkdir -p release; rm -rf bundle second isoroot; mkdir -p bundle second/nix/store second/var/empty isoroot/boot
find store -exec touch -h -d @1 {} +
: >nix-path-registration`)
	Shell(t, b.Dir, b.registration(t)+`touch -d @1 nix-path-registration
ln -s /nix/store/`+StoreImage+` second/nix-store.squashfs
mksquashfs nix-path-registration $(ls -d store/*) second/nix/store/`+StoreImage+` -no-hardlinks -keep-as-directory -all-root -comp zstd -b 131072 -processors 1 -root-mode 0755 -quiet -no-progress -noappend >/dev/null
chmod 444 second/nix/store/`+StoreImage+`
`+SecondArchive)
	Shell(t, b.Dir, `cp store/`+Kernel+`/bzImage bundle/kernel
cat store/`+InitrdP+`/initrd second.cpio >bundle/initrd
printf '#!ipxe\nkernel kernel init=/nix/store/`+Toplevel+`/init initrd=initrd console=ttyS0 ${cmdline}\ninitrd initrd\nboot\n' >bundle/netboot.ipxe
chmod 644 bundle/*
tar -C bundle --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --format=gnu -cf - initrd kernel netboot.ipxe | gzip -n >release/`+Bundle+`
cp second/nix/store/`+StoreImage+` isoroot/nix-store.squashfs; cp store/`+Kernel+`/bzImage isoroot/boot/bzImage; cp store/`+InitrdP+`/initrd isoroot/boot/initrd
mkdir -p isoroot/EFI/boot isoroot/isolinux
cat >isoroot/EFI/boot/grub.cfg <<'END'
# as nixpkgs writes it, but for the colours
search --set=root --file /EFI/nixos-installer-image
menuentry 'NixOS' --class installer {
  linux /boot/bzImage ${isoboot} init=/nix/store/`+Toplevel+`/init  console=ttyS0 copytoram
  initrd /boot/initrd
}
menuentry 'rEFInd' --class refind {
  chainloader ($root)/EFI/boot/refind_x64.efi
}
END
cat >isoroot/isolinux/isolinux.cfg <<'END'
UI vesamenu.c32
LABEL boot
MENU LABEL NixOS
LINUX /boot/bzImage
APPEND init=/nix/store/`+Toplevel+`/init console=ttyS0 nomodeset
INITRD /boot/initrd

LABEL memtest
LINUX /boot/memtest.bin
APPEND console=ttyS0,115200
END
find isoroot -exec touch -h -d @1 {} +`)
	ISO(t, filepath.Join(b.Dir, "isoroot"), filepath.Join(b.Out, ISOName))
}

// registration returns a shell command that writes what Nix registers at boot.
func (b *Build) registration(t testing.TB) string {
	t.Helper()
	var text bytes.Buffer
	for _, info := range b.paths(t) {
		text.WriteString(string(info.Path) + "\n" + info.NarHash.Base32() + "\n")
		text.WriteString(itoa(info.NarSize) + "\n\n" + itoa(int64(len(info.References))) + "\n")
		for _, r := range info.References {
			text.WriteString(string(r) + "\n")
		}
	}
	return "cat >nix-path-registration <<'END'\n" + text.String() + "END\n"
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (b *Build) paths(t testing.TB) []closure.PathInfo {
	t.Helper()
	path := func(base string) closure.StorePath { return closure.StorePath("/nix/store/" + base) }
	var out []closure.PathInfo
	for _, base := range []string{Kernel, InitrdP, Program, Toplevel} {
		sum, err := nar.HashPath(context.Background(), filepath.Join(b.Store, base), nar.Options{})
		if err != nil {
			t.Fatal(err)
		}
		info := closure.PathInfo{Path: path(base), NarHash: sum.Hash, NarSize: sum.Size}
		if base == Toplevel {
			info.References = []closure.StorePath{path(Kernel), path(InitrdP), path(Program)}
		}
		out = append(out, info)
	}
	return out
}

// Manifest writes the manifest and listing of the current store, and release.json, into
// the release.
func (b *Build) Manifest(t testing.TB) {
	t.Helper()
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		t.Fatal(err)
	}
	m := closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: Configuration, System: "x86_64-linux", StoreDir: closure.DefaultStoreDir,
		Source:   closure.Source{NarHash: nar.Hash{1}},
		Toplevel: closure.Toplevel{DrvPath: "/nix/store/" + Toplevel + ".drv", OutPath: "/nix/store/" + Toplevel},
		Paths:    b.paths(t),
	}
	data, err := m.Encode()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(b.Out, release.ManifestName(Configuration)), data, 0o644))
	var listing bytes.Buffer
	w, err := closure.NewListingWriter(&listing, Configuration)
	must(t, err)
	for _, info := range m.Paths {
		files := closure.PathFiles{Path: info.Path, NarHash: info.NarHash}
		_, err := nar.HashPath(context.Background(), filepath.Join(b.Store, info.Path.Base()), nar.Options{OnEntry: func(e nar.Entry) error {
			files.Files = append(files.Files, e)
			return nil
		}})
		must(t, err)
		must(t, w.Add(files))
	}
	must(t, w.Close())
	must(t, os.WriteFile(filepath.Join(b.Out, release.ListingName(Configuration)), listing.Bytes(), 0o644))
	created := time.Now().UTC().Truncate(24 * time.Hour)
	must(t, release.WriteInfo(b.Out, release.Info{Tag: Tag, CreatedAt: created, BestBefore: created.AddDate(0, 0, 90)}))
}

// Sums writes SHA256SUMS.txt over the release.
func (b *Build) Sums(t testing.TB) {
	t.Helper()
	must(t, release.WriteSums(context.Background(), b.Out))
}

// Release writes the whole release of the current store.
func (b *Build) Release(t testing.TB) {
	t.Helper()
	b.Images(t)
	b.Manifest(t)
	b.Sums(t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
