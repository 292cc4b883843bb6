package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CopyTo puts SHA256SUMS.txt, its bundle and the assets that want accepts (nil
// for all) into the directory dir, which must not exist or be empty. It
// appears there in one step, when everything was checked: whatever happens
// before, dir is as it was.
func (r *Release) CopyTo(ctx context.Context, dir string, want func(name string) bool) error {
	dir = filepath.Clean(dir)
	if err := checkEmpty(dir); err != nil {
		return err
	}
	parent, base := filepath.Split(dir)
	if parent == "" {
		parent = "."
	}
	staging, err := os.MkdirTemp(parent, "."+base+".partial-*")
	if err != nil {
		return fmt.Errorf("copy %s: %w", r.tag, err)
	}
	defer os.RemoveAll(staging)
	if err := r.stage(ctx, staging, want); err != nil {
		return err
	}
	// os.Rename refuses a directory as its target, even an empty one.
	if err := unix.Rename(staging, dir); err != nil {
		return fmt.Errorf("copy %s to %s: %w", r.tag, printable(dir), err)
	}
	return syncDir(parent)
}

// checkEmpty reports whether a release may be put at dir.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty; name a directory that is, or that does not exist yet", printable(dir))
	}
	return nil
}

// stage writes the checked files of r into dir and makes them last. Only when
// it has returned nil are they to be used.
func (r *Release) stage(ctx context.Context, dir string, want func(name string) bool) error {
	small := map[string][]byte{SumsName: r.rawSums, BundleName: r.rawBundle, InfoName: r.rawInfo}
	for name, data := range small {
		if data == nil {
			continue
		}
		err := createSynced(filepath.Join(dir, name), func(f *os.File) error {
			_, err := f.Write(data)
			return err
		})
		if err != nil {
			return fmt.Errorf("copy %s: %w", r.tag, err)
		}
	}
	for name := range r.sums.All() {
		if name == InfoName || want != nil && !want(name) {
			continue
		}
		err := createSynced(filepath.Join(dir, name), func(f *os.File) error { return r.copy(ctx, f, name) })
		if err != nil {
			return r.named(err)
		}
	}
	// Until here nobody else could look into it.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what is published is no secret
		return fmt.Errorf("copy %s: %w", r.tag, err)
	}
	return syncDir(dir)
}

// createSynced creates the file at path with what write writes, and makes it
// last.
func createSynced(path string, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644) //nolint:gosec // what is published is no secret
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
