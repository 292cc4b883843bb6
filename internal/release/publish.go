package release

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// WriteSums writes dir/SHA256SUMS.txt over every other asset in dir. Everything in
// dir must be a regular file with an asset name, so that nothing unsigned is
// published beside the release. An existing signature is kept; it becomes invalid if
// anything changed.
func WriteSums(ctx context.Context, dir string) error {
	names, err := assetsIn(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", SumsName, err)
	}
	digests := make(map[string]Digest, len(names))
	for _, name := range names {
		if digests[name], err = HashFile(ctx, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("write %s: %w", SumsName, err)
		}
	}
	sums, err := NewSums(digests)
	if err != nil {
		return fmt.Errorf("write %s in %s: %w", SumsName, printable(dir), err)
	}
	return writeFile(filepath.Join(dir, SumsName), sums.Encode())
}

// CheckSums compares the files in dir with dir/SHA256SUMS.txt. One *[UntrustedError]
// names all contradictions; a missing SHA256SUMS.txt is a *[NotFoundError].
func CheckSums(ctx context.Context, dir string) error {
	data, err := hostfile.ReadSmall(filepath.Join(dir, SumsName), MaxSumsSize)
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{What: SumsName, Source: printable(dir), Hint: "the build of the release writes one, and it belongs beside the other files"}
	}
	if err != nil {
		return err
	}
	refuse := func(reason Reason, format string, args ...any) error {
		return &UntrustedError{Reason: reason, Source: printable(dir), Detail: fmt.Sprintf(format, args...)}
	}
	sums, err := ParseSums(data)
	if err != nil {
		return refuse(ReasonMalformedSums, "%v", err)
	}
	names, err := assetsIn(dir)
	if err != nil {
		return err
	}
	var wrong []string
	for _, name := range names {
		want, ok := sums.Digest(name)
		if !ok {
			wrong = append(wrong, name+" has no line in it")
			continue
		}
		got, err := HashFile(ctx, filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if got != want {
			wrong = append(wrong, name+" has other bytes")
		}
	}
	for name := range sums.All() {
		if !slices.Contains(names, name) {
			wrong = append(wrong, name+" is not there")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	const most = 20
	return refuse(ReasonChecksum, "%s contradicts the files: %s", SumsName, excerpt.List(wrong, ", ", most))
}

// WriteInfo writes dir/release.json. It sets the configurations of info from the
// manifests in dir.
func WriteInfo(dir string, info Info) error {
	names, err := assetsIn(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", InfoName, err)
	}
	info.SchemaVersion, info.Configurations = InfoSchema, nil
	for _, name := range names {
		if c, ok := configurationOf(name); ok && isManifest(name) {
			info.Configurations = append(info.Configurations, c)
		}
	}
	slices.Sort(info.Configurations)
	data, err := info.Encode()
	if err != nil {
		return fmt.Errorf("write %s in %s: %w", InfoName, printable(dir), err)
	}
	return writeFile(filepath.Join(dir, InfoName), data)
}

// WriteBundle writes dir/SHA256SUMS.txt.sigstore.json.
func WriteBundle(dir string, bundle []byte) error {
	return writeFile(filepath.Join(dir, BundleName), bundle)
}

// CheckComplete returns an error unless dir, which has the files of r, has every
// asset that r lists, unchanged and well-formed, and nothing else. A publisher runs
// it before and after publishing.
func (r *Release) CheckComplete(ctx context.Context, dir string) error {
	names, err := assetsIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := r.sums.Digest(name); !ok {
			return r.refuse(ReasonNotInSums, "%s is in the directory, but %s has no line for it", name, SumsName)
		}
	}
	return r.CheckAssets(ctx, nil)
}

// CheckAssets reads the assets of r that want accepts (nil for all), compares them
// with SHA256SUMS.txt, and decodes the manifests and listings among them.
// release.json must list the configuration of each.
func (r *Release) CheckAssets(ctx context.Context, want func(name string) bool) error {
	for name := range r.sums.All() {
		if want != nil && !want(name) {
			continue
		}
		var err error
		switch c, ok := configurationOf(name); {
		case ok && !r.info.Has(c):
			err = r.refuse(ReasonMalformedInfo, "%s does not list the configuration of %s", InfoName, name)
		case ok && isListing(name):
			err = r.checkListing(ctx, c)
		case ok:
			_, err = r.Manifest(ctx, c)
		case name == RevocationsName:
			_, err = r.revocations(ctx)
		default:
			err = r.named(r.copy(ctx, io.Discard, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Release) checkListing(ctx context.Context, configuration string) error {
	every := func(closure.StorePath) bool { return true }
	for _, err := range r.Files(ctx, configuration, every) {
		if err != nil {
			return err
		}
	}
	return nil
}

// assetsIn returns the names of the assets in dir, without SHA256SUMS.txt and its
// derivatives.
func assetsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{What: "the directory of the release", Source: printable(dir)}
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if err := CheckAssetName(name); err != nil {
			return nil, fmt.Errorf("%s: %w", printable(dir), err)
		}
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s: not a regular file; copy the file itself there, or remove it", printable(filepath.Join(dir, name)))
		}
		if !isSumsFile(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// HashFile returns the SHA-256 of the regular file at path.
func HashFile(ctx context.Context, path string) (Digest, error) {
	f, err := hostfile.Open(path)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, hostfile.WithContext(ctx, f)); err != nil {
		return Digest{}, err
	}
	return digestOf(h), nil
}

// writeFile replaces path in one step, readable by all users: published files are not
// secret.
func writeFile(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, 0o644, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("write %s: %w", printable(path), err)
	}
	return hostfile.SyncDir(filepath.Dir(path))
}
