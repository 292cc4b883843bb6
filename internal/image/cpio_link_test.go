package image_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/image/imagetest"
)

// TestCpioLinks reads archives of files with several names, whose contents
// cpio puts behind the last of them.
func TestCpioLinks(t *testing.T) {
	dir := t.TempDir()
	imagetest.Shell(t, dir, `
mkdir -p tree/sub inner; cd tree
echo contents >a; ln a b; ln a sub/c; echo x >between; : >empty; ln empty nothing
echo elsewhere >only; ln only ../outside; seq 1 100000 >z-large; ln z-large sub/large; chmod +x sub/large
(cd ../inner; echo inner >file; ln file link; ls | cpio -o -H newc --quiet) >initrd-1; ln initrd-1 initrd-2`)
	archive := filepath.Join(dir, "archive")
	imagetest.Cpio(t, filepath.Join(dir, "tree"), archive, "cat")
	_, got, err := listed(t, read(t, archive), "initrd", image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := rootless(expected(t, filepath.Join(dir, "tree"), ""), "")
	// One file is gone into once.
	want = append(want, rootless(expected(t, filepath.Join(dir, "inner"), "initrd-2 › "), "initrd-2 › ")...)
	slices.Sort(want)
	sameLines(t, got, want)

	imagetest.Shell(t, dir, "mkdir two; cd two; printf 1234 >a; ln a b; (echo a; echo b) | cpio -o -H newc --quiet >../two.cpio")
	two := read(t, filepath.Join(dir, "two.cpio"))
	const node, links = 112, 6 + 4*8
	edited := func(edit func([]byte) []byte) []byte { return edit(bytes.Clone(two)) }
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"as it is", two, nil},
		{"another number of names", edited(func(d []byte) []byte { copy(d[links:], "00000009"); return d }), nil},
		// To Linux, what comes behind the contents is the same file.
		{"a name behind the contents", edited(func(d []byte) []byte {
			return slices.Concat(d[node:2*node+4], d[:node], d[2*node+4:])
		}), image.ErrUnsupported},
	} {
		_, lines, err := listed(t, c.data, "initrd", image.Options{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.want == nil {
			sameLines(t, lines, expected(t, filepath.Join(dir, "two"), "")[1:])
		}
	}
}
