package nixstore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// OpenObject opens the directory that the store object p is, to be given to
// what hashes an entry of it. A link in the place of p is not followed; an
// object that is no directory fails with ENOTDIR.
func (s *Store) OpenObject(p closure.StorePath) (*os.File, error) {
	if err := s.check(p); err != nil {
		return nil, err
	}
	f, err := openBelow(s.file, p.Base(), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p, err)
	}
	return f, nil
}
