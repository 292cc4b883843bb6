package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/internal/hostfile"
)

// Whoever can read a file can lock it, and so keep a run from writing to it. Therefore
// only its owner can read the ledger, and others read a copy, which nobody writes to.

// CopyName is the name of the copy, beside the ledger.
const CopyName = "ledger.copy.db"

// Publish replaces the copy of the ledger in dir that everybody can read. The ledger must
// not be open. If it fails, it removes the copy: an outdated one would be taken as the
// ledger.
func Publish(dir string) error {
	name := filepath.Join(dir, CopyName)
	err := copyFile(filepath.Join(dir, FileName), name)
	if err == nil {
		return nil
	}
	if removed := os.Remove(name); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return fmt.Errorf("copy the ledger for others to read: %w", err)
}

func copyFile(from, to string) error {
	in, err := hostfile.OpenNoFollow(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(to, renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // it is gone once it was renamed
	n, err := io.Copy(out, io.LimitReader(in, maxFileSize+1))
	switch {
	case err != nil:
		return err
	case n > maxFileSize:
		return fmt.Errorf("%s has more than %d bytes", from, maxFileSize)
	}
	return out.CloseAtomicallyReplace()
}

// mine restricts a file to its owner, as far as that is possible.
func mine(f *os.File) {
	if info, err := f.Stat(); err == nil && info.Mode().Perm() != private {
		_ = f.Chmod(private)
	}
}

// private are the permissions of the ledger, and of its lock.
const private = 0o600
