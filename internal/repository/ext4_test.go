package repository

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExt4IsReproducible: the root file system of the SD image is the same
// bytes whenever it is made, whoever owns the tree and whatever its times.
func TestExt4IsReproducible(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range []string{"mke2fs", "resize2fs", "fakeroot", "faketime"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v; hack/setup installs it", err)
		}
	}
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
