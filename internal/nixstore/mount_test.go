package nixstore

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountPoint(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`36 35 98:0 /mnt1 /nix/store rw,noatime master:1 - ext3 /dev/root rw`, "/nix/store"},
		{`36 35 0:5 / /a\040b\011c\012d\134e\043f rw - tmpfs x rw`, "/a b\tc\nd\\e#f"},
		{`36 35 0:5 / /\134040 rw - tmpfs x rw`, `/\040`},
		{`36 35 0:5 / relative rw - tmpfs x rw`, ""},
		{`36 35 0:5 /`, ""},
		{``, ""},
	} {
		got, err := mountPoint(c.line)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("mountPoint(%q): got %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

func TestMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	root := t.TempDir()
	// A store reached through a link, and another one whose name begins alike.
	for _, dir := range []string{"real/store/a dir/x", "real/store/b", "real/store-2"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real", filepath.Join(root, "nix")); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(root, "/nix/store")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := s.Mounts(); err != nil || len(got) != 0 {
		t.Fatalf("got %q, %v; want no mounts", got, err)
	}
	for _, dir := range []string{"real/store/b", "real/store/a dir/x", "real/store-2"} {
		at := filepath.Join(root, dir)
		if err := unix.Mount("none", at, "tmpfs", 0, "size=4k"); err != nil {
			t.Skipf("mount: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	got, err := s.Mounts()
	if want := []string{"/nix/store/a dir/x", "/nix/store/b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
