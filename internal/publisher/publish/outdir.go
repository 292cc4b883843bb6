package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
)

// outDir is the directory that a release is written to.
type outDir struct {
	path string
	info *release.Info // of the configurations that are there already; nil for none
}

func openOutDir(path string) (*outDir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	d := &outDir{path: path}
	if _, err := os.Lstat(d.join(release.BundleName)); err == nil {
		return nil, fmt.Errorf("output directory %s: %w", path, errSigned)
	}
	data, err := hostfile.ReadSmall(d.join(release.InfoName), release.MaxInfoSize)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return d, nil
	case err != nil:
		return nil, fmt.Errorf("output directory: %w", err)
	}
	info, err := release.ParseInfo(data)
	if err != nil {
		return nil, fmt.Errorf("output directory %s: %w", path, err)
	}
	d.info = &info
	return d, nil
}

func (d *outDir) join(name string) string { return filepath.Join(d.path, name) }

// asset is a file of a release beside its manifest.
type asset struct {
	name  string
	write func(io.Writer) error
}

// write writes the files of one configuration: its manifest and the assets. It removes
// the old checksums first and writes the new ones last: in between there is no release.
// If the files can't be part of the release in d, it fails before it touches that
// release.
func (d *outDir) write(ctx context.Context, req Request, src nix.Source, m *closure.Manifest, assets ...asset) (*Result, error) {
	manifest, err := m.Encode()
	if err != nil {
		return nil, err
	}
	info, err := d.newInfo(req, src, m)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(d.join(release.SumsName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	names := []string{release.ManifestName(m.Configuration)}
	for _, a := range assets {
		if err := d.writeAsset(a); err != nil {
			return nil, err
		}
		names = append(names, a.name)
	}
	if err := renameio.WriteFile(d.join(names[0]), manifest, 0o644); err != nil {
		return nil, err
	}
	if err := release.WriteInfo(d.path, info); err != nil {
		return nil, err
	}
	if err := release.WriteSums(ctx, d.path); err != nil {
		return nil, err
	}
	return &Result{
		Manifest: m, Tag: string(info.Tag), Embedded: embedded(m, src.Path),
		Files: append(names, release.InfoName, release.SumsName),
	}, nil
}

// newInfo returns the release.json with the configuration of m added.
func (d *outDir) newInfo(req Request, src nix.Source, m *closure.Manifest) (release.Info, error) {
	info := release.Info{
		SchemaVersion: release.InfoSchema, Tag: release.Tag(req.Tag), Commit: req.Commit,
		CreatedAt: req.Created, BestBefore: req.BestBefore,
	}
	if info.Commit == "" {
		info.Commit = src.Revision
	}
	if info.Tag == "" {
		info.Tag = defaultTag(info.Commit, src)
	}
	if have := d.info; have != nil {
		if req.Tag != "" && have.Tag != info.Tag || req.Commit != "" && have.Commit != info.Commit {
			return info, fmt.Errorf("output directory %s contains the release %s of commit %s: choose another --out", d.path, have.Tag, cmp.Or(have.Commit, "none stated"))
		}
		current, err := d.isOf(m)
		if err != nil {
			return info, err
		}
		if current {
			info = *have
		}
	}
	if !slices.Contains(info.Configurations, m.Configuration) {
		info.Configurations = append(slices.Clone(info.Configurations), m.Configuration)
		slices.Sort(info.Configurations)
	}
	return info, nil
}

// isOf reports whether the release in d was made from the source of m. If it was made
// from another, isOf fails, unless the release has only an older manifest of the same
// configuration, which m replaces.
func (d *outDir) isOf(m *closure.Manifest) (bool, error) {
	for _, c := range d.info.Configurations {
		data, err := hostfile.ReadSmall(d.join(release.ManifestName(c)), closure.MaxManifestSize)
		if err != nil {
			return false, fmt.Errorf("output directory: %w", err)
		}
		old, err := closure.DecodeManifest(data)
		switch {
		case err != nil:
			return false, fmt.Errorf("output directory: %s: %w", release.ManifestName(c), err)
		case old.Source == m.Source:
			continue
		case len(d.info.Configurations) > 1 || c != m.Configuration:
			return false, fmt.Errorf("output directory %s contains the configuration %s of another source: choose another --out", d.path, c)
		}
		return false, nil
	}
	return true, nil
}

// defaultTag returns the tag of a release without a given one: its commit, or the digest
// of its source if that is under no version control.
func defaultTag(commit string, src nix.Source) release.Tag {
	if len(commit) >= 12 {
		return release.Tag("boot-" + commit[:12])
	}
	return release.Tag("boot-" + src.Path.Digest()[:12])
}

// writeAsset writes a completely, or not at all.
func (d *outDir) writeAsset(a asset) error {
	f, err := renameio.NewPendingFile(d.join(a.name), renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // what is left to clean up then failed before
	if err := a.write(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// listing returns the asset that lists the files of each path of m.
func listing(m *closure.Manifest, files []closure.PathFiles) asset {
	return asset{release.ListingName(m.Configuration), func(w io.Writer) error {
		return encodeListing(w, m.Configuration, files)
	}}
}

// derivations returns the asset that explains, on a machine whose flake evaluates to
// something else, why. The graph is that of m's toplevel.
func derivations(ctx context.Context, store *nixstore.Store, graph nixstore.Graph, m *closure.Manifest) asset {
	return asset{release.DerivationsName(m.Configuration), func(w io.Writer) error {
		return drvdiff.Write(ctx, w, store, graph, m.Configuration, m.Toplevel.DrvPath)
	}}
}

// machine returns the asset that says what a machine of m looks like beside its store.
func machine(ctx context.Context, store *nixstore.Store, m *closure.Manifest) (asset, error) {
	looks, err := expected.Read(ctx, store, m.Configuration, m.Toplevel.OutPath, m.Paths)
	if err != nil {
		return asset{}, err
	}
	return asset{release.MachineName(m.Configuration), looks.Write}, nil
}

func encodeListing(w io.Writer, configuration string, files []closure.PathFiles) error {
	l, err := closure.NewListingWriter(w, configuration)
	if err != nil {
		return err
	}
	for _, p := range files {
		if err := l.Add(p); err != nil {
			return err
		}
	}
	return l.Close()
}
