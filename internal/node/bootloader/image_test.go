package bootloader

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/tests/efiimage"
)

const nixosRelease = "ID=nixos\nVERSION_ID=\"26.05\"\n"

func section(name, data string) efiimage.Section {
	return efiimage.Section{Name: name, Data: []byte(data)}
}

func makeImage(more ...efiimage.Section) []byte {
	return efiimage.Make(append([]efiimage.Section{section(".text", "stub"), section(".osrel", nixosRelease), section(".linux", "kernel")}, more...)...)
}

func readImage(t *testing.T, data []byte) (*Image, error) {
	t.Helper()
	return ReadImage(mapFile{strings.NewReader(string(data))})
}

func TestReadImage(t *testing.T) {
	good := makeImage(section(".cmdline", "init=/a quiet\x00\x00"))
	image, err := readImage(t, good)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range image.Parts() {
		data := make([]byte, p.Size)
		if _, err := p.Open().ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Name+"="+string(data))
	}
	if diff := cmp.Diff([]string{".text=stub", ".osrel=" + nixosRelease, ".linux=kernel", ".cmdline=init=/a quiet\x00\x00"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if line, err := image.CommandLine(); line != "init=/a quiet" || err != nil {
		t.Errorf("command line %q, %v", line, err)
	}
	// entry returns where section n stands in the table.
	entry := func(data []byte, n int) []byte {
		at := int(binary.LittleEndian.Uint32(data[0x3c:]))
		return data[at+24+int(binary.LittleEndian.Uint16(data[at+20:]))+40*n:]
	}
	for _, test := range []struct {
		name string
		do   func(data []byte) []byte
		want string
	}{
		{"empty", func([]byte) []byte { return nil }, "it ends too early"},
		{"a text", func([]byte) []byte { return bytes.Repeat([]byte("x"), 100) }, "it does not begin with MZ"},
		{"its header is far", func(data []byte) []byte { binary.LittleEndian.PutUint32(data[0x3c:], 1<<31); return data }, "its header lies at byte"},
		{"many sections", func(data []byte) []byte { binary.LittleEndian.PutUint16(data[0x46:], 97); return data }, "it has 97 sections"},
		{"a section is cut off", func(data []byte) []byte { return data[:len(data)-4096] }, "ends behind it"},
		{"two of one name", func(data []byte) []byte { return efiimage.Add(data, section(".linux", "evil")) }, "two sections \".linux\""},
		{"over another", func(data []byte) []byte {
			copy(entry(data, 3)[12:16], entry(data, 2)[12:16])
			return data
		}, "overlaps what is before it"},
		{"over the end of another", func(data []byte) []byte {
			binary.LittleEndian.PutUint32(entry(data, 2)[8:], 1<<20)
			return data
		}, "overlaps what is before it"},
		{"over the headers", func(data []byte) []byte {
			binary.LittleEndian.PutUint32(entry(data, 3)[12:], 64)
			return data
		}, "overlaps what is before it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := readImage(t, test.do(slices.Clone(good)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	other, err := readImage(t, efiimage.Add(good, section(".dtb", "tree")))
	if err != nil || !image.StartsAs(other) {
		t.Errorf("with a section more it does not start as it does without: %v", err)
	}
	moved := slices.Clone(good)
	binary.LittleEndian.PutUint32(moved[0x40+24+16:], 0x2000)
	if other, err = readImage(t, moved); err != nil || image.StartsAs(other) {
		t.Errorf("with another entry point it starts as it does without: %v", err)
	}
}

// TestReadUnified: images are found where systemd-boot looks for them, and by an entry.
func TestReadUnified(t *testing.T) {
	image := string(makeImage(section(".cmdline", "init=/a")))
	newer := string(efiimage.Make(section(".osrel", "ID=nixos\nVERSION_ID=26.11\n"), section(".cmdline", "init=/b")))
	for _, test := range []struct {
		name string
		dir  mapDir
		want []string
	}{
		{"the newest by its release", mapDir{"EFI/Linux/a.efi": newer, "EFI/Linux/b.efi": image}, []string{
			"* a.efi = EFI/Linux/a.efi | init=/b", "b.efi = EFI/Linux/b.efi | init=/a",
		}},
		{"its tries are used up", mapDir{"EFI/Linux/a+0-3.efi": newer, "EFI/Linux/b.efi": image}, []string{
			"a+0-3.efi = EFI/Linux/a+0-3.efi | init=/b", "* b.efi = EFI/Linux/b.efi | init=/a",
		}},
		{"by an entry", mapDir{"EFI/nixos/x-uki.efi": image, "loader/entries/a.conf": "uki /EFI/nixos/x-uki.efi\n"}, []string{
			"* a.conf = EFI/nixos/x-uki.efi | init=/a",
		}},
		{"by an entry with other options", mapDir{"EFI/nixos/x-uki.efi": image, "loader/entries/a.conf": "uki \\EFI\\nixos\\x-uki.efi\noptions init=/evil\n"}, []string{
			"* a.conf = EFI/nixos/x-uki.efi | init=/evil",
		}},
		{"by an entry, one of its profiles", mapDir{"x.efi": image, "loader/entries/a.conf": "uki /x.efi\nprofile 1\n"}, []string{
			"* a.conf = x.efi | init=/a ! it chooses the profile 1",
		}},
		{"by an entry, and there is none", mapDir{"loader/entries/a.conf": "uki /x.efi\n"}, []string{
			"* a.conf = x.efi ! the unified kernel image x.efi can't be read: file does not exist",
		}},
		{"a kernel too", mapDir{"x.efi": image, "loader/entries/a.conf": "uki /x.efi\nlinux /k\n"}, []string{
			"* a.conf = x.efi | /k | init=/a ! it names a kernel and the image x.efi",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, problems := Read([]Dir{test.dir}, Variables{})
			if len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			got := show(entries)
			for i := range got {
				name := strings.TrimPrefix(got[i], "* ")
				if j := strings.IndexAny(name, " "); j >= 0 {
					name = name[:j]
				}
				got[i] = strings.Replace(got[i], name, name+" = "+entries[i].Image, 1)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// FuzzReadImage: of a hostile image nothing is read but what is in it.
func FuzzReadImage(f *testing.F) {
	f.Add(makeImage(section(".cmdline", "init=/a")))
	f.Add(makeImage(section(".initrd", strings.Repeat("x", 5000)), section(".dtb", "d")))
	f.Fuzz(func(t *testing.T, data []byte) {
		image, err := readImage(t, data)
		if err != nil {
			return
		}
		var sum int64
		for _, p := range image.Parts() {
			content := make([]byte, p.Size)
			if n, err := p.Open().ReadAt(content, 0); int64(n) != p.Size {
				t.Errorf("%q: %d of %d bytes, %v", p.Name, n, p.Size, err)
			}
			if sum += p.Size; sum > int64(maxParts)*int64(len(data)) {
				t.Errorf("more bytes than the file has")
			}
		}
		if _, err := image.CommandLine(); err == nil && !image.StartsAs(image) {
			t.Error("it is not itself")
		}
	})
}
