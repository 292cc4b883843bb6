package nixstore

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// acl returns an access control list as the kernel takes it, with the three
// entries that each has.
func acl(mask uint16, entries ...[3]uint32) []byte {
	data := binary.LittleEndian.AppendUint32(nil, 2)
	add := func(kind, perm uint16, id uint32) {
		data = binary.LittleEndian.AppendUint16(data, kind)
		data = binary.LittleEndian.AppendUint16(data, perm)
		data = binary.LittleEndian.AppendUint32(data, id)
	}
	const none = 1<<32 - 1
	named := func(kind uint32) {
		for _, e := range entries {
			if e[0] == kind {
				add(uint16(e[0]), uint16(e[1]), e[2])
			}
		}
	}
	add(0x01, 7, none) // the owner
	named(0x02)
	add(0x04, 7, none) // the owning group
	named(0x08)
	add(0x10, mask, none)
	add(0x20, 5, none) // everybody
	return data
}

// TestAccessLists: on a real file system, whose kernel refuses what is no list.
func TestAccessLists(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("modes of others take root")
	}
	const access, fresh = "system.posix_acl_access", "system.posix_acl_default"
	user, group := [3]uint32{0x02, 7, 65534}, [3]uint32{0x08, 6, 100}
	reads := [3]uint32{0x02, 5, 65534}
	for _, c := range []struct {
		name, at, attribute string
		mode                uint32
		list                []byte
		want                string
	}{
		{"a user may write to the store", "/nix/store", access, 0o1775, acl(7, user), "/nix/store an access control list that lets write: user 65534"},
		{"a group", "/nix/store", access, 0o1775, acl(7, group), "/nix/store an access control list that lets write: group 100"},
		{"a user, but for the mask", "/nix/store", access, 0o1755, acl(5, user), ""},
		{"a user may read", "/nix/store", access, 0o1775, acl(7, reads), ""},
		{"new entries", "/nix/store", fresh, 0o1775, acl(7, user), "/nix/store a default access control list that lets write to new entries: user 65534"},
		{"above the store", "/nix", access, 0o755, acl(7, user), "/nix mode 0775; /nix an access control list that lets write: user 65534"},
		{"above the store, where it is sticky", "/nix", access, 0o1775, acl(7, user), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if err := unix.Chmod(m.path(c.at), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := unix.Setxattr(m.path(c.at), c.attribute, c.list, 0); err != nil {
				t.Skipf("set an access control list: %v", err)
			}
			var got []string
			found, err := m.open().Accesses()
			for _, a := range found {
				got = append(got, a.Path+" "+a.What)
			}
			if strings.Join(got, "; ") != c.want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
	for _, bad := range [][]byte{nil, {2, 0, 0}, {1, 0, 0, 0}, {2, 0, 0, 0, 1}} {
		if _, err := parseAccessList(access, bad); err == nil {
			t.Errorf("parseAccessList(%v) succeeds", bad)
		}
	}
}

func TestStoreGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving directories away takes root")
	}
	const nixbld = "nixbld:x:30000:nixbld1,nixbld2\n"
	const passwd = "root:x:0:0::/root:/bin/sh\nnixbld1:x:30001:30000::/var/empty:/sbin/nologin\n"
	for _, c := range []struct {
		name          string
		gid           int
		mode          uint32
		group, passwd string // "" for none
		want          string
	}{
		{"root's", 0, 0o1775, nixbld, passwd, "group 0, so that Nix's build users can't add to it"},
		{"root's, where there are no builders", 0, 0o1775, "root:x:0:\n", passwd, ""},
		{"root's, of a group without builders", 0, 0o1775, "nixbld:x:30000:\n", passwd, ""},
		{"root's, on a disk without /etc", 0, 0o755, "", "", ""},
		{"of a mode that is found already", 30000, 0o777, nixbld, passwd, "mode 0777"},
		{"the builders', who may not write", 30000, 0o1755, nixbld, passwd, "mode 1755, with which Nix's build users can't add to it as they should"},
		{"the builders'", 30000, 0o1775, nixbld, passwd, ""},
		{"the builders' by another number", 116, 0o1775, "users:x:100:a\nnixbld:x:116:nixbld1\n", passwd, ""},
		{"the builders', on a disk without /etc", 30000, 0o1775, "", "", ""},
		{"somebody's, on a disk without /etc", 100, 0o1775, "", "", "group 100, which may add to it and is not nixbld"},
		{"somebody's", 100, 0o1775, nixbld + "users:x:100:\n", passwd, "group 100, which may add to it and is not nixbld"},
		{"of no name", 4242, 0o1775, nixbld, passwd, "group 4242, which may add to it and is not nixbld"},
		{"somebody's, who may not write", 100, 0o1755, nixbld, passwd, "group 100, so that Nix's build users can't add to it"},
		{"the builders' number, by another name", 30000, 0o1775, "users:x:30000:\n", passwd, "group 30000, which may add to it and is not nixbld"},
		{"with a member", 30000, 0o1775, "nixbld:x:30000:nixbld1,mallory\n", passwd, "group nixbld, which may add to it and has a member who is no build user: mallory"},
		{"somebody's first", 30000, 0o1775, nixbld, passwd + "eve:x:1000:30000:::\n", "group nixbld, which may add to it and has a member who is no build user: eve"},
		{"malformed lists", 30000, 0o1775, nixbld + ":::\nx\n\n", passwd + "y\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if c.group != "" {
				m.file("/etc/group", c.group)
				m.file("/etc/passwd", c.passwd)
			}
			store := m.path("/nix/store")
			if err := os.Chown(store, 0, c.gid); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(store, c.mode); err != nil {
				t.Fatal(err)
			}
			got, err := m.open().Accesses()
			if err != nil || len(got) > 1 || len(got) == 1 != (c.want != "") || len(got) == 1 && got[0].What != c.want {
				t.Errorf("got %v, %v; want %q", got, err, c.want)
			}
		})
	}
}
