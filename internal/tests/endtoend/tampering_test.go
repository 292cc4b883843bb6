package endtoend

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMounts: what is mounted over a part of the closure is not the store's,
// even where a hash of it is the release's.
func TestMounts(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.asPolicy("")
	path := m.path("program-01-1.1")
	program := path + "/bin/program-01"
	empty := m.path("oddities-1") + "/sizes/0"
	mounted := func(name, at, what string) {
		t.Run(name, func(t *testing.T) {
			m.Run("mount", "--bind", what, at)
			defer m.Run("umount", at)
			m.verify().expect(t, "inconclusive", 4, "mounted-over "+at)
		})
	}
	m.Run("cp", "-a", path, "/root/copy")
	mounted("a directory over its like", path, "/root/copy")
	if s := m.status(); s.Tiers[0].Items != len(m.manifest.Paths) || s.Tiers[0].Covered != s.Tiers[0].Items-1 {
		t.Errorf("what was not seen is remembered as verified: %+v", s)
	}
	mounted("a file over its like", program, "/root/copy/bin/program-01")
	// Its size is 0, so that it hashes as the empty file that it hides.
	mounted("a file of /proc over an empty one", empty, "/proc/version")
	t.Run("other contents", func(t *testing.T) {
		m.Run("mount", "-t", "tmpfs", "-o", "mode=0555", "none", path)
		defer m.Run("umount", path)
		m.verify().expect(t, "drifted", 1, "mounted-over "+path,
			"disk-altered "+path+" .program:removed bin:removed bin/program-01:removed")
	})
	t.Run("explained", func(t *testing.T) { explained(t, m, path) })
	t.Run("the whole store, and beside it", func(t *testing.T) {
		m.Run("mount", "--bind", "/nix/store", "/nix/store")
		m.Run("sh", "-c", "mkdir /nix/store/.other && mount --bind /root/copy /nix/store/.other")
		m.verify().expect(t, "verified", 0)
	})
}

// TestRights: what gives somebody rights to or through a file of the store,
// and no NAR holds.
func TestRights(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	path := m.path("program-01-1.1")
	program := path + "/bin/program-01"
	given := func(a answer) string {
		var got []string
		for _, f := range a.Findings {
			if f.Cause == "permissions-altered" {
				got = append(got, strings.TrimPrefix(f.Path, filepath.Dir(path)+"/")+" "+f.Got)
			}
		}
		return strings.Join(got, ", ")
	}
	chown := func(at, user string) { m.Run("chown", user, at) }
	// Version 2 of vfs_cap_data: cap_setuid, permitted and effective.
	ability := []byte{1, 0, 0, 2, 1 << 7, 19: 0}
	for _, c := range []struct {
		name, at, want string
		do, undo       func(at string)
	}{
		{"owner of a file", program, "owner 65534", func(at string) { chown(at, "nobody") }, func(at string) { chown(at, "root") }},
		{"owner of a path", path, "owner 65534", func(at string) { chown(at, "nobody") }, func(at string) { chown(at, "root") }},
		{"group of a file", program, "group 65534", func(at string) { m.Run("chgrp", "nogroup", at) }, func(at string) { m.Run("chgrp", "root", at) }},
		{"private mode", program, "mode 0500", func(at string) { m.Run("chmod", "0500", at) }, func(at string) { m.Run("chmod", "0555", at) }},
		{"mode of a builder", path, "mode 0755", func(at string) { m.Run("chmod", "0755", at) }, func(at string) { m.Run("chmod", "0555", at) }},
		{
			"capabilities", program, "file capabilities",
			func(at string) {
				if err := unix.Setxattr(m.Path(at), "security.capability", ability, 0); err != nil {
					t.Fatal(err)
				}
			},
			func(at string) {
				if err := unix.Removexattr(m.Path(at), "security.capability"); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do(c.at)
			a := m.verify()
			a.expect(t, "drifted", 1, "permissions-altered "+c.at)
			if got, want := given(a), strings.TrimPrefix(c.at, "/nix/store/")+" "+c.want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			c.undo(c.at)
		})
	}
	t.Run("a list of who may read", func(t *testing.T) {
		// Version 2: the owner, user 65534, the group, the mask, everybody, each with r-x.
		list := []byte{2, 0, 0, 0}
		for _, e := range [][2]byte{{0x01, 0}, {0x02, 0xfe}, {0x04, 0}, {0x10, 0}, {0x20, 0}} {
			id := []byte{0xff, 0xff, 0xff, 0xff}
			if e[0] == 0x02 {
				id = []byte{0xfe, 0xff, 0, 0}
			}
			list = append(append(list, e[0], 0, 5, 0), id...)
		}
		if err := unix.Setxattr(m.Path(program), "system.posix_acl_access", list, 0); err != nil {
			t.Skip(err)
		}
		a := m.verify()
		a.expect(t, "drifted", 1, "permissions-altered "+program)
		if err := unix.Removexattr(m.Path(program), "system.posix_acl_access"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the store's group", func(t *testing.T) {
		was := m.Run("stat", "-c", "%g", "/nix/store")
		defer m.Run("chgrp", was, "/nix/store")
		for _, group := range []string{"root", "daemon"} {
			m.Run("chgrp", group, "/nix/store")
			m.verify().expect(t, "drifted", 1, "permissions-altered /nix/store")
		}
	})
	t.Run("time", func(t *testing.T) {
		m.Run("touch", "-d", "2026-02-28T00:00:00Z", program)
		a := m.verify()
		a.expect(t, "verified", 0)
		var got []string
		for _, f := range a.Findings {
			if f.Cause == "time-altered" {
				got = append(got, f.Path+" "+f.Got)
			}
		}
		if want := program + " 2026-02-28T00:00:00Z"; len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("an attribute", func(t *testing.T) {
		if err := unix.Setxattr(m.Path(program), "trusted.evil", nil, 0); err != nil {
			t.Skip(err)
		}
		a := m.verify()
		a.expect(t, "verified", 0)
		if got := a.all("attributes-altered"); len(got) != 1 || got[0] != program {
			t.Errorf("got %q, want %q", got, program)
		}
	})
}
