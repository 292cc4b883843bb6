package nixstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// HashFile returns the NAR hash of the file name in the store object p, zero if there is
// none. A link on the way is an error.
func (s *Store) HashFile(ctx context.Context, p closure.StorePath, name string) (nar.Hash, error) {
	if err := s.check(p); err != nil {
		return nar.Hash{}, err
	}
	below := path.Dir(name)
	dir, err := openBelow(s.file, path.Join(p.Base(), below), unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOTDIR), below != "." && errors.Is(err, fs.ErrNotExist):
		return nar.Hash{}, nil
	case err != nil:
		return nar.Hash{}, fmt.Errorf("open %s: %w", p, err)
	}
	defer dir.Close()
	sum, err := nar.NewHasher(nar.Options{}).Sum(ctx, dir, path.Base(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nar.Hash{}, nil
	}
	return sum.Hash, err
}
