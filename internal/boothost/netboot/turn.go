package netboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

// Rollback has machines be led to the stage before, which is then the current one;
// the one that was is then the one before. It is one step, and is taken only if
// the stage before is whole and its release believed. What stages by a timer
// serves the newer one again at its next run, unless it is told otherwise.
func (s *Stager) Rollback(ctx context.Context) (*Staged, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := s.Current()
	if err != nil {
		return nil, err
	}
	name, err := s.Previous()
	if err != nil {
		return nil, err
	}
	if name == "" || name == before {
		return nil, fmt.Errorf("%s holds no release from before to go back to; name it: ec-verify netboot stage TAG", s.Dir)
	}
	record, err := s.Check(ctx, name)
	if err != nil {
		return nil, err
	}
	current, previous := filepath.Join(s.Dir, currentName), filepath.Join(s.Dir, previousName)
	if before == "" {
		err = os.Rename(previous, current)
	} else if err = unix.Renameat2(unix.AT_FDCWD, previous, unix.AT_FDCWD, current, unix.RENAME_EXCHANGE); err != nil {
		err = &os.LinkError{Op: "exchange", Old: previous, New: current, Err: err}
	}
	if err != nil {
		return nil, err
	}
	return &Staged{Record: record, Name: name, Switched: true, Replaced: before}, hostfile.SyncDir(s.Dir)
}

// Clear has nothing be served any more, and removes every stage. It returns the
// stage that was served; "" for none.
func (s *Stager) Clear() (was string, err error) {
	unlock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	// Links that lead elsewhere go as well.
	was, _ = s.Current()
	for _, link := range []string{currentName, previousName} {
		path := filepath.Join(s.Dir, link)
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSymlink {
			return was, fmt.Errorf("%s is no link; remove it, or name another directory", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return was, err
		}
	}
	if err := hostfile.SyncDir(s.Dir); err != nil {
		return was, err
	}
	fetched := filepath.Join(s.Dir, fetchedName)
	return was, errors.Join(s.clean(), hostfile.RemoveTree(fetched), hostfile.RemoveTree(release.PartialDir(fetched)))
}
