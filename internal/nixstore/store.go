package nixstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// Store is an open store directory. It is safe for concurrent use.
type Store struct {
	dir          closure.StoreDir
	file         *os.File
	tree         *tree
	owner, group uint32
}

// OpenStore opens the store directory dir of the machine whose file tree is at root; ""
// means "/", this machine. Links on the way to the store are followed within root only.
// It needs Linux 5.6.
func OpenStore(root string, dir closure.StoreDir) (*Store, error) {
	if _, err := closure.ParseStoreDir(string(dir)); err != nil {
		return nil, err
	}
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	f, err := t.open(string(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err != nil {
		t.close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: string(dir), Err: err}, f.Close(), t.close())
	}
	return &Store{dir: dir, file: f, tree: t, owner: st.Uid, group: st.Gid}, nil
}

// Close closes the directory; the Store must not be used afterwards.
func (s *Store) Close() error { return errors.Join(s.file.Close(), s.tree.close()) }

// Dir returns the name of the store directory, wherever it is mounted.
func (s *Store) Dir() closure.StoreDir { return s.dir }

// File returns the open store directory, for hashing an object by its base name. It stays
// open until Close. Do not read from it or close it: its position is shared.
func (s *Store) File() *os.File { return s.file }

// Owner returns the owner of the store directory: root, or the single user of a Nix
// without a daemon. Its objects have the same owner.
func (s *Store) Owner() uint32 { return s.owner }

// Group returns the group of the store directory. If the file system gives a new file the
// group of its directory (mount option grpid), Nix leaves the store's objects in it.
func (s *Store) Group() uint32 { return s.group }

// Exists reports whether the store directory has an entry with the name of p, of any
// kind. An error means that this is unknown.
func (s *Store) Exists(p closure.StorePath) (bool, error) {
	if err := s.check(p); err != nil {
		return false, err
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(s.file.Fd()), p.Base(), &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOENT):
		return false, nil
	}
	return false, &fs.PathError{Op: "stat", Path: string(p), Err: err}
}

// ErrTooLarge is wrapped by [Store.ReadFile] for a file that exceeds the limit.
var ErrTooLarge = errors.New("file is too large")

// ReadFile reads the regular file at rel in the store object p, or p itself if rel is "".
// A leading slash of rel, as from [Store.ResolveLink], is ignored. No component may be a
// link. It fails with [ErrTooLarge] if the file has more than limit bytes, and with
// [fs.ErrNotExist] if there is none.
func (s *Store) ReadFile(p closure.StorePath, rel string, limit int64) ([]byte, error) {
	if err := s.check(p); err != nil {
		return nil, err
	}
	name := path.Join(string(p), rel)
	if rel = strings.TrimPrefix(rel, "/"); rel != "" && (!filepath.IsLocal(rel) || path.Clean(rel) != rel) {
		return nil, &fs.PathError{Op: "read", Path: clip(name), Err: errors.New("not a clean path within the object")}
	}
	return readRegular(s.file, path.Join(p.Base(), rel), name, limit)
}

// readRegular reads the file at rel below dir, which errors call name.
func readRegular(dir *os.File, rel, name string, limit int64) ([]byte, error) {
	f, st, err := openRegular(dir, rel)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &fs.PathError{Op: "read", Path: clip(name), Err: err}
	}
	defer f.Close()
	if st.Size > limit {
		return nil, &fs.PathError{Op: "read", Path: clip(name), Err: fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, st.Size, limit)}
	}
	// One byte more than the size, so that a growing file is noticed.
	data := make([]byte, 0, st.Size+1)
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(data) == cap(data) {
			break
		}
	}
	if int64(len(data)) != st.Size {
		return nil, &fs.PathError{Op: "read", Path: clip(name), Err: errors.New("its size changed while it was read")}
	}
	return data, nil
}

func (s *Store) check(p closure.StorePath) error {
	_, err := s.dir.Parse(string(p))
	return err
}
