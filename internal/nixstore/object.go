package nixstore

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// OpenDirectory opens the directory that the store object p is, or dir below it unless
// that is "", for hashing an entry of it. No link is followed; anything but a directory
// fails with ENOTDIR.
func (s *Store) OpenDirectory(p closure.StorePath, dir string) (*os.File, error) {
	if err := s.check(p); err != nil {
		return nil, err
	}
	f, err := openBelow(s.file, path.Join(p.Base(), dir), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p, err)
	}
	return f, nil
}
