package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLock is a lock file without inputs.
const testLock = `{"nodes":{"root":{}},"root":"root","version":7}`

const testTag release.Tag = "boot-v2026.02.28"

const testConfiguration = "ec-runner-x86_64"

var testCreated = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)

// object returns the store path of the tests whose digest repeats letter.
func object(letter, name string) closure.StorePath {
	return closure.StorePath("/nix/store/" + strings.Repeat(letter, 32) + "-" + name)
}

// The closure of the tests: top refers to the others, lib to data.
var (
	data = object("a", "data")
	lib  = object("b", "lib")
	src  = object("c", "source")
	top  = object("d", "nixos-system")
	drv  = object("f", "nixos-system.drv")
)

// nixSchema is what ec-verify reads of schema.sql of Nix 2.x.
const nixSchema = `
create table ValidPaths (
    id integer primary key autoincrement not null, path text unique not null, hash text not null,
    registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text
);
create table Refs (
    referrer integer not null, reference integer not null, primary key (referrer, reference)
);`

// machine is a disk with a small NixOS on it, looked at from outside, and a
// release that it is.
type machine struct {
	t        *testing.T
	root     string
	releases string
	manifest *closure.Manifest
	files    []closure.PathFiles
	eval     *evaluator
}

// newMachine returns a machine that is its release.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), releases: t.TempDir()}
	t.Cleanup(m.unseal)
	m.write(string(data)+"/a/file", "data")
	m.write(string(data)+"/caf\xe9", "not UTF-8")
	m.mkdir(string(data) + "/empty")
	m.write(string(lib), "a file by itself")
	m.write(string(src)+"/flake.nix", "{ }")
	m.write(string(src)+"/flake.lock", testLock)
	m.write(string(top)+"/init", "#!/bin/sh")
	m.link(string(top)+"/sw", string(lib))
	m.write(string(top)+"/kernel-params", params(top))
	m.chmod(string(top)+"/init", 0o555)
	m.seal()
	m.link("/nix/var/nix/profiles/system", "system-1-link")
	m.link("/nix/var/nix/profiles/system-1-link", string(top))
	m.link("/etc/every-channel/flake", string(src))

	m.manifest = &closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: testConfiguration, System: "x86_64-linux", StoreDir: closure.DefaultStoreDir,
		Source:   closure.Source{NarHash: m.hash(string(src)).Hash, LockNarHash: m.hash(string(src) + "/flake.lock").Hash},
		Toplevel: closure.Toplevel{DrvPath: drv, OutPath: top},
		Paths:    []closure.PathInfo{m.info(data), m.info(lib, data), m.info(src), m.info(top, data, lib, src)},
	}
	m.eval = &evaluator{top: m.manifest.Toplevel}
	m.register(m.manifest.Paths...)
	m.publish(testTag)
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

// seal gives what is in the store the modes and times that Nix gives.
func (m *machine) seal() { m.t.Helper(); m.eachObject(seal) }

// unseal lets the owner write to the store.
func (m *machine) unseal() { m.t.Helper(); m.eachObject(unseal) }

func seal(path string, info fs.FileInfo) error {
	mode := fs.FileMode(0o444)
	if info.IsDir() || info.Mode()&0o100 != 0 {
		mode = 0o555
	}
	return errors.Join(os.Chmod(path, mode), os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
}

func unseal(path string, info fs.FileInfo) error { return os.Chmod(path, info.Mode().Perm()|0o200) }

// eachObject calls do for each file and directory in the store.
func (m *machine) eachObject(do func(path string, info fs.FileInfo) error) {
	m.t.Helper()
	store := m.path("/nix/store")
	m.must(filepath.WalkDir(store, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == store {
			return nil
		}
		if err != nil || path == store || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return do(path, info)
	}))
}

// change calls do with the path of the file of that name. If it is in the store, it and its
// directories are writable meanwhile and sealed afterwards. The rest of the store is left
// alone: a walk of all of it for each file took most of the time of these tests.
func (m *machine) change(name string, do func(path string) error) {
	m.t.Helper()
	path := m.path(name)
	m.must(errors.Join(m.upwards(path, unseal), do(path), m.upwards(path, seal)))
}

// upwards calls do for the file at path and for each directory that it is in, as far as
// these exist and are in the store.
func (m *machine) upwards(path string, do func(path string, info fs.FileInfo) error) error {
	for store := m.path("/nix/store") + "/"; strings.HasPrefix(path, store); path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err == nil && (info.IsDir() || info.Mode().IsRegular()) {
			err = do(path, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (m *machine) mkdir(name string) {
	m.t.Helper()
	m.change(name, func(path string) error { return os.MkdirAll(path, 0o755) })
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	m.change(name, func(path string) error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	})
}

func (m *machine) chmod(name string, mode os.FileMode) {
	m.t.Helper()
	m.must(os.Chmod(m.path(name), mode))
}

func (m *machine) link(name, target string) {
	m.t.Helper()
	m.remove(name)
	m.change(name, func(path string) error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path))
	})
}

func (m *machine) remove(name string) {
	m.t.Helper()
	m.change(name, func(path string) error {
		err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				err = os.Chmod(path, 0o755)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.RemoveAll(path)
	})
}

func (m *machine) hash(name string) nar.Sum {
	m.t.Helper()
	sum, err := nar.HashPath(m.t.Context(), m.path(name), nar.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	return sum
}

// info returns what is true of p, and keeps its files for the listing.
func (m *machine) info(p closure.StorePath, refs ...closure.StorePath) closure.PathInfo {
	m.t.Helper()
	var entries []nar.Entry
	sum, err := nar.HashPath(m.t.Context(), m.path(string(p)), nar.Options{OnEntry: func(e nar.Entry) error {
		entries = append(entries, e)
		return nil
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.files = append(m.files, closure.PathFiles{Path: p, NarHash: sum.Hash, Files: entries})
	return closure.PathInfo{Path: p, NarHash: sum.Hash, NarSize: sum.Size, References: refs}
}

// publish writes the manifest and its listing as the release tag.
func (m *machine) publish(tag release.Tag) {
	m.t.Helper()
	dir := filepath.Join(m.releases, string(tag))
	manifest, err := m.manifest.Encode()
	m.must(err)
	var listing bytes.Buffer
	w, err := closure.NewListingWriter(&listing, testConfiguration)
	m.must(err)
	for _, p := range m.files {
		m.must(w.Add(p))
	}
	m.must(w.Close())
	m.must(os.MkdirAll(dir, 0o755))
	m.must(os.WriteFile(filepath.Join(dir, release.ManifestName(testConfiguration)), manifest, 0o644))
	m.must(os.WriteFile(filepath.Join(dir, release.ListingName(testConfiguration)), listing.Bytes(), 0o644))
	m.sign(tag)
}

// sign writes what names the files of the release tag as they are.
func (m *machine) sign(tag release.Tag) {
	m.t.Helper()
	dir := filepath.Join(m.releases, string(tag))
	m.must(release.WriteInfo(dir, release.Info{Tag: tag, CreatedAt: testCreated, BestBefore: testCreated.AddDate(0, 0, 90)}))
	m.must(release.WriteSums(m.t.Context(), dir))
}

// register begins a Nix database that holds infos.
func (m *machine) register(infos ...closure.PathInfo) {
	m.t.Helper()
	m.write("/nix/var/nix/db/schema", "10")
	statements := []string{nixSchema}
	for i, info := range infos {
		statements = append(statements, fmt.Sprintf("insert into ValidPaths (id, path, hash, registrationTime, narSize) values (%d, '%s', 'sha256:%s', 1, %d)",
			i+1, info.Path, hex.EncodeToString(info.NarHash[:]), info.NarSize))
		for _, ref := range info.References {
			j := slices.IndexFunc(infos, func(other closure.PathInfo) bool { return other.Path == ref })
			statements = append(statements, fmt.Sprintf("insert into Refs values (%d, %d)", i+1, j+1))
		}
	}
	m.sql(statements...)
}

func (m *machine) sql(statements ...string) {
	m.t.Helper()
	db, err := sql.Open("sqlite", "file:"+m.path("/nix/var/nix/db/db.sqlite"))
	m.must(err)
	defer db.Close()
	// In one transaction, of which nothing need survive a power cut.
	all := "pragma synchronous = off; begin;\n" + strings.Join(statements, ";\n") + ";\ncommit"
	if _, err := db.ExecContext(m.t.Context(), all); err != nil {
		m.t.Fatalf("%s: %v", all, err)
	}
}

// claim registers the bytes on the disk for p in the database.
func (m *machine) claim(p closure.StorePath) {
	m.t.Helper()
	sum := m.hash(string(p))
	m.sql(fmt.Sprintf("update ValidPaths set hash = 'sha256:%s', narSize = %d where path = '%s'", hex.EncodeToString(sum.Hash[:]), sum.Size, p))
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// open opens the release tag as a policy that believes everything does.
func (m *machine) open(ctx context.Context, tag release.Tag) Candidate {
	now := func() time.Time { return testCreated.AddDate(0, 0, 1) }
	rel, err := release.Open(ctx, release.NewDirSource(m.releases), tag, believer{}, release.WithClock(now))
	return Candidate{Tag: string(tag), Release: rel, Err: err}
}

// verifier returns what compares m with its release.
func (m *machine) verifier() *Verifier {
	return &Verifier{
		Root: m.root, StoreDir: closure.DefaultStoreDir, Flake: "/etc/every-channel/flake",
		Open:   func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, testTag)} },
		Pinned: true, Evaluator: m.eval, Workers: 2,
	}
}

type believer struct{}

func (believer) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.SignedByKey, Name: "test"}, nil
}

// evaluator is nix as the tests have it.
type evaluator struct {
	top                closure.Toplevel
	noVersion, failing error
	block              func(context.Context)

	mu    sync.Mutex
	asked []string
	given []string // the inputs of the last request, by name
}

func (e *evaluator) Evaluate(ctx context.Context, r nix.EvalRequest) (nix.Evaluation, error) {
	e.mu.Lock()
	e.asked = append(e.asked, fmt.Sprint(r.Flake.Name, " ", r.Flake.NarHash, " ", r.Configuration))
	e.given = nil
	for _, in := range r.Inputs {
		e.given = append(e.given, in.Name)
	}
	e.mu.Unlock()
	if e.block != nil {
		e.block(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nix.Evaluation{}, err
	}
	return nix.Evaluation{DrvPath: e.top.DrvPath, OutPath: e.top.OutPath}, e.failing
}

func (e *evaluator) Version(context.Context) (nix.Version, error) {
	return nix.Version{Vendor: "Nix", Major: 2, Minor: 34, Patch: 8}, e.noVersion
}

// summary writes findings as the tests want them: cause, path, field, files.
// The store directory and digests are left out.
func summary(r *report.Report) []string {
	var out []string
	for _, f := range r.Findings {
		s := string(f.Cause)
		for _, part := range []string{f.Path, f.Field} {
			if part != "" {
				s += " " + short(part)
			}
		}
		for _, c := range f.Files {
			s += fmt.Sprintf(" %s:%s", c.Path, c.Kind)
		}
		if f.ConsequenceOf != "" {
			s += " < " + string(f.ConsequenceOf)
		}
		out = append(out, s)
	}
	return out
}

func short(path string) string {
	if rest, ok := strings.CutPrefix(path, "/nix/store/"); ok && len(rest) > 33 {
		return rest[33:]
	}
	return path
}

// statuses writes how the tiers ended.
func statuses(r *report.Report) string {
	var out []string
	for _, t := range r.Tiers {
		if t.Status != report.Skipped || t.Checked > 0 {
			out = append(out, fmt.Sprintf("%s %s %d", t.Name, t.Status, t.Checked))
		}
	}
	if got, want := len(r.Tiers), len(tiers()); got != want {
		out = append(out, fmt.Sprintf("%d tiers of %d", got, want))
	}
	return strings.Join(out, ", ")
}

// expect holds r to a verdict and its findings, in the order of the report.
func expect(t *testing.T, r *report.Report, verdict report.Verdict, findings ...string) {
	t.Helper()
	if got := r.Verdict(); got != verdict {
		t.Errorf("verdict %s, want %s", got, verdict)
	}
	if got := summary(r); !slices.Equal(got, findings) {
		t.Errorf("findings:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(findings, "\n\t"))
	}
}

func otherHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// read returns what a file of the machine has.
func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.path(name))
	m.must(err)
	return string(text)
}
