package netboot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

const goodScript = `#!ipxe
# Use the cmdline variable to allow the user to specify custom kernel params
kernel kernel init=/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system/init initrd=initrd loglevel=4 console=ttyS0,115200n8 ${cmdline}
initrd initrd
boot
`

// member is one of a test's archive; a type of 0 is a regular file.
type member struct {
	name, body string
	kind       byte
	link       string
}

func good(script string) []member {
	return []member{{name: "kernel", body: "the kernel"}, {name: "initrd", body: "the initrd"}, {name: "netboot.ipxe", body: script}}
}

func pack(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.body)), Typeflag: m.kind, Linkname: m.link}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpackTo unpacks into dir as a stage is made.
func unpackTo(ctx context.Context, in io.Reader, dir string) ([]byte, error) {
	return unpack(ctx, in, func(name string, in io.Reader) error {
		return writeFile(filepath.Join(dir, name), in)
	})
}

func TestUnpack(t *testing.T) {
	whole := pack(t, good(goodScript)...)
	huge := func() []byte { // a header that promises more than is allowed
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		if err := w.WriteHeader(&tar.Header{Name: "kernel", Size: 1 << 40, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		z.Close()
		return b.Bytes()
	}()
	with := func(m ...member) []byte { return pack(t, append(good(goodScript), m...)...) }
	for _, c := range []struct {
		name string
		data []byte
		want string // in the error; "" for none
	}{
		{"whole", whole, ""},
		{"as tar -C dir . packs it", pack(t, member{name: "./", kind: tar.TypeDir}, member{name: "./kernel", body: "the kernel"},
			member{name: "./initrd", body: "the initrd"}, member{name: "./netboot.ipxe", body: goodScript}), ""},
		{"not gzip", []byte("#!ipxe"), "not gzip"},
		{"empty", nil, "not gzip"},
		{"cut short", whole[:len(whole)-20], "unexpected EOF"},
		{"cut in a member", whole[:40], "tar archive"},
		{"one bit of its checksum", append(append([]byte{}, whole[:len(whole)-6]...), whole[len(whole)-6]^1, 0, 0, 0, 0, 0), "does not end"},
		{"without an initrd", pack(t, member{name: "kernel", body: "x"}, member{name: "netboot.ipxe", body: goodScript}), "has no initrd"},
		{"without anything", pack(t), "has no kernel"},
		{"a file too many", with(member{name: "autoexec.ipxe", body: "x"}), "autoexec.ipxe"},
		{"a file above", with(member{name: "../kernel", body: "x"}), "../kernel"},
		{"an absolute name", with(member{name: "/etc/passwd", body: "x"}), "/etc/passwd"},
		{"a file below", with(member{name: "sub/kernel", body: "x"}), "sub/kernel"},
		{"twice", with(member{name: "kernel", body: "another"}), "kernel twice"},
		{"twice in two ways", with(member{name: "./kernel", body: "another"}), "kernel twice"},
		{"a link", pack(t, member{name: "kernel", kind: tar.TypeSymlink, link: "/etc/shadow"}), "kernel is not a regular file"},
		{"a hard link", pack(t, member{name: "kernel", body: "x"}, member{name: "initrd", kind: tar.TypeLink, link: "kernel"}), "initrd is not a regular file"},
		{"a device", pack(t, member{name: "kernel", kind: tar.TypeChar}), "kernel is not a regular file"},
		{"a pipe", pack(t, member{name: "initrd", kind: tar.TypeFifo}), "initrd is not a regular file"},
		{"a directory", pack(t, member{name: "kernel", kind: tar.TypeDir}), "kernel is not a regular file"},
		{"an empty file", pack(t, member{name: "kernel"}), "kernel is empty"},
		{"more than is allowed", huge, "at most"},
		{"a script that is too long", pack(t, good(goodScript+strings.Repeat("#\n", maxScript))...), "at most"},
		{"the root twice", pack(t, append(good(goodScript), member{name: "./", kind: tar.TypeDir}, member{name: ".", kind: tar.TypeDir})...), `a member "."`},
		{"a name with a line's end", with(member{name: "kernel\n\x1b[2J", body: "x"}), `\n\x1b[2J`},
		{"a second stream of gzip", append(bytes.Clone(whole), pack(t, member{name: "evil", body: strings.Repeat("x", 2<<20)})...), "does not end"},
		{"something after the stream", append(bytes.Clone(whole), "more"...), "does not end"},
		{"much after the archive", func() []byte {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			w := tar.NewWriter(z)
			for _, m := range good(goodScript) {
				w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.body)), Typeflag: tar.TypeReg})
				w.Write([]byte(m.body))
			}
			w.Close()
			z.Write(make([]byte, 2<<20))
			z.Close()
			return b.Bytes()
		}(), "does not end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			script, err := unpackTo(t.Context(), bytes.NewReader(c.data), dir)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want an error with %q", err, c.want)
				}
				return
			}
			if string(script) != goodScript {
				t.Errorf("script: %q", script)
			}
			for name, want := range map[string]string{"kernel": "the kernel", "initrd": "the initrd"} {
				got, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 2 {
				t.Errorf("it wrote %d files", len(entries))
			}
		})
	}
}

// TestUnpackUnreadable: what this machine cannot read is no fault of the bundle,
// wherever in it that happens.
func TestUnpackUnreadable(t *testing.T) {
	whole := pack(t, good(goodScript+strings.Repeat("# filler that does not compress away: 93f1c0\n", 20))...)
	broken := errors.New("input/output error")
	for at := range len(whole) {
		in := io.MultiReader(bytes.NewReader(whole[:at]), iotest.ErrReader(broken))
		_, err := unpackTo(t.Context(), in, t.TempDir())
		var bad errBundle
		if !errors.Is(err, broken) || errors.As(err, &bad) {
			t.Fatalf("at byte %d: %v", at, err)
		}
	}
}

// TestUnpackEnds: a bundle that expands to headers without an end is left when
// the run ends.
func TestUnpackEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		var block bytes.Buffer
		if err := tar.NewWriter(&block).WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg}); err != nil {
			panic(err)
		}
		// A header of a kind that the reader of archives takes for a part of the
		// next one.
		skipped := block.Bytes()
		skipped[156] = tar.TypeGNULongName
		sum := 8 * int(' ')
		for i, b := range skipped {
			if i < 148 || i >= 156 {
				sum += int(b)
			}
		}
		copy(skipped[148:], fmt.Sprintf("%06o\x00 ", sum))
		for n := 0; ; n++ {
			if _, err := z.Write(skipped); err != nil {
				return
			}
			if n == 10_000 {
				cancel()
			}
		}
	}()
	if _, err := unpackTo(ctx, r, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestUnpackSparse: a file of holes is refused before any of it is written, in each
// of the forms that GNU tar has.
func TestUnpackSparse(t *testing.T) {
	for _, format := range []string{"--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1", "--format=pax --sparse-version=1.0"} {
		dir := t.TempDir()
		script := "cd " + dir + "; truncate -s 8G initrd; echo x >kernel; echo x >netboot.ipxe; tar --sparse " + format + " -cf - initrd kernel netboot.ipxe | gzip -n"
		data, err := exec.Command("sh", "-euc", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		if _, err := unpackTo(t.Context(), bytes.NewReader(data), out); err == nil || !strings.Contains(err.Error(), "initrd has holes") {
			t.Errorf("%s: %v", format, err)
		}
		if entries, _ := os.ReadDir(out); len(entries) != 0 {
			t.Errorf("%s: it wrote %v", format, entries)
		}
	}
}
