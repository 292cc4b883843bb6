// Package imagetest creates images with the programs that create real ones. It is for
// tests only.
package imagetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Need skips the test, by name, if one of programs is not installed, unless
// EC_VERIFY_NO_SKIP is 1.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("EC_VERIFY_NO_SKIP") == "1" {
				t.Fatalf("%s is not installed (hack/setup installs it)", p)
			}
			t.Skipf("%s is not installed (hack/setup installs it)", p)
		}
	}
}

// Shell runs a script in dir and returns its output.
func Shell(t testing.TB, dir, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1", "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// Tree creates a directory "tree" in dir with what readers of images get wrong: names
// that are not valid UTF-8, sizes around that of a block, holes, links, deep and empty
// directories, and more files than fit into one block of a listing.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	Shell(t, dir, `
mkdir -p tree/a/deep/er/still tree/empty tree/many; cd tree
echo x >a/deep/er/file; echo y >a-b; echo z >a.b; : >a/empty
seq 1 60000 >a/long; chmod +x a/long
head -c 4096 a/long >a/exact; head -c 4097 a/long >a/over; head -c 131072 a/long >a/block
truncate -s 300000 a/hole; printf end >>a/hole
ln -s ../nowhere a/link; ln -s /absolute/target a/abs; ln -s "$(printf '\377')" "$(printf 'to-\377')"
echo latin >"$(printf 'caf\351')"; echo nl >"$(printf 'new\nline')"
for i in $(seq 1 400); do echo $i >many/file-with-a-rather-long-name-$i; done
`)
	return filepath.Join(dir, "tree")
}

// Squashfs writes the directory tree to the file out as a squashfs image, with the options
// of nixpkgs and the given ones.
func Squashfs(t testing.TB, tree, out string, options ...string) {
	t.Helper()
	Need(t, "mksquashfs")
	Shell(t, filepath.Dir(out), "mksquashfs '"+tree+"' '"+out+"' -noappend -quiet -no-progress -all-root -processors 1 "+strings.Join(options, " "))
}

// ISO writes the directory tree to the file out as an ISO 9660 image.
func ISO(t testing.TB, tree, out string, options ...string) {
	t.Helper()
	Need(t, "xorriso")
	Shell(t, filepath.Dir(out), "xorriso -as mkisofs -quiet -iso-level 3 -full-iso9660-filenames -r -J -V EC_TEST "+strings.Join(options, " ")+" -o '"+out+"' '"+tree+"' 2>&1")
}

// Cpio writes the directory tree to the file out as a cpio archive, compressed by a command such as "zstd -q", or "cat".
func Cpio(t testing.TB, tree, out, compress string) {
	t.Helper()
	Need(t, "cpio")
	Shell(t, tree, "find . -mindepth 1 -print0 | sort -z | cpio -o -H newc -R +0:+0 --reproducible --null --quiet | "+compress+" >'"+out+"'")
}

// FAT writes to out a FAT12, FAT16 or FAT32 file system of so many bytes with the files of
// the tree, as nixpkgs does for the EFI image of an ISO.
func FAT(t testing.TB, tree, out string, bits int, size int64, options ...string) {
	t.Helper()
	Need(t, "mkfs.fat", "mcopy")
	Shell(t, tree, fmt.Sprintf("truncate -s %d '%s'; mkfs.fat --invariant -F %d -n EFIBOOT %s '%[2]s' >&2; LC_ALL=C.UTF-8 mcopy -spm -i '%[2]s' * ::/", size, out, bits, strings.Join(options, " ")))
}
