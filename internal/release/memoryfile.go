package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// memoryFile is a file in which a node remembers something about releases.
type memoryFile struct {
	what string // for errors
	name string
	max  int64 // bytes
}

// load decodes the file of that kind in dir into state, and reports whether there is
// one. A damaged file is an error: treating it as missing would make the node forget.
func (f memoryFile) load(dir string, state interface{ check() error }) (found bool, err error) {
	path := filepath.Join(dir, f.name)
	data, err := hostfile.ReadSmall(path, f.max)
	// Without a directory, nothing is or can be recorded.
	if isMissing(err) {
		// A dangling link is a memory that can't be reached, not a new one.
		if _, linkErr := os.Lstat(path); isMissing(linkErr) {
			return false, nil
		}
	}
	if err == nil {
		err = json.Unmarshal(data, state, json.RejectUnknownMembers(true))
	}
	if err == nil {
		err = state.check()
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; run as a user who may read it, or choose another directory with --state-dir", err)
	default:
		err = fmt.Errorf("%w; to accept its loss, remove the file", err)
	}
	return false, f.failed(dir, err)
}

func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// store writes state to the file in dir, in one step, and syncs it to disk.
func (f memoryFile) store(dir string, state any) error {
	data, err := json.Marshal(state, jsontext.WithIndent("  "))
	if err != nil {
		return f.failed(dir, err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, f.name), append(data, '\n'), 0o644); err != nil {
		return unwritten(f.failed(dir, err))
	}
	if err := hostfile.SyncDir(dir); err != nil {
		return unwritten(f.failed(dir, err))
	}
	return nil
}

func (f memoryFile) failed(dir string, err error) error {
	return &UnavailableError{f.what, printable(filepath.Join(dir, f.name)), err}
}

// unwrittenError means that the state directory can't be written to. It does not
// affect the trust in the release.
type unwrittenError struct{ error }

func (e *unwrittenError) Unwrap() error { return e.error }

// unwritten wraps err as an *unwrittenError if the disk is full or not writable.
func unwritten(err error) error {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENOTDIR} {
		if errors.Is(err, errno) {
			return &unwrittenError{err}
		}
	}
	return err
}
