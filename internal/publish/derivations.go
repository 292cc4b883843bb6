package publish

import (
	"context"
	"errors"
	"os"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
)

// writeDerivations writes what explains, on a machine whose flake evaluates to
// something else, why that is so, and returns the name of the file. The
// checksums are of what was there before, and go first.
func (d *outDir) writeDerivations(ctx context.Context, store *nixstore.Store, m *closure.Manifest) (string, error) {
	if err := os.Remove(d.join(release.SumsName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	name := release.DerivationsName(m.Configuration)
	f, err := renameio.NewPendingFile(d.join(name), renameio.WithPermissions(0o644))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Cleanup() }()
	if err := drvdiff.Write(ctx, f, store, m.Configuration, m.Toplevel.DrvPath); err != nil {
		return "", err
	}
	return name, f.CloseAtomicallyReplace()
}
