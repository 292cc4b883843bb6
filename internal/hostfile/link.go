package hostfile

import (
	"errors"
	"os"
	"path/filepath"
)

// ReplaceLink makes the link name lead to target, in one step, and syncs that to disk.
// Before, the new link has the name of the old one after ".tmp-"; one that a killed run
// left there is removed, so only one process at a time may replace a link.
func ReplaceLink(target, name string) error {
	dir, base := filepath.Split(name)
	dir = filepath.Clean(dir)
	temp := filepath.Join(dir, ".tmp-"+base)
	if err := RemoveTree(temp); err != nil {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(dir)
}
