package repository

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExt4IsReproducible: the root file system of the SD image is the same
// bytes whenever it is made, whoever owns the tree and whatever its times.
func TestExt4IsReproducible(t *testing.T) {
	needExt4(t)
	script := abs(t, "nix/images/ext4.sh")
	data, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	seedless := filepath.Join(t.TempDir(), "seedless.sh")
	text := strings.ReplaceAll(string(data), "hash_seed=$uuid,", "")
	if text == string(data) {
		t.Fatal("ext4.sh gives no hash seed")
	}
	if err := os.WriteFile(seedless, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	first := makeExt4(t, script, time.Unix(1_000_000_000, 0), 0)
	second := makeExt4(t, script, time.Unix(1_700_000_000, 0), 1234)
	if !bytes.Equal(first, second) {
		t.Error("two images of one tree differ")
	}
	// That this test would notice: with mke2fs' own seed they do.
	if bytes.Equal(makeExt4(t, seedless, time.Unix(1_000_000_000, 0), 0), makeExt4(t, seedless, time.Unix(1_000_000_000, 0), 0)) {
		t.Error("without a seed two images are equal; is it of use?")
	}
}

// needExt4 skips the test if a program that ext4.sh needs is missing.
func needExt4(t *testing.T) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range []string{"mke2fs", "resize2fs", "fakeroot", "faketime"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v; hack/setup installs it", err)
		}
	}
}

// TestExt4OfAStore: what differs between two builders' stores, links between equal
// files and what a file system notes beside a file, is not in the image.
func TestExt4OfAStore(t *testing.T) {
	needExt4(t)
	plain, linked := t.TempDir(), t.TempDir()
	for _, store := range []string{plain, linked} {
		for _, name := range []string{"a/one", "a/two", "b/three"} {
			file := filepath.Join(store, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("the same\n"), 0o444); err != nil { //nolint:gosec // as in a store
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"a/two", "b/three"} {
		file := filepath.Join(linked, name)
		if err := errors.Join(os.Remove(file), os.Link(filepath.Join(linked, "a/one"), file)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(ext4OfStore(t, plain), ext4OfStore(t, linked)) {
		t.Error("a store with links gives another image than one without")
	}

	// In the tree itself there may be none, nor do its files' attributes count.
	script := abs(t, "nix/images/ext4.sh")
	run := func(tree string) ([]byte, error) {
		image := filepath.Join(t.TempDir(), "image")
		out, err := exec.CommandContext(t.Context(), "bash", script, tree, image, "L", "44444444-4444-4444-8888-888888888888").CombinedOutput()
		if err != nil {
			return out, err
		}
		return os.ReadFile(image)
	}
	if out, err := run(linked); err == nil || !strings.Contains(string(out), "has hard links") {
		t.Errorf("a tree with hard links: %v\n%s", err, out)
	}
	want, err := run(plain)
	if err != nil {
		t.Fatalf("%v\n%s", err, want)
	}
	if err := unix.Setxattr(plain+"/a/one", "user.note", []byte("x"), 0); err != nil {
		t.Logf("no extended attributes here: %v", err)
	}
	if got, err := run(plain); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a file's extended attribute is in the image, or %v", err)
	}
}

// ext4OfStore returns the image of an empty tree and the paths a and b of a store.
func ext4OfStore(t *testing.T, store string) []byte {
	t.Helper()
	dir := t.TempDir()
	list, tree, image := filepath.Join(dir, "store-paths"), filepath.Join(dir, "tree"), filepath.Join(dir, "image")
	if err := os.WriteFile(list, []byte(store+"/a\n"+store+"/b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "bash", abs(t, "nix/images/ext4.sh"), tree, image, "NIXOS_SD", "44444444-4444-4444-8888-888888888888", list).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// makeExt4 makes a tree, its files of this time and, for root, this owner, and
// returns its image.
func makeExt4(t *testing.T, script string, mtime time.Time, owner int) []byte {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for name, content := range map[string]string{
		"nix/store/a/bin/program": strings.Repeat("x", 100_000),
		"nix/store/a/empty":       "",
		"nix/store/b":             "text",
		"boot/extlinux.conf":      "DEFAULT nixos\n",
	} {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, mtime, mtime); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(file, owner, owner); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("../b", filepath.Join(tree, "nix/store/a/link")); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	out, err := exec.CommandContext(t.Context(), "bash", script, tree, image, "NIXOS_SD", "44444444-4444-4444-8888-888888888888").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Sound, and root's.
	if out, err := exec.CommandContext(t.Context(), "e2fsck", "-f", "-n", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), "debugfs", "-R", "stat /nix/store/a/bin/program", image).Output()
	if err != nil || !strings.Contains(string(out), "User:     0   Group:     0") {
		t.Errorf("debugfs: %v\n%s", err, out)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
