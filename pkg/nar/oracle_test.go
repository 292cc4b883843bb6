package nar

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gonix "github.com/nix-community/go-nix/pkg/nar"

	"every.channel/ec-verify/internal/tests/repeat"
)

// nixDump writes what Nix itself makes of a tree; it skips where there is none.
func nixDump(t testing.TB, w io.Writer, path string) {
	t.Helper()
	nixStore, err := exec.LookPath("nix-store")
	if err != nil {
		t.Skip("no nix-store on PATH")
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), nixStore, "--dump", path)
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("nix-store --dump: %v\n%s", err, stderr.String())
	}
}

func TestDumpLikeNix(t *testing.T) {
	for name, tr := range trees {
		t.Run(name, func(t *testing.T) {
			skipUnreadable(t, name)
			path := place(t, tr)
			var want bytes.Buffer
			nixDump(t, &want, path)
			if got, err := dumpString(t.Context(), path, Options{}); err != nil || got != want.String() {
				t.Errorf("Dump = %d bytes, %v; nix-store writes %d, other ones", len(got), err, want.Len())
			}
		})
	}
}

func TestDumpLikeGoNix(t *testing.T) {
	for name, tr := range trees {
		if hasDotDot(tr) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			skipUnreadable(t, name)
			path := place(t, tr)
			var want bytes.Buffer
			must(t, gonix.DumpPath(&want, path))
			if got, err := dumpString(t.Context(), path, Options{}); err != nil || got != want.String() {
				t.Errorf("Dump = %d bytes, %v; go-nix writes %d, other ones", len(got), err, want.Len())
			}
		})
	}
}

// What Nix refuses is refused, too.
func TestRefusedLikeNix(t *testing.T) {
	nixStore, err := exec.LookPath("nix-store")
	if err != nil {
		t.Skip("no nix-store on PATH")
	}
	for kind, path := range unsupported(t, t.TempDir()) {
		theirs := exec.Command(nixStore, "--dump", path).Run()
		_, ours := hashPath(t, path, Options{})
		if theirs == nil || !errors.Is(ours, ErrUnsupported) {
			t.Errorf("%s: nix-store: %v; HashPath: %v", kind, theirs, ours)
		}
	}
}

// allTrees has TestInstalledTrees look at /usr as one tree first, whose archive
// has those of all others in it. The end-to-end tests set it on a test host, whose
// /usr is small.
const allTrees = "EC_VERIFY_TEST_ALL_TREES"

// Trees that people made: the directories of what is installed here. Nix is
// asked where it is to be had, else go-nix.
func TestInstalledTrees(t *testing.T) {
	limit, most := int64(512<<20), 100 // bytes, and trees, in all
	if testing.Short() {
		limit = 64 << 20
	}
	var roots []string
	for _, pattern := range []string{"/usr/share/*", "/usr/lib/*", "/usr/share/doc/*", "/usr/libexec/*", "/usr/lib/*/*"} {
		matches, err := filepath.Glob(pattern)
		must(t, err)
		roots = append(roots, matches...)
	}
	if len(roots) == 0 {
		t.Skip("nothing in /usr")
	}
	// The same choice in each run, spread over all of them.
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(roots), func(i, j int) { roots[i], roots[j] = roots[j], roots[i] })

	if os.Getenv(allTrees) == "1" {
		limit = math.MaxInt64
		roots = append([]string{"/usr"}, roots...)
	}

	_, err := exec.LookPath("nix-store")
	haveNix := err == nil
	var compared int
	for _, root := range roots {
		if limit <= 0 || compared == most {
			break
		}
		sum, err := hashPath(t, root, Options{})
		if err != nil {
			t.Logf("left out: %v", err)
			continue
		}
		limit -= sum.Size
		want := sha256.New()
		if haveNix {
			nixDump(t, want, root)
		} else if err := gonix.DumpPath(want, root); err != nil {
			t.Logf("left out: go-nix: %v", err)
			continue
		}
		if got := Hash(want.Sum(nil)); got != sum.Hash {
			t.Errorf("%s: HashPath = %v; want %v", root, sum.Hash, got)
		}
		compared++
	}
	t.Logf("%d trees compared, with Nix: %v", compared, haveNix)
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

// A treeSource makes a tree of arbitrary bytes: the fuzzer changes the bytes,
// and with them the shape.
type treeSource struct{ data []byte }

func (s *treeSource) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *treeSource) bytes(n int) string {
	n = min(n, len(s.data))
	b := s.data[:n]
	s.data = s.data[n:]
	return string(b)
}

// name returns 1 to 255 bytes that can be a name on Linux.
func (s *treeSource) name() string {
	n := strings.NewReplacer("/", "-", "\x00", "0").Replace(s.bytes(int(s.byte())))
	if n == "" || n == "." || n == ".." {
		n += "x"
	}
	return n
}

func (s *treeSource) tree(depth int) tree {
	switch kind := s.byte(); {
	case kind < 96 && depth < 8:
		d := dir{}
		for range s.byte() % 12 {
			d[s.name()] = s.tree(depth + 1)
		}
		return d
	case kind < 128:
		target := strings.ReplaceAll(s.bytes(int(s.byte())), "\x00", "0")
		return link("t" + target) // Linux has no empty links
	default:
		data := s.bytes(int(s.byte()))
		if kind%8 == 0 {
			data = strings.Repeat(data, int(s.byte())*7) // to pass the buffers
		}
		return file{data: data, mode: []os.FileMode{0o644, 0o755, 0o444, 0o544, 0o655}[kind%5]}
	}
}

// hasDotDot reports whether a name in the tree starts with "..". go-nix fails
// on such names, "additional header detected", where Nix does not.
func hasDotDot(tr tree) bool {
	d, _ := tr.(dir)
	for name, sub := range d {
		if strings.HasPrefix(name, "..") || hasDotDot(sub) {
			return true
		}
	}
	return false
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x03\x01a\x80\x05hello\x03a-b\xffx\x05..foo\x00\x00"))
	f.Add([]byte("\x00\x02\x01b\x60\x03\xff\x80\n\x01a\x00\x01\x01x\x88\x04data\xff"))
	f.Add(bytes.Repeat([]byte("\x00\x0b\x02d"), 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		tr := (&treeSource{data}).tree(0)
		root, err := os.MkdirTemp("", "nar-fuzz-") // t.TempDir is slow
		must(t, err)
		defer os.RemoveAll(root)
		path := root + "/root"
		tr.create(t, path)

		want := archive(tr)
		var entries int
		for _, opts := range []Options{{}, {OnEntry: func(Entry) error { entries++; return nil }}} {
			if got, err := hashPath(t, path, opts); err != nil || got != sumOf(want) {
				t.Errorf("HashPath = %v, %v; want %v", got, err, sumOf(want))
			}
		}
		nodes := 0
		must(t, filepath.WalkDir(path, func(string, fs.DirEntry, error) error { nodes++; return nil }))
		if entries != nodes {
			t.Errorf("%d entries of %d nodes", entries, nodes)
		}
		if hasDotDot(tr) {
			return
		}
		var theirs bytes.Buffer
		if err := gonix.DumpPath(&theirs, path); err != nil || !bytes.Equal(theirs.Bytes(), want) {
			t.Errorf("go-nix writes other bytes, or fails: %v", err)
		}
	})
}

// Random trees against Nix; the fuzzer would spend its time starting nix-store.
func TestRandomTreesLikeNix(t *testing.T) {
	n := repeat.Times(t, 50)
	if testing.Short() {
		n = 10
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			data := make([]byte, 4096)
			rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data)
			data[0] = 0 // a directory
			path := place(t, (&treeSource{data}).tree(0))
			want := sha256.New()
			nixDump(t, want, path)
			if got, err := hashPath(t, path, Options{}); err != nil || got.Hash != Hash(want.Sum(nil)) {
				t.Errorf("HashPath = %v, %v; want %v", got, err, Hash(want.Sum(nil)))
			}
		})
	}
}
