package release_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/pkg/closure"
)

// believing is a verifier that takes a bundle of the word "good" for a
// signature, so that what is tested here is not the cryptography.
type believing struct{}

func (believing) Verify(_ context.Context, _, bundle []byte) (release.Signer, error) {
	if bundle == nil {
		return release.Signer{}, release.Untrusted(release.ReasonUnsigned, "no bundle")
	}
	if string(bundle) != "good" {
		return release.Signer{}, release.Untrusted(release.ReasonBadSignature, "bad bundle")
	}
	return release.Signer{Kind: release.SignedByKey, Name: "test"}, nil
}

func at(t time.Time) release.Option {
	return release.WithClock(func() time.Time { return t })
}

// signed writes a release into dir/TAG with the bundle that believing takes.
func signed(t testing.TB, dir string, s releasetest.Spec) string {
	t.Helper()
	if s.Tag == "" {
		s.Tag = releasetest.Tag
	}
	sub := filepath.Join(dir, string(s.Tag))
	releasetest.Write(t, sub, s)
	releasetest.File(t, sub, release.BundleName, []byte("good"))
	return sub
}

func open(t *testing.T, dir string, tag release.Tag, opts ...release.Option) (*release.Release, error) {
	t.Helper()
	return release.Open(t.Context(), release.NewDirSource(dir), tag, believing{}, append([]release.Option{at(releasetest.Now)}, opts...)...)
}

func wantReason(t *testing.T, err error, want release.Reason) {
	t.Helper()
	var untrusted *release.UntrustedError
	if !errors.As(err, &untrusted) {
		t.Fatalf("error %v, want an UntrustedError (%s)", err, want)
	}
	if untrusted.Reason != want {
		t.Errorf("reason %s, want %s (%v)", untrusted.Reason, want, err)
	}
	if untrusted.Source == "" || untrusted.Detail == "" {
		t.Errorf("incomplete: %#v", untrusted)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{})
	r, err := open(t, dir, releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	if r.Tag() != releasetest.Tag || r.Signer().Name != "test" || r.Unsigned() || len(r.Unsafe()) != 0 || len(r.Notes()) != 0 {
		t.Errorf("tag %s, signer %v, unsigned %v, unsafe %v, notes %v", r.Tag(), r.Signer(), r.Unsigned(), r.Unsafe(), r.Notes())
	}
	m, err := r.Manifest(t.Context(), releasetest.Configuration)
	if err != nil || m.Configuration != releasetest.Configuration || len(m.Paths) != 2 {
		t.Errorf("Manifest: %v, %v", m, err)
	}
	var paths []closure.StorePath
	for p, err := range r.Files(t.Context(), releasetest.Configuration, func(closure.StorePath) bool { return true }) {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p.Path)
	}
	if len(paths) != 2 {
		t.Errorf("Files gave %v", paths)
	}
	image, err := r.Asset(t.Context(), "image.iso")
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if got, err := io.ReadAll(image); err != nil || !bytes.Equal(got, releasetest.Read(t, sub, "image.iso")) {
		t.Errorf("Asset gave %d bytes, %v", len(got), err)
	}
	if err := r.CheckComplete(t.Context(), sub); err != nil {
		t.Error(err)
	}
}

func TestOpenFlatDirectory(t *testing.T) {
	sub := signed(t, t.TempDir(), releasetest.Spec{})
	for _, tag := range []release.Tag{"", releasetest.Tag} {
		r, err := open(t, sub, tag)
		if err != nil {
			t.Fatal(err)
		}
		if r.Tag() != releasetest.Tag {
			t.Errorf("Tag() = %q", r.Tag())
		}
	}
	_, err := open(t, sub, "boot-v2027.01.01")
	wantReason(t, err, release.ReasonWrongTag)
}

func TestOpenNotFound(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	for _, c := range []struct {
		dir string
		tag release.Tag
	}{{dir, "boot-v2"}, {filepath.Join(dir, "none"), releasetest.Tag}, {dir, ""}} {
		if _, err := open(t, c.dir, c.tag); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("%s %s: error %v, want not found", c.dir, c.tag, err)
		}
	}
	r, err := open(t, dir, releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), "other"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("another configuration: %v", err)
	}
	if _, err := r.Asset(t.Context(), "other"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("another asset: %v", err)
	}
	if _, err := r.Manifest(t.Context(), "../x"); err == nil {
		t.Error("a configuration with a path is taken")
	}
}

// TestAssetsAreChecked changes each asset after the sums were written.
func TestAssetsAreChecked(t *testing.T) {
	for name, use := range map[string]func(context.Context, *release.Release) error{
		release.ManifestName(releasetest.Configuration): func(ctx context.Context, r *release.Release) error {
			_, err := r.Manifest(ctx, releasetest.Configuration)
			return err
		},
		release.ListingName(releasetest.Configuration): func(ctx context.Context, r *release.Release) error {
			_, err := r.Listing(ctx, releasetest.Configuration)
			return err
		},
		"image.iso": func(ctx context.Context, r *release.Release) error {
			_, err := r.Asset(ctx, "image.iso")
			return err
		},
	} {
		dir := t.TempDir()
		sub := signed(t, dir, releasetest.Spec{})
		r, err := open(t, dir, releasetest.Tag)
		if err != nil {
			t.Fatal(err)
		}
		data := releasetest.Read(t, sub, name)
		data[len(data)/2] ^= 1
		releasetest.File(t, sub, name, data)
		wantReason(t, use(t.Context(), r), release.ReasonChecksum)
		wantReason(t, r.CheckAssets(t.Context(), nil), release.ReasonChecksum)
		if err := os.Remove(filepath.Join(sub, name)); err != nil {
			t.Fatal(err)
		}
		if err := use(t.Context(), r); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

// TestManifestFaults: a manifest that is read while it comes in is refused in the words for
// one that is read as a whole.
func TestManifestFaults(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := release.ManifestName(releasetest.Configuration)
	whole := releasetest.Manifest(t, releasetest.Configuration)
	path := bytes.Index(whole, []byte(`"path"`))
	for what, data := range map[string][]byte{
		"nothing":                nil,
		"the head alone":         whole[:path],
		"cut in a path":          whole[:path+20],
		"cut before its end":     whole[:len(whole)-1],
		"an altered head":        bytes.Replace(whole, []byte("{"), []byte("["), 1),
		"an altered path":        slices.Concat(whole[:path+1], []byte("q"), whole[path+2:]),
		"an altered end":         slices.Concat(whole[:len(whole)-2], []byte("]\n")),
		"more behind its end":    slices.Concat(whole, whole),
		"other blanks":           bytes.ReplaceAll(whole, []byte("  "), []byte("\t")),
		"another configuration":  releasetest.Manifest(t, "other"),
		"too large":              make([]byte, closure.MaxManifestSize+1),
		"too large, of any path": slices.Concat(whole[:path], bytes.Repeat([]byte("x"), closure.MaxManifestSize)),
	} {
		for _, isSigned := range []bool{false, true} {
			dir := t.TempDir()
			sub := signed(t, dir, releasetest.Spec{})
			releasetest.File(t, sub, name, data)
			if isSigned && len(data) <= closure.MaxManifestSize {
				must(release.WriteSums(t.Context(), sub))
			}
			r, err := open(t, dir, releasetest.Tag)
			must(err)
			var want error
			if in, err := r.Asset(t.Context(), name); err != nil {
				want = err
			} else {
				data, err := io.ReadAll(in)
				must(errors.Join(err, in.Close()))
				m, err := closure.DecodeManifest(data)
				untrusted := release.Untrusted(release.ReasonMalformedManifest, "%s: %v", name, err)
				if err == nil {
					untrusted = release.Untrusted(release.ReasonWrongConfiguration, "%s is the manifest of configuration %s", name, m.Configuration)
				}
				untrusted.Tag, untrusted.Source = r.Tag(), r.Source()
				want = untrusted
			}
			if _, err := r.Manifest(t.Context(), releasetest.Configuration); err == nil || err.Error() != want.Error() {
				t.Errorf("%s, signed %t: error %v, want %v", what, isSigned, err, want)
			}
		}
	}
}

// TestNotRegular puts other things in the place of a file: none may be waited
// for or read.
func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{})
	path := filepath.Join(sub, release.InfoName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, dir, releasetest.Tag)
	wantReason(t, err, release.ReasonNotRegular)
}

func TestUnlistedFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{})
	r, err := open(t, dir, releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, sub, "extra.iso", []byte("x"))
	wantReason(t, r.CheckComplete(t.Context(), sub), release.ReasonNotInSums)
}

func TestWriteSumsRefuses(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"directory": func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o755) },
		"symlink":   func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "link")) },
		"name":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "a b"), nil, 0o644) },
		"hidden":    func(dir string) error { return os.WriteFile(filepath.Join(dir, ".a"), nil, 0o644) },
	} {
		dir := t.TempDir()
		releasetest.File(t, dir, "a", nil)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if err := release.WriteSums(t.Context(), dir); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(filepath.Join(dir, release.SumsName)); err == nil {
			t.Errorf("%s: %s was written", name, release.SumsName)
		}
	}
	if err := release.WriteSums(t.Context(), t.TempDir()); err == nil {
		t.Error("empty directory: no error")
	}
}

// nobody believes everything and says so, as trust.UnsafeUnsigned does.
type nobody struct{}

func (nobody) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.Unsigned}, nil
}
