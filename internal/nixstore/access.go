package nixstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Access is a directory in which somebody other than the store's owner can replace store
// objects, or a store to which Nix's build users cannot add.
type Access struct {
	Path string
	// What is the wrong permission or owner.
	What string
}

// Accesses examines the store directory and those above it, up to the root of the
// machine. Nix gives the store to root and the group of its builders, with the sticky
// bit, so that no builder can touch another's files. A store that belongs to the current
// user is not judged.
func (s *Store) Accesses() ([]Access, error) {
	var out []Access
	for dir := string(s.dir); ; dir = path.Dir(dir) {
		whats, err := s.accesses(dir)
		for _, what := range whats {
			out = append(out, Access{dir, what})
		}
		if err != nil {
			return out, fmt.Errorf("examine %s: %w", dir, err)
		}
		if dir == "/" {
			return out, nil
		}
	}
}

// accesses says what lets others replace the contents of a directory.
func (s *Store) accesses(dir string) ([]string, error) {
	f, err := s.tree.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	store := dir == string(s.dir)
	var out []string
	if what := access(&st, store); what != "" {
		out = append(out, what)
	}
	lists, err := accessLists(f, store)
	if err != nil {
		return out, err
	}
	for _, list := range lists {
		if what := list.lets(&st, store); what != "" {
			out = append(out, what)
		}
	}
	if !store {
		return out, nil
	}
	what := ""
	if st.Mode&groupWrite != 0 {
		what, err = s.builders(st.Gid)
	}
	if err == nil && what == "" && len(out) == 0 && !writtenOnce(f) {
		// If the mode is wrong already, this would report the same fault twice.
		what, err = s.keepsOut(&st)
	}
	if what != "" {
		out = append(out, what)
	}
	return out, err
}

const (
	groupWrite  = 0o020
	othersWrite = 0o002
)

// access says which part of a directory's owner and mode lets others replace its
// contents; "" for none. Others may not add to the store itself either.
func access(st *unix.Stat_t, store bool) string {
	sticky := st.Mode&unix.S_ISVTX != 0
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Sprintf("owner %d", st.Uid)
	case !sticky && st.Mode&(othersWrite|groupWrite) != 0, store && st.Mode&othersWrite != 0:
		return fmt.Sprintf("mode %04o", st.Mode&0o7777)
	}
	return ""
}

// accessLists reads the access control lists of an open directory. The default list,
// which new entries inherit, only matters for the store.
func accessLists(f *os.File, store bool) ([]accessList, error) {
	names := []string{"system.posix_acl_access"}
	if store {
		names = append(names, "system.posix_acl_default")
	}
	// Through /proc, because f may be opened with O_PATH, which gives no attributes.
	self := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	var out []accessList
	for _, name := range names {
		data := make([]byte, maxAccessList)
		n, err := unix.Getxattr(self, name, data)
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
			continue
		case errors.Is(err, unix.ERANGE):
			return out, &fs.PathError{Op: "read the access control list of", Path: f.Name(), Err: fmt.Errorf("it has more than %d bytes", maxAccessList)}
		case err != nil:
			return out, &fs.PathError{Op: "read the access control list of", Path: f.Name(), Err: err}
		}
		list, err := parseAccessList(name, data[:n])
		if err != nil {
			return out, &fs.PathError{Op: "read the access control list of", Path: f.Name(), Err: err}
		}
		out = append(out, list)
	}
	return out, nil
}
