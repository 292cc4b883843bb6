package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// builder returns a store with the given files, each a store path of its own.
func builder(t *testing.T, files map[closure.StorePath]string) (*nixstore.Store, string) {
	t.Helper()
	root := t.TempDir()
	for p, text := range files {
		if err := os.MkdirAll(filepath.Join(root, string(p.Dir())), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, string(p)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store, err := nixstore.OpenStore(root, closure.DefaultStoreDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, root
}

func TestHashAll(t *testing.T) {
	a, b := object("a", "a"), object("b", "b")
	store, root := builder(t, map[closure.StorePath]string{a: "a", b: "some more"})
	registered := func(p closure.StorePath) closure.PathInfo {
		sum, err := nar.HashPath(t.Context(), filepath.Join(root, string(p)), nar.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return closure.PathInfo{Path: p, NarHash: sum.Hash, NarSize: sum.Size}
	}
	infos := []closure.PathInfo{registered(a), registered(b)}
	size := infos[1].NarSize
	infos[1].NarSize = 0 // Nix did not know it
	p := new(Progress)
	files, err := hashAll(t.Context(), store, infos, p)
	if err != nil || len(files) != 2 || infos[1].NarSize != size {
		t.Fatalf("hashAll = %+v, %v, and the size is %d, want %d", files, err, infos[1].NarSize, size)
	}
	for i, f := range files {
		if f.Path != infos[i].Path || f.NarHash != infos[i].NarHash || len(f.Files) != 1 || f.Files[0].Type != nar.Regular {
			t.Errorf("files of %s: %+v", infos[i].Path, f)
		}
	}
	if s := p.Snapshot(); s.Paths != 2 || s.PathsTotal != 2 || s.Bytes != int64(len("asome more")) {
		t.Errorf("progress at the end: %+v", s)
	}

	// A release must not be made from a store that is not what Nix registered.
	for name, alter := range map[string]func(info *closure.PathInfo){
		"hash": func(info *closure.PathInfo) { info.NarHash = hashOf("other") },
		"size": func(info *closure.PathInfo) { info.NarSize += 8 },
		"path": func(info *closure.PathInfo) { info.Path = object("z", "gone") },
	} {
		altered := []closure.PathInfo{registered(a), registered(b)}
		alter(&altered[1])
		if _, err := hashAll(t.Context(), store, altered, new(Progress)); err == nil || !strings.Contains(err.Error(), string(altered[1].Path)) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, altered[1].Path)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hashAll(ctx, store, []closure.PathInfo{registered(a)}, new(Progress)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// Derivers and content addresses are those of the derivations, whatever the
// database of this builder claims.
func TestDescribeOrigin(t *testing.T) {
	const testdata = "../../nixstore/testdata/store"
	names, err := os.ReadDir(testdata)
	if err != nil {
		t.Fatal(err)
	}
	files := map[closure.StorePath]string{}
	var top, download closure.StorePath
	for _, e := range names {
		data, err := os.ReadFile(filepath.Join(testdata, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		p := closure.StorePath("/nix/store/" + e.Name())
		files[p] = string(data)
		switch p.Name() {
		case "top.drv":
			top = p
		}
	}
	store, _ := builder(t, files)
	graph, err := nixstore.ReadDerivations(t.Context(), store, top)
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := graph.ContentAddresses()
	if err != nil || len(addresses) == 0 {
		t.Fatalf("the test store has no fixed output: %v, %v", addresses, err)
	}
	for p := range addresses {
		download = p
	}
	var output closure.StorePath
	for p, d := range graph.Derivers() {
		if d == top {
			output = p
		}
	}
	plain := object("a", "source")
	infos := []closure.PathInfo{
		{Path: output, Deriver: object("z", "claimed.drv"), CA: "text:sha256:claimed"},
		{Path: download},
		{Path: plain, Deriver: object("z", "claimed.drv"), CA: "fixed:r:sha256:own"},
	}
	if err := describeOrigin(graph, infos); err != nil {
		t.Fatal(err)
	}
	if infos[0].Deriver != top || infos[0].CA != "" {
		t.Errorf("an output: got the deriver %s and the address %q, want %s and none", infos[0].Deriver, infos[0].CA, top)
	}
	if infos[1].Deriver != graph.Derivers()[download] || infos[1].CA != addresses[download] {
		t.Errorf("a fixed output: got %+v, want the address %q", infos[1], addresses[download])
	}
	if infos[2].Deriver != "" || infos[2].CA != "fixed:r:sha256:own" {
		t.Errorf("a source: got %+v, want no deriver and its own address", infos[2])
	}
}

func TestHashSource(t *testing.T) {
	flake := object("c", "source")
	store, root := builder(t, map[closure.StorePath]string{object("a", "file"): "x"})
	if err := os.Mkdir(filepath.Join(root, string(flake)), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := hashSource(t.Context(), store, nix.Source{Path: flake})
	if err != nil || got.NarHash.IsZero() || !got.LockNarHash.IsZero() {
		t.Errorf("without a lock file: got %+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(root, string(flake), "flake.lock"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	locked, err := hashSource(t.Context(), store, nix.Source{Path: flake})
	if err != nil || locked.LockNarHash.IsZero() || locked.NarHash == got.NarHash {
		t.Errorf("with a lock file: got %+v, %v", locked, err)
	}
	if _, err := hashSource(t.Context(), store, nix.Source{Path: object("z", "gone")}); err == nil {
		t.Error("a source that is not there: no error")
	}
}

func TestEmbedded(t *testing.T) {
	m, _ := manifest("one", "src")
	if embedded(m, object("c", "src")) || !embedded(m, m.Toplevel.OutPath) {
		t.Error("embedded does not tell whether the closure holds the source")
	}
}
