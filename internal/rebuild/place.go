package rebuild

import (
	"fmt"
	"os"
	"path/filepath"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/pkg/closure"
)

// place creates a mount point for each input in the scratch store at dir, and returns the
// binds. Nothing can be bound to a link, so links are created anew.
func place(dir string, all []*input) ([]nix.Bind, error) {
	binds := make([]nix.Bind, 0, len(all))
	for _, i := range all {
		to := filepath.Join(dir, string(i.info.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, err
		}
		info, err := os.Lstat(i.from)
		if err != nil {
			return nil, err
		}
		switch kind := info.Mode().Type(); kind {
		case 0:
			if err := os.WriteFile(to, nil, 0o444); err != nil {
				return nil, err
			}
		case os.ModeDir:
			if err := os.Mkdir(to, 0o755); err != nil {
				return nil, err
			}
		case os.ModeSymlink:
			target, err := os.Readlink(i.from)
			if err != nil {
				return nil, err
			}
			if err := os.Symlink(target, to); err != nil {
				return nil, err
			}
			continue
		default:
			return nil, fmt.Errorf("%s is a %s", i.from, kind)
		}
		binds = append(binds, nix.Bind{From: i.from, To: to})
	}
	return binds, nil
}

func infosOf(all []*input) []closure.PathInfo {
	infos := make([]closure.PathInfo, len(all))
	for n, i := range all {
		infos[n] = i.info
	}
	return infos
}

// source returns i as a source that an evaluation may read.
func (i *input) source() nix.EvalSource {
	return nix.EvalSource{Store: i.store.File(), Name: i.info.Path.Base(), NarHash: i.info.NarHash, NarSize: i.info.NarSize}
}
