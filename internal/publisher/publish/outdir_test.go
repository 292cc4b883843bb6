package publish

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	commitA = "0123456789abcdef0123456789abcdef01234567"
	commitB = "fedcba9876543210fedcba9876543210fedcba98"
)

var created = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)

func hashOf(s string) nar.Hash { return nar.Hash(sha256.Sum256([]byte(s))) }

func object(letter, name string) closure.StorePath {
	return closure.StorePath("/nix/store/" + strings.Repeat(letter, 32) + "-" + name)
}

// manifest returns the manifest of a configuration of a source, and its files.
func manifest(configuration, source string) (*closure.Manifest, []closure.PathFiles) {
	top := object("a", configuration)
	m := &closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: configuration, System: "x86_64-linux", StoreDir: closure.DefaultStoreDir,
		Source:   closure.Source{NarHash: hashOf(source)},
		Toplevel: closure.Toplevel{DrvPath: top + ".drv", OutPath: top},
		Paths:    []closure.PathInfo{{Path: top, NarHash: hashOf(configuration), NarSize: 112}},
	}
	return m, []closure.PathFiles{{Path: top, NarHash: hashOf(configuration), Files: []nar.Entry{{Type: nar.Regular, SHA256: hashOf("")}}}}
}

func source(name, revision string) nix.Source {
	return nix.Source{Path: object("c", name), NarHash: hashOf(name), Revision: revision}
}

// other is an asset that stands for all others.
var other = asset{"other", func(w io.Writer) error {
	_, err := io.WriteString(w, "other")
	return err
}}

// write writes a configuration of a source into dir.
func write(t *testing.T, dir, configuration string, req Request, src nix.Source) (*Result, error) {
	t.Helper()
	out, err := openOutDir(dir)
	if err != nil {
		return nil, err
	}
	m, files := manifest(configuration, src.Path.Name())
	req.Created, req.BestBefore = created, created.AddDate(0, 0, 90)
	return out.write(t.Context(), req, src, m, listing(m, files), other)
}

func info(t *testing.T, dir string) release.Info {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, release.InfoName))
	if err != nil {
		t.Fatal(err)
	}
	info, err := release.ParseInfo(data)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dist", "new")
	first, err := write(t, dir, "one", Request{Tag: "boot-v1"}, source("src", commitA))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"closure-one.json", "closure-one.files.json.zst", "other", release.InfoName, release.SumsName}
	if !slices.Equal(first.Files, want) || first.Tag != "boot-v1" || first.Embedded {
		t.Errorf("got %+v, want the files %q", first, want)
	}
	// A second configuration of the same source, and an image that a build put
	// there, join the release.
	if err := os.WriteFile(filepath.Join(dir, "image.iso"), []byte("image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t, dir, "two", Request{}, source("src", commitA)); err != nil {
		t.Fatal(err)
	}
	got := info(t, dir)
	wantInfo := release.Info{
		SchemaVersion: release.InfoSchema, Tag: "boot-v1", Commit: commitA, CreatedAt: created, BestBefore: created.AddDate(0, 0, 90),
		Configurations: []string{"one", "two"},
	}
	if diff := cmp.Diff(wantInfo, got); diff != "" {
		t.Errorf("release.json (-want +got):\n%s", diff)
	}
	sums, err := os.ReadFile(filepath.Join(dir, release.SumsName))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := release.ParseSums(sums)
	if err != nil || parsed.Len() != 7 {
		t.Errorf("%s: %v, %d lines, want 7", release.SumsName, err, parsed.Len())
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 8 {
		t.Errorf("the directory holds %v, %v, want 8 files", names, err)
	}
}

// The manifest and its listing have the same bytes wherever and whenever they are released,
// and under whatever tag.
func TestWriteIsDeterministic(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	if _, err := write(t, a, "one", Request{Tag: "boot-v1"}, source("src", commitA)); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t, b, "one", Request{Tag: "boot-v2", Commit: commitB}, source("src", "")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"closure-one.json", "closure-one.files.json.zst"} {
		first, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(b, name))
		if err != nil || string(first) != string(second) {
			t.Errorf("%s differs between two releases of the same source, %v", name, err)
		}
	}
}

func TestTagAndCommit(t *testing.T) {
	for _, tc := range []struct {
		name       string
		req        Request
		revision   string
		tag        release.Tag
		wantCommit string
	}{
		{"both given", Request{Tag: "boot-v1", Commit: commitB}, commitA, "boot-v1", commitB},
		{"of the flake", Request{}, commitA, "boot-0123456789ab", commitA},
		{"commit given", Request{Commit: commitB}, commitA, "boot-fedcba987654", commitB},
		{"no commit", Request{}, "", "boot-cccccccccccc", ""},
	} {
		dir := t.TempDir()
		if _, err := write(t, dir, "one", tc.req, source("src", tc.revision)); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := info(t, dir); got.Tag != tc.tag || got.Commit != tc.wantCommit {
			t.Errorf("%s: tag %s of commit %q, want %s of %q", tc.name, got.Tag, got.Commit, tc.tag, tc.wantCommit)
		}
	}
}

// TestWriteInto is of directories that hold a release already.
func TestWriteInto(t *testing.T) {
	for _, tc := range []struct {
		name          string
		configuration string
		req           Request
		src           nix.Source
		tag           release.Tag // "" for an error
		commit        string
	}{
		{"the same again", "one", Request{}, source("src", commitA), "boot-v1", commitA},
		{"the same again, named", "one", Request{Tag: "boot-v1", Commit: commitA}, source("src", commitA), "boot-v1", commitA},
		{"another tag", "one", Request{Tag: "boot-v2"}, source("src", commitA), "", ""},
		{"another commit", "two", Request{Commit: commitB}, source("src", commitA), "", ""},
		{"another configuration", "two", Request{}, source("src", commitA), "boot-v1", commitA},
		{"another configuration of another source", "two", Request{}, source("other", commitB), "", ""},
		{"another configuration of another source under the same tag", "two", Request{Tag: "boot-v1"}, source("other", ""), "", ""},
		{"the configuration of a newer source", "one", Request{}, source("other", commitB), "boot-fedcba987654", commitB},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := write(t, dir, "one", Request{Tag: "boot-v1"}, source("src", commitA)); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(filepath.Join(dir, release.SumsName))
			if err != nil {
				t.Fatal(err)
			}
			_, err = write(t, dir, tc.configuration, tc.req, tc.src)
			if (err == nil) != (tc.tag != "") {
				t.Fatalf("got %v, want the tag %q", err, tc.tag)
			}
			if err != nil {
				after, readErr := os.ReadFile(filepath.Join(dir, release.SumsName))
				if readErr != nil || string(after) != string(before) || !strings.Contains(err.Error(), "choose another --out") {
					t.Errorf("%q; the release was touched: %v", err, string(after) != string(before))
				}
				return
			}
			if got := info(t, dir); got.Tag != tc.tag || got.Commit != tc.commit || !slices.Contains(got.Configurations, tc.configuration) {
				t.Errorf("got %+v, want %s of %s", got, tc.tag, tc.commit)
			}
		})
	}
	// Two configurations of a source cannot be replaced one by one.
	dir := t.TempDir()
	for _, c := range []string{"one", "two"} {
		if _, err := write(t, dir, c, Request{}, source("src", commitA)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := write(t, dir, "two", Request{}, source("other", "")); err == nil {
		t.Error("one of two configurations was replaced by that of another source")
	}
}

func TestOpenOutDirRefuses(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"signed":       func(dir string) error { return os.WriteFile(filepath.Join(dir, release.BundleName), nil, 0o644) },
		"malformed":    func(dir string) error { return os.WriteFile(filepath.Join(dir, release.InfoName), []byte("{}"), 0o644) },
		"no directory": func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), nil, 0o644) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		if name == "no directory" {
			dir = filepath.Join(dir, "file")
		}
		// Before anything is built.
		if _, err := Create(t.Context(), nil, Request{Configuration: "one", OutDir: dir}, new(Progress)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Create(t.Context(), nil, Request{Configuration: "../one", OutDir: t.TempDir()}, new(Progress)); err == nil {
		t.Error("malformed configuration: no error")
	}
}

// Until everything is written there are no checksums, and so there is no release.
func TestWriteIsCompleteOrNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := write(t, dir, "one", Request{}, source("src", commitA)); err != nil {
		t.Fatal(err)
	}
	out, err := openOutDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, files := manifest("two", "src")
	files[0].Files = nil // which no listing can hold
	req := Request{Created: created, BestBefore: created.AddDate(0, 0, 90)}
	if _, err := out.write(t.Context(), req, source("src", commitA), m, other, listing(m, files)); err == nil {
		t.Fatal("a listing without files was written")
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if e.Name() == release.SumsName || strings.Contains(e.Name(), "two") {
			t.Errorf("%s is there", e.Name())
		}
	}
}
