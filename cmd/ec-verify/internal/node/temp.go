package node

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	// tempPrefix is the name prefix of temporary directories in a state directory.
	tempPrefix = ".temp-"
	// tempRoom is how many bytes the state directory must have free to be used:
	// the copies of a Nix database, and what else a run keeps there, take less.
	tempRoom = 256 << 20
)

// tempIn has this process keep its temporary files in a directory of its own in
// the state directory, so that a run writes nowhere else, and removes those that
// dead processes left there. The returned function removes the directory. Where
// there is no state directory, or no room in it, the usual place is used.
func tempIn(stateDir string) (remove func()) {
	nothing := func() {}
	var fs unix.Statfs_t
	if err := unix.Statfs(stateDir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < tempRoom { //nolint:gosec // block sizes are positive
		return nothing
	}
	entries, _ := os.ReadDir(stateDir)
	for _, e := range entries {
		dir := filepath.Join(stateDir, e.Name())
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if f := lockTemp(dir); f != nil {
			_ = hostfile.RemoveTree(dir) // tried again by the next
			f.Close()
		}
	}
	dir, err := os.MkdirTemp(stateDir, tempPrefix)
	if err != nil {
		return nothing
	}
	f := lockTemp(dir)
	if f == nil {
		// Another process took it for a dead one's before it was locked.
		return nothing
	}
	os.Setenv("TMPDIR", dir)
	return func() {
		_ = hostfile.RemoveTree(dir) // tried again by the next
		f.Close()
	}
}

// lockTemp opens and locks a temporary directory; nil if it does not exist or a living
// process holds it.
func lockTemp(dir string) *os.File {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	if free, err := hostfile.TryLock(f, unix.LOCK_EX); err != nil || !free {
		f.Close()
		return nil
	}
	return f
}
