package nixstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// Directory is an open directory of the machine that is not a store object, such as
// /boot. It is read like store objects: no links are followed, and only regular files are
// read. It is safe for concurrent use.
type Directory struct {
	name string
	file *os.File
	// Device and Inode identify a directory, whatever name it was opened by.
	Device, Inode uint64
}

// Directory opens the directory at an absolute path of the machine. Links on the way are
// followed within the machine's file tree.
func (s *Store) Directory(name string) (*Directory, error) {
	f, err := s.tree.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: name, Err: err}, f.Close())
	}
	return &Directory{name: name, file: f, Device: st.Dev, Inode: st.Ino}, nil
}

// Close closes the directory.
func (d *Directory) Close() error { return d.file.Close() }

// Name returns the machine's name of the directory.
func (d *Directory) Name() string { return d.name }

// ReadFile is [Store.ReadFile] of the file at rel below d.
func (d *Directory) ReadFile(rel string, limit int64) ([]byte, error) {
	if err := d.check(rel); err != nil {
		return nil, err
	}
	return readRegular(d.file, rel, path.Join(d.name, rel), limit)
}

// Names returns the names in the directory at rel below d, "." for d itself, in no
// particular order. It fails if there are more than most.
func (d *Directory) Names(rel string, most int) ([]string, error) {
	if err := d.check(rel); err != nil {
		return nil, err
	}
	f, err := openBelow(d.file, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", clip(path.Join(d.name, rel)), err)
	}
	defer f.Close()
	return namesIn(f, path.Join(d.name, rel), most)
}

// namesIn returns the names in an open directory, which errors call name. If there are
// more than most, it returns none, and an error that wraps [ErrTooLarge].
func namesIn(f *os.File, name string, most int) ([]string, error) {
	names, err := f.Readdirnames(most + 1)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, &fs.PathError{Op: "list", Path: clip(name), Err: err}
	case len(names) > most:
		return nil, &fs.PathError{Op: "list", Path: clip(name), Err: fmt.Errorf("%w: more than %d entries", ErrTooLarge, most)}
	}
	return names, nil
}

// Open opens the regular file at rel below d.
func (d *Directory) Open(rel string) (*Regular, error) {
	if err := d.check(rel); err != nil {
		return nil, err
	}
	return openSized(d.file, rel)
}

func (d *Directory) check(rel string) error {
	if !filepath.IsLocal(rel) || path.Clean(rel) != rel {
		return &fs.PathError{Op: "read", Path: clip(path.Join(d.name, rel)), Err: errors.New("not a clean path within the directory")}
	}
	return nil
}

// Regular is an open regular file.
type Regular struct {
	*os.File
	size int64
}

// Size returns the size of the file in bytes when it was opened.
func (r *Regular) Size() int64 { return r.size }

// OpenFile opens the regular file at rel in the store object p, or p itself if rel is "",
// as [Store.ReadFile] does.
func (s *Store) OpenFile(p closure.StorePath, rel string) (*Regular, error) {
	if err := s.check(p); err != nil {
		return nil, err
	}
	return openSized(s.file, path.Join(p.Base(), rel))
}

// EntriesOf returns the names in the directory dir of the store object p, at most that
// many.
func (s *Store) EntriesOf(p closure.StorePath, dir string, most int) ([]string, error) {
	if err := s.check(p); err != nil {
		return nil, err
	}
	return (&Directory{name: string(s.dir), file: s.file}).Names(path.Join(p.Base(), dir), most)
}

func openSized(dir *os.File, rel string) (*Regular, error) {
	f, st, err := openRegular(dir, rel)
	if err != nil {
		return nil, err
	}
	return &Regular{f, st.Size}, nil
}
