package rebuild

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestFixedContent(t *testing.T) {
	dir := t.TempDir()
	file, link, tree := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "tree")
	must(t, os.WriteFile(file, []byte("contents"), 0o644))
	must(t, os.Symlink("file", link))
	must(t, os.Mkdir(tree, 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "in"), []byte("contents"), 0o644))
	sum := func(path string) nar.Sum {
		s, err := nar.HashPath(t.Context(), path, nar.Options{})
		must(t, err)
		return s
	}
	text := func(b []byte) string { return hex.EncodeToString(b) }
	m5, s1, s2, s5 := md5.Sum([]byte("contents")), sha1.Sum([]byte("contents")), sha256.Sum256([]byte("contents")), sha512.Sum512([]byte("contents"))
	treeSum := sum(tree).Hash
	var archive strings.Builder
	must(t, nar.Dump(t.Context(), &archive, tree, nar.Options{}))
	treeSHA1 := sha1.Sum([]byte(archive.String()))
	zero := strings.Repeat("00", 32)
	for _, c := range []struct {
		name, path, algo, hash string
		same, fails            bool
	}{
		{"sha256", file, "sha256", text(s2[:]), true, false},
		{"in capitals", file, "sha256", strings.ToUpper(text(s2[:])), true, false},
		{"other contents", file, "sha256", zero, false, false},
		{"no hash", file, "sha256", "", false, false},
		{"md5", file, "md5", text(m5[:]), true, false},
		{"sha1", file, "sha1", text(s1[:]), true, false},
		{"sha512", file, "sha512", text(s5[:]), true, false},
		{"the hash of another algorithm", file, "sha512", text(s2[:]), false, false},
		{"the NAR's in the place of the file's", file, "sha256", text(func() []byte { h := sum(file).Hash; return h[:] }()), false, false},
		{"a tree", tree, "r:sha256", text(treeSum[:]), true, false},
		{"another tree", tree, "r:sha256", text(s2[:]), false, false},
		{"a tree by sha1", tree, "r:sha1", text(treeSHA1[:]), true, false},
		{"another tree by sha1", tree, "r:sha1", text(s1[:]), false, false},
		{"a tree in the place of a file", tree, "sha256", text(s2[:]), false, true},
		{"a link in the place of a file", link, "sha256", text(s2[:]), false, true},
		{"an algorithm that is not known", file, "blake3", zero, false, true},
		{"git's", tree, "git:sha1", zero, false, true},
		{"gone", filepath.Join(dir, "gone"), "sha256", text(s2[:]), false, true},
	} {
		var s nar.Sum
		if _, err := os.Lstat(c.path); err == nil {
			s = sum(c.path)
		}
		want, got, err := fixedContent(t.Context(), c.path, nixstore.Output{HashAlgo: c.algo, Hash: c.hash}, s)
		if (err != nil) != c.fails || err == nil && (want == got) != c.same {
			t.Errorf("%s: want %q, got %q, %v", c.name, want, got, err)
		}
	}
	// What has grown since it was hashed is not read to its end.
	s := sum(file)
	must(t, os.Truncate(file, 1<<40))
	if _, _, err := fixedContent(t.Context(), file, nixstore.Output{HashAlgo: "sha256", Hash: zero}, s); !errors.Is(err, nar.ErrChanged) {
		t.Errorf("a file that grew: %v", err)
	}
	if _, _, err := fixedContent(t.Context(), file, nixstore.Output{HashAlgo: "r:sha1", Hash: zero}, s); !errors.Is(err, nar.ErrTooLarge) {
		t.Errorf("a tree that grew: %v", err)
	}
}

// testStore returns a store that holds files, and one file without end.
func testStore(t *testing.T, files map[closure.StorePath]string, endless closure.StorePath) *inputs {
	t.Helper()
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "nix/store"), 0o755))
	for p, text := range files {
		must(t, os.WriteFile(filepath.Join(root, string(p)), []byte(text), 0o644))
	}
	if endless != "" {
		must(t, os.WriteFile(filepath.Join(root, string(endless)), nil, 0o644))
		must(t, os.Truncate(filepath.Join(root, string(endless)), 1<<40))
	}
	store, err := nixstore.OpenStore(root, closure.DefaultStoreDir)
	must(t, err)
	t.Cleanup(func() { store.Close() })
	return &inputs{
		store: store, root: root, manifest: closure.Closure{}, known: make(map[closure.StorePath]*knownInput),
		database: func() (*nixstore.Database, error) { return nil, errors.New("there is none") },
	}
}

// A fixed input that is something else, or without end, is a bad one.
func TestInputsBad(t *testing.T) {
	good, other, endless := storePath(1, "good"), storePath(2, "other"), storePath(3, "endless")
	s := sha256.Sum256([]byte("contents"))
	fixed := func(p closure.StorePath) nixstore.Output {
		return nixstore.Output{Path: p, HashAlgo: "sha256", Hash: hex.EncodeToString(s[:])}
	}
	in := testStore(t, map[closure.StorePath]string{good: "contents", other: "others"}, endless)
	in.fixed = map[closure.StorePath]nixstore.Output{good: fixed(good), other: fixed(other)}
	in.manifest[endless] = closure.PathInfo{Path: endless, NarHash: nar.Hash{1}, NarSize: 120}
	for p, want := range map[closure.StorePath]Status{good: "", other: InputBad, endless: InputBad, storePath(4, "gone"): InputMissing} {
		i, err := in.get(t.Context(), p)
		var bad *inputError
		if errors.As(err, &bad); (want == "") != (err == nil) || bad != nil && bad.status != want {
			t.Errorf("%s: %+v, %v, want the status %q", p.Name(), i, err, want)
		}
	}
	// While something is built from it, it becomes endless.
	i, err := in.get(t.Context(), good)
	must(t, err)
	i.info.NarSize = 120
	must(t, os.Truncate(filepath.Join(in.root, string(good)), 1<<40))
	var bad *inputError
	if err := in.again(t.Context(), []*input{i}); !errors.As(err, &bad) || bad.status != InputBad {
		t.Errorf("again: %v", err)
	}
}

// An output without end differs, and is not read to its end.
func TestCompareEndless(t *testing.T) {
	p, drv := storePath(1, "out"), storePath(2, "out.drv")
	rebuilt := testStore(t, nil, p)
	disk := testStore(t, map[closure.StorePath]string{p: "contents"}, "")
	disk.manifest[p] = closure.PathInfo{Path: p, NarHash: nar.Hash{1}, NarSize: 120}
	r := &run{
		inputs: disk, req: Request{Manifest: &closure.Manifest{StoreDir: closure.DefaultStoreDir}},
		graph: nixstore.Graph{drv: {Path: drv, Outputs: map[string]nixstore.Output{"out": {Path: p}}}},
	}
	res := &Result{Step: Step{Candidate: Candidate{Derivation: drv, Outputs: map[string]Wanted{"out": {p, nar.Hash{1}}}}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	must(t, r.compare(ctx, rebuilt.root, res))
	if res.Status != Differs || !res.Outputs[0].Differs() || !strings.Contains(res.Outputs[0].FilesNote, "much larger") {
		t.Errorf("%s, %+v", res.Status, res.Outputs)
	}
}
