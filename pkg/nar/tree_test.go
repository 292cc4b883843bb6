package nar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A tree is a file tree in memory: what tests put on disk, and what encode
// turns into the NAR that is to come of it. It is one of:
//
//	file, link, dir
type tree interface {
	// create makes the tree at path.
	create(t testing.TB, path string)
	// encode appends the node. It follows the grammar in the package
	// documentation word by word, and shares no code with the package.
	encode(b *bytes.Buffer)
}

type (
	file struct {
		data string
		mode os.FileMode // permission and set-id bits; 0 stands for 0644
	}
	link string
	dir  map[string]tree
)

func (f file) create(t testing.TB, path string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(f.data), 0o644))
	if f.mode != 0 {
		must(t, os.Chmod(path, f.mode))
	}
}

func (l link) create(t testing.TB, path string) {
	t.Helper()
	must(t, os.Symlink(string(l), path))
}

func (d dir) create(t testing.TB, path string) {
	t.Helper()
	must(t, os.Mkdir(path, 0o755))
	for name, sub := range d {
		sub.create(t, path+"/"+name) // filepath.Join would clean the name
	}
}

func encodeStrings(b *bytes.Buffer, words ...string) {
	for _, w := range words {
		binary.Write(b, binary.LittleEndian, uint64(len(w)))
		b.WriteString(w)
		for b.Len()%8 != 0 {
			b.WriteByte(0)
		}
	}
}

func (f file) encode(b *bytes.Buffer) {
	encodeStrings(b, "(", "type", "regular")
	if f.mode&0o100 != 0 {
		encodeStrings(b, "executable", "")
	}
	encodeStrings(b, "contents", f.data, ")")
}

func (l link) encode(b *bytes.Buffer) {
	encodeStrings(b, "(", "type", "symlink", "target", string(l), ")")
}

func (d dir) encode(b *bytes.Buffer) {
	encodeStrings(b, "(", "type", "directory")
	for _, name := range slices.Sorted(maps.Keys(d)) {
		encodeStrings(b, "entry", "(", "name", name, "node")
		d[name].encode(b)
		encodeStrings(b, ")")
	}
	encodeStrings(b, ")")
}

// archive returns the NAR of a tree.
func archive(tr tree) []byte {
	var b bytes.Buffer
	encodeStrings(&b, "nix-archive-1")
	tr.encode(&b)
	return b.Bytes()
}

// sumOf returns the Sum of an archive.
func sumOf(archive []byte) Sum {
	return Sum{Hash: sha256.Sum256(archive), Size: int64(len(archive))}
}

// place puts a tree on disk and returns its path.
func place(t testing.TB, tr tree) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root")
	tr.create(t, path)
	return path
}

// hashPath hashes with a context that the test ends.
func hashPath(t testing.TB, path string, opts Options) (Sum, error) {
	t.Helper()
	return HashPath(t.Context(), path, opts)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openFiles returns how many files, directories and devices the process has
// open. What the run time opens for itself, when it first needs it, is neither.
func openFiles(t testing.TB) int {
	t.Helper()
	n := 0
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(target, "/") {
			n++
		}
	}
	return n
}

// checkNoLeak fails the test if it ends with more open descriptors than it has
// now. It is for errors: a walk that succeeds would run out by itself.
func checkNoLeak(t testing.TB) {
	t.Helper()
	before := openFiles(t)
	t.Cleanup(func() {
		if after := openFiles(t); after != before {
			t.Errorf("%d descriptors are open, were %d", after, before)
		}
	})
}

// dumpString returns what Dump writes.
func dumpString(ctx context.Context, path string, opts Options) (string, error) {
	var b strings.Builder
	err := Dump(ctx, &b, path, opts)
	return b.String(), err
}
