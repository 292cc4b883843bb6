package rebuild

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// ErrBusy is wrapped if another run uses the scratch directory.
var ErrBusy = errors.New("another rebuild is going on")

// scratch is the only directory that a run writes to, under an exclusive lock. Its
// contents are removed at the end of the run, or else at the start of the next.
type scratch struct {
	path string
	dir  *os.File // locked as long as it is open
}

// contents is the name of the directory that has everything in it.
const contents = "run"

// openScratch locks the directory path, which is created if needed, and removes what a
// killed run left there. The lock is the kernel's and ends with the process.
func openScratch(path string) (*scratch, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("scratch directory %q is not absolute", path)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("scratch directory: %w", err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open scratch directory", Path: path, Err: err}
	}
	s := &scratch{path: path, dir: os.NewFile(uintptr(fd), path)}
	// Also if it existed before: whoever can open it can lock it.
	if err := s.dir.Chmod(0o700); err != nil {
		s.dir.Close()
		return nil, fmt.Errorf("scratch directory: %w", err)
	}
	taken, err := hostfile.TryLock(s.dir, unix.LOCK_EX)
	if err == nil && !taken {
		err = fmt.Errorf("scratch directory %s: %w", path, ErrBusy)
	}
	if err != nil {
		s.dir.Close()
		return nil, err
	}
	if err := hostfile.RemoveTreeIn(s.dir, contents); err != nil {
		s.dir.Close()
		return nil, fmt.Errorf("remove the remains of an earlier run: %w", err)
	}
	if err := unix.Mkdirat(fd, contents, 0o700); err != nil {
		s.dir.Close()
		return nil, &os.PathError{Op: "mkdir", Path: filepath.Join(path, contents), Err: err}
	}
	return s, nil
}

// mkdir creates a directory in s, whose parent exists, and returns its path.
func (s *scratch) mkdir(name string) (string, error) {
	p := filepath.Join(s.path, contents, name)
	return p, os.MkdirAll(p, 0o700)
}

// remove removes a directory that mkdir created.
func (s *scratch) remove(name string) error {
	return hostfile.RemoveTreeIn(s.dir, filepath.Join(contents, name))
}

// close removes the contents and unlocks the directory.
func (s *scratch) close() error {
	return errors.Join(hostfile.RemoveTreeIn(s.dir, contents), s.dir.Close())
}
