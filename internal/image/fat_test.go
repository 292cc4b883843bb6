package image_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/image/imagetest"
)

const maxNames = 1000

// filesOf returns the files of a FAT by name, at most largest bytes each, and "a directory" for directories.
func filesOf(f *image.FAT, largest int64) (map[string]string, error) {
	files := make(map[string]string)
	var walk func(dir string, depth int) error
	walk = func(dir string, depth int) error {
		names, err := f.Names(dir, maxNames)
		if err != nil {
			return err
		}
		for _, name := range names {
			name = path.Join(dir, name)
			data, err := f.ReadFile(name, largest)
			switch {
			case err == nil:
				files[name] = string(data)
			case !errors.Is(err, syscall.EISDIR):
				return err
			case depth < 8:
				files[name] = "a directory"
				if err := walk(name, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := walk(".", 0)
	return files, err
}

func openFAT(t testing.TB, data []byte) *image.FAT {
	t.Helper()
	f, err := image.OpenFAT(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fatTree is a tree with names and sizes that readers of FAT get wrong.
func fatTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	imagetest.Shell(t, dir, `
mkdir -p tree/EFI/BOOT/deep/er/still tree/empty tree/many; cd tree
echo boot >EFI/BOOT/BOOTX64.EFI; echo menu >EFI/BOOT/grub.cfg; : >EFI/BOOT/empty
echo lower >plain.txt; echo upper >PLAIN2.TXT; echo mixed >Mixed.Cfg; echo dots >a.b.c.d
echo 13 >thirteen.char; echo 26 >twenty-six-characters.text; echo blank >'with blanks'
echo umlaut >"$(printf '\303\244\303\244 and a long name.txt')"
echo long >"$(printf 'x%.0s' {1..200}).txt"
for n in 511 512 513 2047 2048 2049 4096 70000; do head -c $n /dev/urandom >EFI/BOOT/deep/er/$n; done
for i in $(seq 1 300); do echo $i >many/file-with-a-rather-long-name-$i; done`)
	return filepath.Join(dir, "tree")
}

func treeFiles(t *testing.T, tree string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(tree), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case d.IsDir():
			files[name] = "a directory"
			return nil
		}
		data, err := os.ReadFile(filepath.Join(tree, name))
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestFAT: what mtools writes into what mkfs.fat makes is read as it is.
func TestFAT(t *testing.T) {
	tree := fatTree(t)
	want := treeFiles(t, tree)
	for _, test := range []struct {
		name    string
		bits    int
		size    int64
		options string
	}{
		{"FAT12", 12, 2 << 20, ""},
		{"FAT12 with large clusters", 12, 16 << 20, "-s 32"},
		{"FAT16", 16, 16 << 20, ""},
		{"FAT16 with large sectors", 16, 32 << 20, "-S 4096 -s 1"},
		{"FAT16 with one table and a large root", 16, 16 << 20, "-f 1 -r 2048"},
		{"FAT32", 32, 64 << 20, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "fat")
			imagetest.FAT(t, tree, out, test.bits, test.size, test.options)
			// What is deleted leaves records, and pieces for the file that comes next.
			imagetest.Shell(t, dir, `
				truncate -s 300000 first-long-name; truncate -s 5000 a-second-file; seq 1 50000 >third
				mcopy -i fat first-long-name ::/; mcopy -i fat a-second-file ::/
				mdel -i fat ::/first-long-name; mcopy -i fat third ::/; fsck.fat -n fat`)
			want := maps.Clone(want)
			want["a-second-file"], want["third"] = strings.Repeat("\x00", 5000), string(read(t, filepath.Join(dir, "third")))
			got, err := filesOf(openFAT(t, read(t, out)), 1<<20)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v; -want +got\n%.2000s", err, diff)
			}
		})
	}
}

// TestFATNames: names are found as a firmware finds them, and what is not there is said.
func TestFATNames(t *testing.T) {
	out := filepath.Join(t.TempDir(), "fat")
	imagetest.FAT(t, fatTree(t), out, 12, 2<<20)
	f := openFAT(t, read(t, out))
	for _, test := range []struct {
		name, want string
		err        error
	}{
		{"EFI/BOOT/grub.cfg", "menu\n", nil},
		{"efi/boot/GRUB.CFG", "menu\n", nil},
		{"EFI/BOOT/empty", "", nil},
		{"twenty~1.tex", "", image.ErrUnsupported}, // its short name, of which GRUB knows nothing
		{"EFI/BOOT/grub.cfg.", "", image.ErrUnsupported},
		{"with blan\u212as", "", image.ErrUnsupported}, // with the sign of the unit kelvin
		{"EFI/BOOT", "", syscall.EISDIR},
		{"EFI/BOOT/grub.cfg/x", "", syscall.ENOTDIR},
		{"EFI/BOOT/none", "", fs.ErrNotExist},
		{"EFI/../plain.txt", "", fs.ErrInvalid},
		{"/plain.txt", "", fs.ErrInvalid},
		{"EFI/BOOT/deep/er/70000", "", image.ErrTooLarge},
	} {
		got, err := f.ReadFile(test.name, 1000)
		if string(got) != test.want || !errors.Is(err, test.err) || test.err == nil && err != nil {
			t.Errorf("%s: %q, %v; want %q, %v", test.name, got, err, test.want, test.err)
		}
	}
	if _, err := f.Names("plain.txt", 9); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file as a directory: %v", err)
	}
	if _, err := f.Names("many", 9); !errors.Is(err, image.ErrTooLarge) {
		t.Errorf("more names than asked for: %v", err)
	}
	file, err := f.Open("EFI/BOOT/deep/er/70000")
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, 70000)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, 1<<20), whole); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		at, n := rand.IntN(70001), rand.IntN(70000)
		part := make([]byte, n)
		got, err := file.ReadAt(part, int64(at))
		if end := min(at+n, len(whole)); !bytes.Equal(part[:got], whole[at:end]) || (err == nil) != (got == n) {
			t.Errorf("%d bytes at %d: %d, %v", n, at, got, err)
		}
	}
}

// TestFATDeceit: what two readers could take for other files, or what has no end, is refused.
func TestFATDeceit(t *testing.T) {
	dir := t.TempDir()
	imagetest.Shell(t, dir, `mkdir -p tree/sub; cd tree; head -c 3000 /dev/zero >SHORT.BIN; echo a >a-long-name-of-a-file; echo b >sub/b; : >EMPTY`)
	out := filepath.Join(dir, "fat")
	imagetest.FAT(t, filepath.Join(dir, "tree"), out, 12, 2<<20, "-s 1")
	out32 := filepath.Join(dir, "fat32")
	imagetest.FAT(t, filepath.Join(dir, "tree"), out32, 32, 36<<20, "-s 1")
	le := binary.LittleEndian
	record := func(d []byte, name string) int {
		t.Helper()
		at := bytes.Index(d, []byte(name))
		if at < 0 {
			t.Fatalf("there is no %q", name)
		}
		return at
	}
	const short, alias, empty, sub = "SHORT   BIN", "A-LONG~1   ", "EMPTY      ", "SUB        "
	// entry sets one of FAT12's, in both tables.
	entry := func(d []byte, cluster, value uint16) {
		for table := range 2 {
			at := (int(le.Uint16(d[14:]))+table*int(le.Uint16(d[22:])))*512 + int(cluster)*3/2
			was := le.Uint16(d[at:])
			if cluster%2 == 1 {
				le.PutUint16(d[at:], was&0xf|value<<4)
			} else {
				le.PutUint16(d[at:], was&0xf000|value)
			}
		}
	}
	clusterOf := func(d []byte, name string) uint16 { return le.Uint16(d[record(d, name)+26:]) }
	for _, test := range []struct {
		name string
		wide bool
		do   func(d []byte)
		want error
	}{
		{"as it is", false, func([]byte) {}, nil},
		{"FAT32 as it is", true, func([]byte) {}, nil},
		{"no FAT", false, func(d []byte) { clear(d[:512]) }, image.ErrMalformed},
		{"cut off", false, func(d []byte) { le.PutUint16(d[19:], 5000) }, image.ErrMalformed},
		{"two sizes", false, func(d []byte) { le.PutUint32(d[32:], 4000) }, image.ErrUnsupported},
		{"no sectors in a cluster", false, func(d []byte) { d[13] = 0 }, image.ErrMalformed},
		{"a sector of one byte", false, func(d []byte) { le.PutUint16(d[11:], 1) }, image.ErrMalformed},
		{"a table that is too short", false, func(d []byte) { le.PutUint16(d[22:], 1) }, image.ErrMalformed},
		{"a number of clusters that is FAT12 to one and FAT16 to another", false, func(d []byte) {
			// 4096 sectors, less the table and the root: as many as are wanted.
			rest := int(le.Uint16(d[14:])) + 2*int(le.Uint16(d[22:])) + int(le.Uint16(d[17:]))*32/512
			le.PutUint16(d[19:], uint16(4085+rest))
			le.PutUint32(d[32:], 0)
		}, image.ErrUnsupported},
		{"one of two tables in use", true, func(d []byte) { d[40] = 0x81 }, image.ErrUnsupported},
		{"a root that is no cluster", true, func(d []byte) { le.PutUint32(d[44:], 1) }, image.ErrMalformed},
		{"high bits of a cluster in FAT12", false, func(d []byte) { d[record(d, short)+20] = 1 }, image.ErrUnsupported},
		{"two files of one name", false, func(d []byte) { copy(d[record(d, empty):], short) }, image.ErrMalformed},
		{"a file whose name is another's short name", false, func(d []byte) { copy(d[record(d, empty):], alias) }, image.ErrMalformed},
		{"a long name of another file", false, func(d []byte) { d[record(d, alias)] = 'B' }, image.ErrMalformed},
		{"a long name that is not whole", false, func(d []byte) { d[record(d, alias)-32] = 2 }, image.ErrMalformed},
		{"a long name of a deleted file", false, func(d []byte) { d[record(d, alias)] = 0xe5 }, image.ErrMalformed},
		{"a name with a slash", false, func(d []byte) { d[record(d, short)] = '/' }, image.ErrMalformed},
		{"a file that ends too early", false, func(d []byte) { entry(d, clusterOf(d, short), 0xfff) }, image.ErrMalformed},
		{"a file with a bad cluster", false, func(d []byte) { entry(d, clusterOf(d, short), 0xff7) }, image.ErrMalformed},
		{"a file that goes on where nothing is", false, func(d []byte) { entry(d, clusterOf(d, short), 0xff0) }, image.ErrMalformed},
		{"a file that is larger than its clusters", false, func(d []byte) { le.PutUint32(d[record(d, short)+28:], 1<<31) }, image.ErrMalformed},
		{"an attribute that GRUB does not know", false, func(d []byte) { d[record(d, short)+11] |= 0x80 }, image.ErrUnsupported},
		{"an attribute that GRUB does not know of a long name", false, func(d []byte) { d[record(d, alias)-32+11] |= 0x40 }, image.ErrUnsupported},
		{"files behind the end of a directory", false, func(d []byte) { d[min(record(d, short), record(d, sub))] = 0 }, image.ErrMalformed},
		{"two tables that differ", false, func(d []byte) { d[int(le.Uint16(d[14:])+le.Uint16(d[22:]))*512+int(clusterOf(d, short))*3/2]++ }, image.ErrUnsupported},
		{"upper bits of a cluster in FAT32", true, func(d []byte) {
			for table := range 2 {
				at := (int(le.Uint16(d[14:])) + table*int(le.Uint32(d[36:]))) * 512
				d[at+int(clusterOf(d, short))*4+3] |= 0x10
			}
		}, image.ErrUnsupported},
		{"a directory without an end", false, func(d []byte) {
			at := int(le.Uint16(d[14:])) + 2*int(le.Uint16(d[22:])) + int(le.Uint16(d[17:]))*32/512
			c := clusterOf(d, sub)
			for i := 0; i < 512; i += 32 { // nothing that says that it ends
				copy(d[(at+int(c)-2)*512+i:], "\xe5")
			}
			entry(d, c, c)
		}, image.ErrTooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := read(t, out)
			if test.wide {
				d = read(t, out32)
			}
			d = append(d, make([]byte, 64<<10)...) // a partition may be larger
			test.do(d)
			f, err := image.OpenFAT(bytes.NewReader(d), int64(len(d)))
			if err == nil {
				_, err = filesOf(f, 1<<20)
			}
			if !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// FuzzFAT: whatever the bytes are, a name is that of one file, which is no larger than they
// are.
func FuzzFAT(f *testing.F) {
	dir := f.TempDir()
	imagetest.Shell(f, dir, `mkdir -p tree/sub; cd tree; echo a >SHORT; echo b >a-long-name-of-a-file; echo c >sub/c`)
	imagetest.FAT(f, filepath.Join(dir, "tree"), filepath.Join(dir, "fat12"), 12, 64<<10, "-s 1 -f 1")
	// mtools takes no FAT32 of so few clusters, as a small EFI system partition has.
	imagetest.Shell(f, dir, "truncate -s 64K fat32; mkfs.fat --invariant -F 32 -s 1 fat32")
	for _, name := range []string{"fat12", "fat32"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		if _, err := image.OpenFAT(bytes.NewReader(data), int64(len(data))); err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fat, err := image.OpenFAT(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		files, _ := filesOf(fat, 4<<10)
		folded := slices.Collect(func(yield func(string) bool) {
			for name := range files {
				if !yield(strings.ToLower(name)) {
					return
				}
			}
		})
		slices.Sort(folded)
		if len(slices.Compact(folded)) != len(files) {
			t.Error("two files of one name")
		}
		for name, contents := range files {
			if int64(len(contents)) > int64(len(data)) && contents != "a directory" {
				t.Errorf("%q has more than there is", name)
			}
		}
	})
}
