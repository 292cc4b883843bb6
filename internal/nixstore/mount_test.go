package nixstore

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		line string
		want Mount
	}{
		{`36 35 98:0 /mnt1 /nix/store rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, Mount{36, 35, "98:0", "/mnt1", "/nix/store", "ext3", "/dev/root", "rw,errors=continue"}},
		{`36 35 98:0 / / rw - ext3 /dev/root rw`, Mount{36, 35, "98:0", "/", "/", "ext3", "/dev/root", "rw"}},
		{`36 35 0:5 / /a\040b\011c\012d\134e\043f rw a:1 b:2 - tmpfs x\040- rw`, Mount{36, 35, "0:5", "/", "/a b\tc\nd\\e#f", "tmpfs", "x -", "rw"}},
		{`36 35 0:5 / /\134040 rw - tmpfs x rw`, Mount{36, 35, "0:5", "/", `/\040`, "tmpfs", "x", "rw"}},
		{`36 35 0:5 / relative rw - tmpfs x rw`, Mount{}},
		{`x 35 0:5 / / rw - tmpfs x rw`, Mount{}},
		{`36 x 0:5 / / rw - tmpfs x rw`, Mount{}},
		{`36 35 0:5 / / rw tmpfs x rw`, Mount{}},
		{`36 35 0:5 /`, Mount{}},
		{``, Mount{}},
	} {
		got, err := parseMount(c.line)
		if got != c.want || (err == nil) != (c.want != Mount{}) {
			t.Errorf("parseMount(%q): got %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
}

func TestChain(t *testing.T) {
	// ID, parent, mount point; 1 is the kernel's own, which no list has.
	table := func(lines ...string) []Mount {
		var out []Mount
		for _, line := range lines {
			var m Mount
			if _, err := fmt.Sscan(line, &m.ID, &m.Parent, &m.Point); err != nil {
				t.Fatal(err)
			}
			out = append(out, m)
		}
		return out
	}
	for _, c := range []struct {
		name  string
		table []Mount
		want  string
	}{
		{"a root alone", table("20 1 /"), "20"},
		{"its own parent", table("20 20 /"), "20"},
		{"a stack", table("20 1 /", "21 20 /nix", "22 21 /nix", "23 22 /nix/store"), "20 21 22 23"},
		{"beside it", table("20 1 /", "21 20 /nix/storey", "22 20 /n"), "20"},
		{"hidden by one above", table("20 1 /", "21 20 /nix/store", "22 20 /nix"), "20 22"},
		{"over the root", table("20 1 /", "21 20 /nix", "22 20 /"), "20 22"},
		{"no root", table("21 20 /nix"), ""},
		{"a ring", table("20 1 /", "21 22 /nix", "22 21 /nix"), "20"},
		{"nothing", nil, ""},
	} {
		var got []string
		for _, m := range chain(c.table, "/nix/store") {
			got = append(got, fmt.Sprint(m.ID))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestOrigins(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	m := newMachine(t)
	for _, dir := range []string{"/nix/var/nix/db", "/disk"} {
		m.dir(dir)
	}
	for _, c := range []struct{ at, source, kind string }{{"/nix", m.path("/nix"), ""}, {"/nix/var/nix/db", "none", "tmpfs"}} {
		flags := uintptr(0)
		if c.kind == "" {
			flags = unix.MS_BIND
		}
		if err := unix.Mount(c.source, m.path(c.at), c.kind, flags, ""); err != nil {
			t.Skipf("mount: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(m.path(c.at), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	s := m.open()
	got, err := s.Origins("/nix/store", "/nix/var/nix/db", "/absent")
	if err != nil || len(got) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	store, db := got[0], got[1]
	last := store.Mounts[len(store.Mounts)-1]
	if store.Path != m.path("/nix/store") || last.Point != m.path("/nix") || len(store.Mounts) < 2 {
		t.Errorf("the store: %+v", store)
	}
	// A directory that is bound over itself is the same place.
	if under, over := At(store.Mounts[:len(store.Mounts)-1], m.path("/nix/store")), At(store.Mounts, store.Path); under != over {
		t.Errorf("the store is at %v, beneath at %v", over, under)
	}
	if last := db.Mounts[len(db.Mounts)-1]; last.Type != "tmpfs" || At(db.Mounts, db.Path).Dir != "/" || len(db.Mounts) != len(store.Mounts)+1 {
		t.Errorf("the database: %+v", db)
	}
	// Something mounted over it after it was opened is not what was read.
	if err := unix.Mount("none", m.path("/nix/store"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(m.path("/nix/store"), unix.MNT_DETACH) //nolint:errcheck // ends with the test
	if got, err := s.Origins("/nix/store"); err == nil {
		t.Errorf("mounted over meanwhile: got %+v", got)
	}
}

func TestDeviceNames(t *testing.T) {
	for _, number := range []string{"", "0:35", "8", "../..:1", "8:1/../8:2", "999999:1"} {
		if got := DeviceNames(number); got != nil {
			t.Errorf("DeviceNames(%q) = %q", number, got)
		}
	}
	const kernel, udev = "MAJOR=8\nMINOR=1\nDEVNAME=sda1\n", "S:disk/by-label/a\\x20b\nE:ID_FS_TYPE=ext4\nS:disk/by-uuid/1\n"
	if got := deviceNames(kernel, udev); !slices.Equal(got, []string{"/dev/sda1", `/dev/disk/by-label/a\x20b`, "/dev/disk/by-uuid/1"}) {
		t.Errorf("got %q", got)
	}
	// Without udev's notes a name that is missing says nothing.
	if got := deviceNames(kernel, ""); got != nil {
		t.Errorf("got %q", got)
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
