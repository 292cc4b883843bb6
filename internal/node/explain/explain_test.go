package explain_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nix-community/go-nix/pkg/derivation"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/explain"
	"every.channel/ec-verify/internal/node/filediff"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	configuration = "ec-runner-x86_64"
	dir           = closure.DefaultStoreDir
	inputHash     = "sha256-voazdLZfTQc86BsgvrEleJH8SK1jzc0w+4in+4dlWT0="
	lock          = `{"nodes":{"root":{"inputs":{"nixpkgs":"nixpkgs","other":"other"}},` +
		`"nixpkgs":{"locked":{"type":"github","owner":"NixOS","repo":"nixpkgs","rev":"0123456789abcdef","narHash":"` + inputHash + `"}},` +
		`"other":{"locked":{"type":"tarball","url":"https://example.org/o.tar.gz","narHash":"sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}},"root":"root","version":7}`
)

func object(letter, name string) closure.StorePath {
	return closure.StorePath(string(dir) + "/" + strings.Repeat(letter, 32) + "-" + name)
}

// The closure of the tests: the toplevel refers to unit, which refers to program,
// which refers to data; and to other, which refers to all of them.
var (
	data    = object("a", "data")
	prog    = object("b", "program")
	unit    = object("c", "unit")
	other   = object("d", "other")
	top     = object("f", "nixos-system")
	foreign = object("g", "foreign")
)

type machine struct {
	t        *testing.T
	root     string
	manifest *closure.Manifest
	release  *release.Release
	drv      closure.StorePath
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) write(p closure.StorePath, file, text string) {
	m.t.Helper()
	write(m.t, filepath.Join(m.root, string(p), file), text, 0o755)
}

// info returns what is true of p.
func (m *machine) info(p closure.StorePath, listing *closure.ListingWriter, refs ...closure.StorePath) closure.PathInfo {
	m.t.Helper()
	var files []nar.Entry
	sum, err := nar.HashPath(m.t.Context(), filepath.Join(m.root, string(p)), nar.Options{OnEntry: func(e nar.Entry) error { files = append(files, e); return nil }})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := listing.Add(closure.PathFiles{Path: p, NarHash: sum.Hash, Files: files}); err != nil {
		m.t.Fatal(err)
	}
	return closure.PathInfo{Path: p, NarHash: sum.Hash, NarSize: sum.Size, References: refs}
}

// derive writes a derivation and returns its path.
func (m *machine) derive(name string, out closure.StorePath, inputs []closure.StorePath, sources ...string) closure.StorePath {
	m.t.Helper()
	d := &derivation.Derivation{
		Outputs: map[string]*derivation.Output{"out": {Path: string(out)}}, InputDerivations: map[string][]string{}, InputSources: sources,
		Platform: "x86_64-linux", Builder: "/bin/sh", Arguments: []string{"-c", "build"}, Env: map[string]string{"name": name, "out": string(out)},
	}
	var refs []closure.StorePath
	for _, s := range sources {
		refs = append(refs, closure.StorePath(s))
	}
	for _, in := range inputs {
		d.InputDerivations[string(in)] = []string{"out"}
		refs = append(refs, in)
	}
	slices.Sort(refs)
	var text bytes.Buffer
	if err := d.WriteDerivation(&text); err != nil {
		m.t.Fatal(err)
	}
	p := dir.TextPath(text.Bytes(), refs, name+".drv")
	write(m.t, filepath.Join(m.root, string(p)), text.String(), 0o444)
	return p
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	m.write(data, "x", "data")
	m.write(prog, "bin/run", "#!/bin/sh\nset -e\nexec program\n")
	m.write(prog, "share/built", "on 2026-02-28T10:00:00Z\n")
	m.write(prog, "share/gone", "here")
	m.write(unit, "unit", string(prog))
	m.write(other, "x", string(prog))
	m.write(top, "init", "#!/bin/sh")
	staged := filepath.Join(t.TempDir(), "source")
	write(t, filepath.Join(staged, "flake.lock"), lock, 0o644)
	sum, err := nar.HashPath(t.Context(), staged, nar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := dir.SourcePath(sum.Hash, "source")
	write(t, filepath.Join(m.root, string(source), "flake.lock"), lock, 0o644)
	lockSum, err := nar.HashPath(t.Context(), filepath.Join(staged, "flake.lock"), nar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := nar.ParseHash(inputHash)
	if err != nil {
		t.Fatal(err)
	}
	m.drv = m.derive("program", prog, nil, string(dir.SourcePath(hash, "source")))
	system := m.derive("nixos-system", top, []closure.StorePath{m.drv})

	out := t.TempDir()
	var files bytes.Buffer
	listing, err := closure.NewListingWriter(&files, configuration)
	if err != nil {
		t.Fatal(err)
	}
	m.manifest = &closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind, Configuration: configuration, System: "x86_64-linux", StoreDir: dir,
		Source: closure.Source{NarHash: sum.Hash, LockNarHash: lockSum.Hash}, Toplevel: closure.Toplevel{DrvPath: system, OutPath: top},
	}
	infos := []closure.PathInfo{m.info(data, listing), m.info(prog, listing, data), m.info(unit, listing, prog), m.info(other, listing, unit), m.info(top, listing, unit, other)}
	infos[1].Deriver, infos[4].Deriver = m.drv, system
	m.manifest.Paths = infos
	if err := listing.Close(); err != nil {
		t.Fatal(err)
	}
	encoded, err := m.manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	store := m.store(m.root)
	graph, err := nixstore.ReadDerivations(t.Context(), store, system)
	if err != nil {
		t.Fatal(err)
	}
	var derivations bytes.Buffer
	if err := drvdiff.Write(t.Context(), &derivations, store, graph, configuration, system); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		release.ManifestName(configuration): string(encoded), release.ListingName(configuration): files.String(), release.DerivationsName(configuration): derivations.String(),
	} {
		write(t, filepath.Join(out, name), text, 0o644)
	}
	created := releasetest.Created
	if err := release.WriteInfo(out, release.Info{Tag: releasetest.Tag, Commit: releasetest.Commit, CreatedAt: created, BestBefore: created.AddDate(0, 0, 90)}); err != nil {
		t.Fatal(err)
	}
	if err := release.WriteSums(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	m.release, err = release.Open(t.Context(), release.NewDirSource(out), "", believer{}, release.WithClock(func() time.Time { return releasetest.Now }))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type believer struct{}

func (believer) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.SignedByKey, Name: "test"}, nil
}

func (m *machine) store(root string) *nixstore.Store {
	m.t.Helper()
	s, err := nixstore.OpenStore(root, dir)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { s.Close() })
	return s
}

// original copies the machine as it is now.
func (m *machine) original() string {
	m.t.Helper()
	to := m.t.TempDir()
	if err := os.CopyFS(to, os.DirFS(m.root)); err != nil {
		m.t.Fatal(err)
	}
	// CopyFS keeps no executable bits of others.
	err := filepath.WalkDir(to, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := os.Stat(filepath.Join(m.root, strings.TrimPrefix(name, to)))
		if err != nil {
			return err
		}
		return os.Chmod(name, info.Mode())
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return to
}

func (m *machine) explain(p closure.StorePath, file, from string) *explain.Explanation {
	m.t.Helper()
	return m.explainWith(nil, p, file, from)
}

func (m *machine) explainWith(d *explain.Diffoscope, p closure.StorePath, file, from string) *explain.Explanation {
	m.t.Helper()
	x := &explain.Explainer{Store: m.store(m.root), Release: m.release, Configuration: configuration, Diffoscope: d}
	if from != "" {
		x.Original = m.store(from)
	}
	e, err := x.Explain(m.t.Context(), p, file)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

// changes are the files of e, as "name change format".
func changes(e *explain.Explanation) []string {
	var out []string
	for _, f := range e.Files {
		s := string(f.Path) + " " + string(f.Kind)
		if f.Within != nil {
			s += " " + string(f.Within.Format)
		}
		out = append(out, s)
	}
	return out
}

func alter(m *machine) {
	m.write(prog, "bin/run", "#!/bin/sh\nset -e\nexec evil\n")
	m.write(prog, "share/built", "on 2026-03-07T11:00:00Z\n")
	m.write(prog, "share/more", "new")
	if err := os.Remove(filepath.Join(m.root, string(prog), "share/gone")); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(m.root, string(prog), "share/gone")); err != nil {
		m.t.Fatal(err)
	}
}

func TestExplain(t *testing.T) {
	m := newMachine(t)
	original := m.original()
	if e := m.explain(prog, "", ""); e.Disk.State != explain.Same || len(e.Files)+len(e.Notes) > 0 {
		t.Errorf("a path that is the release's: %s, %q, %q", e.Disk.State, changes(e), e.Notes)
	}
	alter(m)

	t.Run("with an original", func(t *testing.T) {
		e := m.explain(prog, "", original)
		want := []string{"bin/run content text", "share/built content text", "share/gone type", "share/more added"}
		if e.Disk.State != explain.Different || e.Original.State != explain.Same || !slices.Equal(changes(e), want) {
			t.Fatalf("%s, %s, %q, notes %q", e.Disk.State, e.Original.State, changes(e), e.Notes)
		}
		if diff := fmt.Sprint(e.Files[0].Within.Diff); !strings.Contains(diff, "-exec program +exec evil") || len(e.Files[0].Within.Causes) > 0 {
			t.Errorf("%s\n%v", diff, e.Files[0].Within.Causes)
		}
		if c := e.Files[1].Within.Causes; len(c) != 1 || c[0].Name != filediff.Date || !e.Files[1].Within.Explained {
			t.Errorf("%+v", c)
		}
	})
	t.Run("without", func(t *testing.T) {
		e := m.explain(prog, "", "")
		want := []string{"bin/run content", "share/built content", "share/gone type", "share/more added"}
		if !slices.Equal(changes(e), want) || e.Files[0].FileChange.Want.Size != 30 {
			t.Errorf("%q, %+v, notes %q", changes(e), e.Files[0].Want, e.Notes)
		}
	})
	t.Run("one file", func(t *testing.T) {
		if e := m.explain(prog, "share", original); len(e.Files) != 3 {
			t.Errorf("%q", changes(e))
		}
		if e := m.explain(prog, "bin/run", original); len(e.Files) != 1 {
			t.Errorf("%q", changes(e))
		}
	})
	t.Run("an original that is none", func(t *testing.T) {
		e := m.explain(prog, "", m.original())
		if e.Original.State != explain.Different || !slices.Equal(changes(e)[:1], []string{"bin/run content"}) {
			t.Errorf("%s, %q", e.Original.State, changes(e))
		}
	})
	t.Run("where it comes from", func(t *testing.T) {
		e := m.explain(data, "", "")
		if want := []closure.StorePath{top, unit, prog, data}; !slices.Equal(e.Chain, want) {
			t.Errorf("the chain is %q, want %q", e.Chain, want)
		}
		o := m.explain(prog, "", "").Origin
		if o.Deriver != m.drv || o.Commit != releasetest.Commit || len(o.Inputs) != 1 || o.Inputs[0].Ref != "github:NixOS/nixpkgs/0123456789abcdef" || len(o.All) != 2 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("missing and foreign", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(m.root, string(data))); err != nil {
			t.Fatal(err)
		}
		if e := m.explain(data, "", ""); e.Disk.State != explain.Absent {
			t.Errorf("%s", e.Disk.State)
		}
		m.write(foreign, "x", "y")
		if e := m.explain(foreign, "", ""); e.Disk.State != explain.Foreign || len(e.Chain)+len(e.Files) > 0 {
			t.Errorf("%s, %q", e.Disk.State, e.Chain)
		}
	})
}

// TestDiffoscope: it is given copies and limits, and what it says is cut.
func TestDiffoscope(t *testing.T) {
	m := newMachine(t)
	original := m.original()
	alter(m)
	bin := t.TempDir()
	path := os.Getenv("PATH")
	t.Setenv("PATH", bin)
	if _, err := explain.FindDiffoscope(); err == nil {
		t.Error("it is found where it is not")
	}
	t.Setenv("PATH", bin+":"+path)
	run := func(script string, limit time.Duration, output int64) (said, notes string) {
		write(t, filepath.Join(bin, "diffoscope"), "#!/bin/sh\n"+script, 0o755)
		d := &explain.Diffoscope{Program: filepath.Join(bin, "diffoscope"), Time: limit, Output: output}
		e := m.explainWith(d, prog, "bin/run", original)
		return string(*e.Files[0].Diffoscope), strings.Join(e.Notes, "\n")
	}
	if out, notes := run(`shift 5; diff "$@"`, time.Minute, 1000); notes != "" || !strings.Contains(out, "> exec evil") {
		t.Errorf("%q, %q", out, notes)
	}
	if out, notes := run("yes", time.Minute, 1000); notes == "" || len(out) != 1000 {
		t.Errorf("%d bytes, %q", len(out), notes)
	}
	// What it calls ends with it: it has the pipe as well, which would be read for as long.
	if out, notes := run("sleep 1000; true", 50*time.Millisecond, 1000); !strings.Contains(notes, "longer than") {
		t.Errorf("%q, %q", out, notes)
	}
}
