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

// Rollback serves the previous stage, in one step, and makes the current one the
// previous. It does so only if the previous stage is intact and its release still
// trusted. A timer that stages releases serves the newer one again at its next run,
// unless it is reconfigured.
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
		return nil, fmt.Errorf("%s has no earlier release to return to; stage one: ec-verify netboot stage TAG", s.Dir)
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

// Clear stops serving and removes every stage. It returns the stage that was served;
// "" for none.
func (s *Stager) Clear() (was string, err error) {
	unlock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	// Links that lead elsewhere are removed as well.
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
