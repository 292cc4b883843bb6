package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/pkg/nar"
)

// listed walks an image and returns a line for each member.
func listed(t testing.TB, data []byte, name string, opts image.Options) (image.Format, []string, error) {
	t.Helper()
	var lines []string
	format, err := image.Walk(context.Background(), bytes.NewReader(data), int64(len(data)), name, opts, func(m image.Member) (io.WriteCloser, error) {
		if m.Type != nar.Regular {
			lines = append(lines, line(m.Name(), m.Type, m.Executable(), m.Target, ""))
			return nil, nil
		}
		h := sha256.New()
		return &closer{h, func() {
			lines = append(lines, line(m.Name(), m.Type, m.Executable(), "", fmt.Sprintf("%d %x", m.Size, h.Sum(nil))))
		}}, nil
	})
	sort.Strings(lines)
	return format, lines, err
}

type closer struct {
	io.Writer
	done func()
}

func (c *closer) Close() error { c.done(); return nil }

func line(name string, typ nar.Type, exec bool, target, contents string) string {
	if typ != nar.Regular {
		exec = false
	}
	return fmt.Sprintf("%q %s %v %q %s", name, typ, exec, target, contents)
}

// expected is listed of a tree on disk.
func expected(t testing.TB, tree, prefix string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, tree), "/")
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			lines = append(lines, line(prefix+rel, nar.Directory, false, "", ""))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			lines = append(lines, line(prefix+rel, nar.Symlink, false, target, ""))
		default:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			lines = append(lines, line(prefix+rel, nar.Regular, info.Mode()&0o100 != 0, "", fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return lines
}

func sameLines(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") == strings.Join(want, "\n") {
		return
	}
	have := map[string]bool{}
	for _, l := range got {
		have[l] = true
	}
	for _, l := range want {
		if !have[l] {
			t.Errorf("missing: %s", l)
		}
		delete(have, l)
	}
	for l := range have {
		t.Errorf("too many: %s", l)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rootless leaves out the line of the root, which archives do not have.
func rootless(lines []string, prefix string) []string {
	var out []string
	for _, l := range lines {
		if !strings.HasPrefix(l, fmt.Sprintf("%q directory", prefix)) {
			out = append(out, l)
		}
	}
	return out
}

// TestFormats reads images of one tree that real programs made, and finds what
// is on the disk.
func TestFormats(t *testing.T) {
	imagetest.Need(t, "mksquashfs", "xorriso", "cpio", "zstd", "xz")
	dir := t.TempDir()
	tree := imagetest.Tree(t, dir)
	out := filepath.Join(dir, "image")
	cases := []struct {
		name   string
		format image.Format
		make   func()
		root   bool
		strip  string // what the names of the image begin with
	}{
		{"squashfs zstd", image.Squashfs, func() { imagetest.Squashfs(t, tree, out, "-comp zstd -b 1048576 -no-hardlinks") }, true, ""},
		{"squashfs gzip", image.Squashfs, func() { imagetest.Squashfs(t, tree, out, "-comp gzip -b 4096") }, true, ""},
		{"squashfs xz", image.Squashfs, func() { imagetest.Squashfs(t, tree, out, "-comp xz -b 131072") }, true, ""},
		{"squashfs plain", image.Squashfs, func() { imagetest.Squashfs(t, tree, out, "-noI -noD -noF -no-fragments -b 8192") }, true, ""},
		{"squashfs always fragments", image.Squashfs, func() { imagetest.Squashfs(t, tree, out, "-comp zstd -always-use-fragments") }, true, ""},
		{"iso", image.ISO, func() { imagetest.ISO(t, tree, out) }, true, ""},
		{"iso zst", image.ISO, func() { imagetest.ISO(t, tree, out+"1"); imagetest.Shell(t, dir, "zstd -q -f image1 -o image") }, true, ""},
		{"cpio", image.Initrd, func() { imagetest.Cpio(t, tree, out, "cat") }, false, ""},
		{"initrd zstd", image.Initrd, func() { imagetest.Cpio(t, tree, out, "zstd -q") }, false, ""},
		{"initrd gzip", image.Initrd, func() { imagetest.Cpio(t, tree, out, "gzip -n") }, false, ""},
		{"initrd xz", image.Initrd, func() { imagetest.Cpio(t, tree, out, "xz --check=crc32") }, false, ""},
		{"tar", image.Tar, func() { imagetest.Shell(t, dir, "tar -C tree -cf image .") }, true, ""},
		{"tar gz", image.Tar, func() { imagetest.Shell(t, dir, "tar -C tree -cf - . | gzip -n >image") }, true, ""},
		{"tar xz pax", image.Tar, func() { imagetest.Shell(t, dir, "tar --format=pax -C tree -cf - . | xz -1 >image") }, true, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			os.Remove(out)
			c.make()
			format, got, err := listed(t, read(t, out), "initrd", image.Options{})
			if strings.HasPrefix(c.name, "tar") || strings.Contains(c.name, "iso") {
				format, got, err = listed(t, read(t, out), "x", image.Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
			if format != c.format {
				t.Errorf("format %s, want %s", format, c.format)
			}
			want := expected(t, tree, "")
			if !c.root {
				want = rootless(want, "")
			}
			sameLines(t, got, want)
		})
	}
}

// TestNested goes into the bundle of a netboot image as nixpkgs makes it: a
// compressed archive behind a plain one, and in it a squashfs.
func TestNested(t *testing.T) {
	imagetest.Need(t, "mksquashfs", "cpio", "zstd")
	dir := t.TempDir()
	tree := imagetest.Tree(t, dir)
	for _, compress := range []string{"zstd -q", "gzip -n", "zstd -q --no-check"} {
		t.Run(compress, func(t *testing.T) {
			imagetest.Shell(t, dir, `rm -rf early main second bundle; mkdir -p early/kernel main second bundle
echo microcode >early/kernel/ucode; echo init >main/init; chmod +x main/init`)
			imagetest.Squashfs(t, tree, filepath.Join(dir, "second/nix-store.squashfs"), "-comp zstd")
			imagetest.Cpio(t, filepath.Join(dir, "early"), filepath.Join(dir, "1"), "cat")
			imagetest.Cpio(t, filepath.Join(dir, "main"), filepath.Join(dir, "2"), compress)
			imagetest.Cpio(t, filepath.Join(dir, "second"), filepath.Join(dir, "3"), compress)
			imagetest.Shell(t, dir, `cat 1 2 3 >bundle/initrd; echo kernel >bundle/kernel; echo '#!ipxe' >bundle/netboot.ipxe
tar -C bundle --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -cf - . | gzip -n >bundle.tar.gz`)
			format, got, err := listed(t, read(t, filepath.Join(dir, "bundle.tar.gz")), "bundle.tar.gz", image.Options{})
			if err != nil || format != image.Tar {
				t.Fatal(format, err)
			}
			want := expected(t, filepath.Join(dir, "bundle"), "")
			for _, part := range []string{"early", "main", "second"} {
				want = append(want, rootless(expected(t, filepath.Join(dir, part), "initrd › "), "initrd › ")...)
			}
			want = append(want, expected(t, tree, "initrd › nix-store.squashfs › ")...)
			sameLines(t, got, want)
		})
	}
}

// TestISOWithImages goes into the squashfs and the initrd of an ISO image.
func TestISOWithImages(t *testing.T) {
	imagetest.Need(t, "mksquashfs", "xorriso", "cpio", "zstd")
	dir := t.TempDir()
	tree := imagetest.Tree(t, dir)
	imagetest.Shell(t, dir, "mkdir -p root/boot main; echo hi >main/init; echo kernel >root/boot/bzImage")
	imagetest.Squashfs(t, tree, filepath.Join(dir, "root/nix-store.squashfs"), "-comp zstd")
	imagetest.Cpio(t, filepath.Join(dir, "main"), filepath.Join(dir, "root/boot/initrd"), "zstd -q")
	imagetest.ISO(t, filepath.Join(dir, "root"), filepath.Join(dir, "image.iso"))
	_, got, err := listed(t, read(t, filepath.Join(dir, "image.iso")), "image.iso", image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := expected(t, filepath.Join(dir, "root"), "")
	want = append(want, rootless(expected(t, filepath.Join(dir, "main"), "boot/initrd › "), "boot/initrd › ")...)
	want = append(want, expected(t, tree, "nix-store.squashfs › ")...)
	sameLines(t, got, want)
}

// TestHostile alters images of each format at random, cuts them short, and
// wants an answer: never a panic, more members or bytes than allowed, and not
// the contents of something else.
func TestHostile(t *testing.T) {
	imagetest.Need(t, "mksquashfs", "xorriso", "cpio", "zstd", "xz")
	dir := t.TempDir()
	imagetest.Shell(t, dir, `mkdir -p tree/d/e; cd tree; seq 1 3000 >d/long; echo x >d/e/f; ln -s x d/l; for i in 1 2 3 4 5 6 7 8; do echo $i >d/e/$i; done`)
	tree := filepath.Join(dir, "tree")
	images := map[string]func(out string){
		"squashfs-gzip": func(out string) { imagetest.Squashfs(t, tree, out, "-comp gzip -b 4096") },
		"squashfs-zstd": func(out string) { imagetest.Squashfs(t, tree, out, "-comp zstd -b 4096") },
		"squashfs-xz":   func(out string) { imagetest.Squashfs(t, tree, out, "-comp xz -b 4096") },
		"squashfs":      func(out string) { imagetest.Squashfs(t, tree, out, "-noI -noD -noF -b 4096") },
		"iso":           func(out string) { imagetest.ISO(t, tree, out) },
		"initrd":        func(out string) { imagetest.Cpio(t, tree, out, "cat") },
		"initrd-zstd":   func(out string) { imagetest.Cpio(t, tree, out, "zstd -q") },
		"initrd-gzip":   func(out string) { imagetest.Cpio(t, tree, out, "gzip -n") },
		"initrd-xz":     func(out string) { imagetest.Cpio(t, tree, out, "xz") },
		"tar":           func(out string) { imagetest.Shell(t, dir, "tar -C tree -cf '"+out+"' .") },
		"tar.gz":        func(out string) { imagetest.Shell(t, dir, "tar -C tree -czf '"+out+"' .") },
	}
	limits := image.Limits{Members: 1000, Bytes: 32 << 20, Spool: 32 << 20}
	for name, make := range images {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(dir, name)
			make(out)
			data := read(t, out)
			if _, _, err := listed(t, data, name, image.Options{Limits: limits}); err != nil {
				t.Fatalf("as it is: %v", err)
			}
			interesting := len(data)
			r := rand.New(rand.NewSource(1))
			rounds := 400
			for i := range rounds {
				bad := bytes.Clone(data)
				switch i % 4 {
				case 0:
					bad = bad[:r.Intn(len(bad))]
				case 1:
					bad[r.Intn(min(200, interesting))] ^= 1 << r.Intn(8)
				default:
					// Tables are at the end of squashfs, at 32 KiB in ISO.
					from := 0
					if strings.HasPrefix(name, "squashfs") && len(bad) > 4096 {
						from = r.Intn(2) * (len(bad) - 4096)
					}
					if name == "iso" {
						from = 32 << 10
					}
					for range 1 + r.Intn(3) {
						bad[from+r.Intn(min(len(bad)-from, 24<<10))] = byte(r.Intn(256))
					}
				}
				_, lines, err := listed(t, bad, name, image.Options{Limits: limits})
				if len(lines) > int(limits.Members) {
					t.Fatalf("round %d: %d members", i, len(lines))
				}
				if err != nil && !errors.Is(err, image.ErrMalformed) && !errors.Is(err, image.ErrTooLarge) && !errors.Is(err, image.ErrUnsupported) {
					t.Fatalf("round %d: %v", i, err)
				}
				if err != nil && strings.Contains(err.Error(), "reading it failed") {
					t.Errorf("round %d: a panic: %v", i, err)
				}
			}
		})
	}
}

// TestLimits: an image that expands to more than is allowed ends the walk soon.
func TestLimits(t *testing.T) {
	imagetest.Need(t, "mksquashfs", "cpio", "zstd")
	dir := t.TempDir()
	imagetest.Shell(t, dir, "mkdir tree; truncate -s 64M tree/bomb; mkdir small; for i in $(seq 1 50); do : >small/$i; done")
	squash := filepath.Join(dir, "bomb.squashfs")
	imagetest.Squashfs(t, filepath.Join(dir, "tree"), squash, "-comp zstd -b 1048576")
	limits := image.Limits{Members: 20, Bytes: 1 << 20, Spool: 1 << 20}
	check := func(name string, data []byte) {
		t.Helper()
		if _, _, err := listed(t, data, name, image.Options{Limits: limits}); !errors.Is(err, image.ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
	}
	check("a squashfs with a hole of 64 MiB", read(t, squash))
	imagetest.Shell(t, dir, "tar -cf - tree | gzip -n >bomb.tar.gz; (cd tree && echo bomb | cpio -o -H newc --quiet) | zstd -q >initrd")
	check("bomb.tar.gz", read(t, filepath.Join(dir, "bomb.tar.gz")))
	check("initrd", read(t, filepath.Join(dir, "initrd")))
	imagetest.Cpio(t, filepath.Join(dir, "small"), filepath.Join(dir, "many"), "cat")
	check("many members", read(t, filepath.Join(dir, "many")))
	limits = image.Limits{Members: 1 << 20, Bytes: 1 << 30, Spool: 1 << 30, Held: 4 << 10}
	imagetest.Squashfs(t, filepath.Join(dir, "small"), filepath.Join(dir, "small.squashfs"), "")
	check("a squashfs with more names than may be held", read(t, filepath.Join(dir, "small.squashfs")))
	limits = image.Limits{Members: 20, Bytes: 1 << 20, Spool: 1 << 20}
	nested := read(t, squash)
	for range 9 {
		os.WriteFile(filepath.Join(dir, "inner.cpio"), nested, 0o644)
		imagetest.Shell(t, dir, "echo inner.cpio | cpio -o -H newc --quiet >outer.cpio")
		nested = read(t, filepath.Join(dir, "outer.cpio"))
	}
	if _, _, err := listed(t, nested, "nested.cpio", image.Options{Limits: limits}); !errors.Is(err, image.ErrTooLarge) && err != nil {
		t.Errorf("nested: %v", err)
	}
}

// TestErrorsOfTheCaller: errors of the caller's functions are returned unchanged.
func TestErrorsOfTheCaller(t *testing.T) {
	dir := t.TempDir()
	imagetest.Shell(t, dir, "mkdir tree; seq 1 10000 >tree/a; tar -czf x.tar.gz tree")
	data := read(t, filepath.Join(dir, "x.tar.gz"))
	full := errors.New("disk full")
	for name, visit := range map[string]image.Visit{
		"visit": func(image.Member) (io.WriteCloser, error) { return nil, full },
		"write": func(image.Member) (io.WriteCloser, error) { return failing{full}, nil },
	} {
		_, err := image.Walk(context.Background(), bytes.NewReader(data), int64(len(data)), "x.tar.gz", image.Options{}, visit)
		if !errors.Is(err, full) || errors.Is(err, image.ErrMalformed) {
			t.Errorf("%s: got %v, want the caller's own error", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := image.Walk(ctx, bytes.NewReader(data), int64(len(data)), "x.tar.gz", image.Options{}, func(image.Member) (io.WriteCloser, error) { return nil, nil })
	if !errors.Is(err, context.Canceled) || errors.Is(err, image.ErrMalformed) {
		t.Errorf("cancelled: got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error              { return f.err }

// TestEnds: a walk ends with its context, and not with the file that it reads.
func TestEnds(t *testing.T) {
	imagetest.Need(t, "mksquashfs")
	dir := t.TempDir()
	imagetest.Shell(t, dir, "mkdir tree; truncate -s 256M tree/large")
	out := filepath.Join(dir, "x.squashfs")
	imagetest.Squashfs(t, filepath.Join(dir, "tree"), out, "-b 1M")
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var read int64
	_, err = image.Walk(ctx, f, info.Size(), "x.squashfs", image.Options{}, func(m image.Member) (io.WriteCloser, error) {
		return &ender{cancel, &read}, nil
	})
	if !errors.Is(err, context.Canceled) || read > 16<<20 {
		t.Errorf("%v, after %d bytes", err, read)
	}
}

// ender ends a walk when it is written to.
type ender struct {
	end  func()
	read *int64
}

func (e *ender) Write(p []byte) (int, error) {
	e.end()
	*e.read += int64(len(p))
	return len(p), nil
}

func (e *ender) Close() error { return nil }
