package activate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
)

// rootName is the link that keeps the garbage collector from the system that is being
// judged. It has one name, so that a run that was killed leaves no more than one.
const rootName = "ec-verify-switch"

// Hold protects p, and everything that Nix registered as its references, from the garbage
// collector until the end of s. p need not exist yet.
//
// A unit without CAP_SYS_PTRACE can't see the mounts of the first process. Hold goes on
// then: a switch notices later if anything of the system is gone.
func (s *Switch) Hold(ctx context.Context, p closure.StorePath) error {
	root, err := s.machine.makeRoot(ctx, rootName, p)
	if err != nil && !errors.Is(err, errUnseen) {
		return err
	}
	s.root = root
	return nil
}

// errUnseen means that this process may not see the mounts of the first process.
var errUnseen = errors.New("the mounts of the first process can't be seen")

// makeRoot makes the garbage collector root of that name, a link to p, and returns its
// path. If it fails, there is no such root, or an earlier one; with errUnseen, there is one
// that may not protect p.
//
// A collection reads the roots once, at its start, while it holds gc.lock exclusively.
// makeRoot takes that lock shared, as Nix does to add a root: either the collection sees
// the link, or it is over.
func (m *Machine) makeRoot(ctx context.Context, name string, p closure.StorePath) (root string, err error) {
	lock, err := os.OpenFile(filepath.Join(m.NixState, "gc.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	taken, err := hostfile.WaitLock(ctx, lock, unix.LOCK_SH, m.GCWait)
	if err != nil {
		return "", err
	}
	if !taken {
		return "", fmt.Errorf("a garbage collection has been running for more than %s (%s): wait for its end", m.GCWait, lock.Name())
	}
	dir := filepath.Join(m.NixState, "gcroots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := searched(dir); err != nil {
		return "", err
	}
	root = filepath.Join(dir, name)
	if err := hostfile.ReplaceLink(string(p), root); err != nil {
		return "", err
	}
	err = m.collectorSees(root, p)
	if err != nil && !errors.Is(err, errUnseen) {
		_ = os.Remove(root)
		return "", err
	}
	return root, err
}

// searched fails unless the garbage collector searches dir for roots: it does not follow a
// link to a directory.
func searched(dir string) error {
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory but a link, which the garbage collector does not follow", dir)
	}
	return err
}

// collectorSees fails unless the garbage collector finds the link root, which leads to p. It
// may see other mounts than this process.
func (m *Machine) collectorSees(root string, p closure.StorePath) error {
	if err := searched(filepath.Dir(root)); err != nil {
		return err
	}
	if target, err := os.Readlink(root); err != nil || target != string(p) {
		return fmt.Errorf("%s was removed or replaced by another program", root)
	}
	if m.First == "" {
		return nil
	}
	first, err := unix.Open(m.First, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: open %s: %w", errUnseen, m.First, err)
	case err != nil:
		return &os.PathError{Op: "open", Path: m.First, Err: err}
	}
	defer unix.Close(first)
	var here, there unix.Stat_t
	if err := unix.Lstat(root, &here); err != nil {
		return &os.PathError{Op: "lstat", Path: root, Err: err}
	}
	// Links on the way are those of the first process, too.
	fd, err := unix.Openat2(first, root, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &there)
	}
	if err != nil || here.Dev != there.Dev || here.Ino != there.Ino {
		return fmt.Errorf("%s is not in the directory that the first process sees: this process has other mounts", root)
	}
	return nil
}
