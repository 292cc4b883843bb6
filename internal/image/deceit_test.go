package image_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/image/imagetest"
)

// TestDeceit alters images so that Linux would find other files in them than a plain
// reader does. Reading them must fail.
func TestDeceit(t *testing.T) {
	dir := t.TempDir()
	imagetest.Shell(t, dir, `mkdir -p tree/many; echo a >tree/aa; echo b >tree/bb
for i in $(seq 1 400); do : >tree/many/file-with-a-rather-long-name-$i; done`)
	tree, iso, squash, cpio := filepath.Join(dir, "tree"), filepath.Join(dir, "iso"), filepath.Join(dir, "squash"), filepath.Join(dir, "cpio")
	imagetest.ISO(t, tree, iso)
	imagetest.Squashfs(t, tree, squash, "-noI -noD -noF")
	imagetest.Cpio(t, tree, cpio, "cat")
	find := func(data []byte, what string) int {
		t.Helper()
		at := bytes.Index(data, []byte(what))
		if at < 0 {
			t.Fatalf("the image has no %q", what)
		}
		return at
	}
	// A name in a squashfs's directory comes after its length less one.
	entry := func(data []byte, name string) int { return find(data, "\x01\x00"+name) + 2 }
	index := func(data []byte) int {
		for i := range 400 {
			name := fmt.Sprintf("file-with-a-rather-long-name-%d", i+1)
			length := string(binary.LittleEndian.AppendUint32(nil, uint32(len(name)-1)))
			if at := bytes.Index(data, []byte(length+name)); at >= 0 {
				return at
			}
		}
		t.Fatal("the squashfs has no index")
		return 0
	}
	cases := []struct {
		name, file string
		alter      func(data []byte)
		want       error
	}{
		{"ISO: other bytes behind an attribute record", iso, func(d []byte) { d[find(d, "AA.;1")-33+1] = 1 }, image.ErrUnsupported},
		{"ISO: an associated file", iso, func(d []byte) { d[find(d, "AA.;1")-33+25] |= 4 }, image.ErrUnsupported},
		{"ISO: a name that Linux leaves", iso, func(d []byte) { d[find(d, "NM\x07\x01\x00aa")+4] = 4 }, image.ErrUnsupported},
		{"ISO: Joliet names alone", iso, func(d []byte) { d[find(d, "SP\x07\x01\xbe\xef")+4] = 0 }, image.ErrUnsupported},
		{"ISO: two primary volumes", iso, func(d []byte) { d[17*2048] = 1 }, image.ErrUnsupported},
		{"squashfs: one inode number for two files", squash, func(d []byte) { copy(d[entry(d, "bb")-6:][:2], d[entry(d, "aa")-6:][:2]) }, image.ErrMalformed},
		{"squashfs: names out of order", squash, func(d []byte) { d[entry(d, "aa")] = 'z' }, image.ErrMalformed},
		{"squashfs: an index that leads elsewhere", squash, func(d []byte) { d[index(d)-4] ^= 1 }, image.ErrMalformed},
		{"squashfs: an index to another place", squash, func(d []byte) { d[index(d)-8] ^= 8 }, image.ErrMalformed},
		{"squashfs: an index of another name", squash, func(d []byte) { d[index(d)+4] = 'a' }, image.ErrMalformed},
		{"cpio: an end that hides an archive", cpio, func(d []byte) { copy(d[find(d, "TRAILER!!!")-110+6+6*8:], "00000100") }, image.ErrMalformed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data := read(t, c.file)
			if _, _, err := listed(t, data, "initrd", image.Options{}); err != nil {
				t.Fatalf("as it is: %v", err)
			}
			c.alter(data)
			if _, _, err := listed(t, data, "initrd", image.Options{}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
