package nixstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// buildGroup is the group to which Nix's installers, NixOS and distributions give the
	// store, and buildGroupID its number on every NixOS.
	buildGroup   = "nixbld"
	buildGroupID = 30000
	groupFile    = "/etc/group"
	// maxAccounts limits a list of accounts, in bytes.
	maxAccounts = 4 << 20
)

// builders says why the group gid should not be able to add to the store; "" for root's
// group and for that of Nix's build users, if it has no other members. The members are
// read from the machine under examination, not from this one.
func (s *Store) builders(gid uint32) (string, error) {
	if gid == 0 || int(gid) == os.Getegid() && os.Geteuid() != 0 {
		return "", nil
	}
	groups, err := accounts(s.tree, groupFile)
	if errors.Is(err, fs.ErrNotExist) && (gid == buildGroupID || isBuildGroupHere(gid)) {
		// NixOS fills its /etc at boot, so a disk may have none, and its Nix then gives
		// the store to its own group. Until then the store belongs to the group of the
		// machine that wrote the disk, which is probably this one.
		return "", nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	users, err := accounts(s.tree, "/etc/passwd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return strangers(gid, groups, users), nil
}

// keepsOut returns the reason why Nix's build users can't add to the store, on a machine
// that has such users; "" if they can.
func (s *Store) keepsOut(st *unix.Stat_t) (string, error) {
	if st.Uid != 0 {
		return "", nil // of a Nix without a daemon
	}
	groups, err := accounts(s.tree, groupFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return "", err
	}
	number := strconv.FormatUint(uint64(st.Gid), 10)
	for _, line := range groups {
		f := strings.Split(line, ":")
		switch {
		case len(f) < 4 || f[0] != buildGroup || f[3] == "":
			continue
		case f[2] != number:
			return fmt.Sprintf("group %s, so that Nix's build users can't add to it", number), nil
		case st.Mode&storeMode != storeMode:
			return fmt.Sprintf("mode %04o, with which Nix's build users can't add to it as they should", st.Mode&0o7777), nil
		}
	}
	return "", nil
}

// storeMode is the mode of a store to which several users build.
const storeMode = 0o1775

// writtenOnce reports whether an open directory is on a file system that is written only
// when it is created, so that nobody can add to it.
func writtenOnce(f *os.File) bool {
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &vfs); err != nil {
		return false
	}
	const erofs = 0xe0f5e1e2
	return vfs.Type == unix.SQUASHFS_MAGIC || vfs.Type == unix.ISOFS_SUPER_MAGIC || uint32(vfs.Type) == erofs
}

// strangers is the pure part of builders: groups and users are lines of group(5) and
// passwd(5).
func strangers(gid uint32, groups, users []string) string {
	number := strconv.FormatUint(uint64(gid), 10)
	var names, members []string
	for _, line := range groups {
		// NAME:PASSWORD:GID:MEMBERS
		if f := strings.Split(line, ":"); len(f) >= 4 && f[2] == number {
			names = append(names, f[0])
			members = append(members, strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })...)
		}
	}
	for _, line := range users {
		// NAME:PASSWORD:UID:GID:…
		if f := strings.Split(line, ":"); len(f) >= 4 && f[3] == number {
			members = append(members, f[0])
		}
	}
	if !slices.Contains(names, buildGroup) {
		return fmt.Sprintf("group %d, which may add to it and is not %s", gid, buildGroup)
	}
	members = slices.DeleteFunc(members, func(name string) bool {
		digits, ok := strings.CutPrefix(name, buildGroup)
		return name == "root" || ok && strings.Trim(digits, "0123456789") == ""
	})
	if len(members) == 0 {
		return ""
	}
	return fmt.Sprintf("group %s, which may add to it and has a member who is no build user: %s", buildGroup, clip(members[0]))
}

// isBuildGroupHere reports whether gid is this machine's group of builders.
func isBuildGroupHere(gid uint32) bool {
	t, err := openTree("/")
	if err != nil {
		return false
	}
	defer t.close()
	groups, err := accounts(t, groupFile)
	return err == nil && strangers(gid, groups, nil) == ""
}

// accounts returns the lines of a machine's list of accounts.
func accounts(t *tree, name string) ([]string, error) {
	dir, err := t.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, st, err := openRegular(dir, path.Base(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Size > maxAccounts {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: %d bytes", ErrTooLarge, st.Size)}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	if err != nil {
		return nil, err
	}
	return strings.Split(string(data), "\n"), nil
}
