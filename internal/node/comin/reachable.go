package comin

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Reachable reports whether users other than root can reach the socket, by its mode and
// those of the directories above it. comin lets everybody write to it (0777), and obeys
// every request.
func Reachable(socket string) (bool, error) {
	path, err := filepath.EvalSymlinks(socket)
	if err != nil {
		return false, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return false, err
	}
	// A link may lead past a directory that is closed, and one on the way to it may be.
	const write, search = 0o2, 0o1
	for need := fs.FileMode(write); ; need = search {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		group := fs.FileMode(0)
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Gid != 0 {
			group = need << 3
		}
		if info.Mode().Perm()&(need|group) == 0 {
			return false, nil
		}
		if path == "/" {
			return true, nil
		}
		path = filepath.Dir(path)
	}
}
