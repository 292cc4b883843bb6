package nixstore

import (
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Access is a directory by which others than the store's owner can put something
// in the place of store objects.
type Access struct {
	Path string
	// What is the permission, or the owner, that lets them.
	What string
}

// Accesses looks at the store directory and those above it, up to the root of the
// machine. Nix gives the store to root and to the group of its builders, with the
// sticky bit, so that none of these can touch what is another's. A store of the
// user who asks is his own affair.
func (s *Store) Accesses() ([]Access, error) {
	var out []Access
	for dir := string(s.dir); ; dir = path.Dir(dir) {
		f, err := s.tree.open(dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return out, fmt.Errorf("look at %s: %w", dir, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		f.Close()
		if err != nil {
			return out, &fs.PathError{Op: "stat", Path: dir, Err: err}
		}
		if what := access(&st, dir == string(s.dir)); what != "" {
			out = append(out, Access{dir, what})
		}
		if dir == "/" {
			return out, nil
		}
	}
}

// access says by what others can replace what lies in a directory; "" for by
// nothing. To the store itself nobody may add either.
func access(st *unix.Stat_t, store bool) string {
	const others, group = 0o002, 0o020
	sticky := st.Mode&unix.S_ISVTX != 0
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Sprintf("owner %d", st.Uid)
	case !sticky && st.Mode&(others|group) != 0, store && st.Mode&others != 0:
		return fmt.Sprintf("mode %04o", st.Mode&0o7777)
	}
	return ""
}
