package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTree returns a directory with two store paths, of which the first refers to the
// second, and what a manifest says of them.
func newTree(t *testing.T) (dir string, paths []closure.PathInfo) {
	t.Helper()
	dir = t.TempDir()
	store := t.TempDir() // its bytes are in dir
	for _, name := range []string{"a", "b"} {
		p := closure.StorePath(store + "/" + strings.Repeat(name, 32) + "-" + name)
		must(t, os.MkdirAll(filepath.Join(dir, p.Base(), "sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, p.Base(), "sub/file"), []byte("content of "+name), 0o600))
		sum, err := nar.HashPath(t.Context(), filepath.Join(dir, p.Base()), nar.Options{})
		must(t, err)
		paths = append(paths, closure.PathInfo{Path: p, NarHash: sum.Hash, NarSize: sum.Size})
	}
	paths[0].References = []closure.StorePath{paths[0].Path, paths[1].Path}
	paths[0].Deriver = "/nix/store/" + closure.StorePath(strings.Repeat("d", 32)) + "-a.drv"
	return dir, paths
}

func closureOf(paths []closure.PathInfo) closure.Closure {
	all := make(closure.Closure)
	for _, p := range paths {
		all[p.Path] = p
	}
	return all
}

func TestBring(t *testing.T) {
	none := func(string, []closure.PathInfo) {}
	for _, test := range []struct {
		name string
		do   func(dir string, paths []closure.PathInfo)
		want string
	}{
		{"good", none, ""},
		{"an altered byte", func(dir string, paths []closure.PathInfo) {
			must(t, os.WriteFile(filepath.Join(dir, paths[1].Path.Base(), "sub/file"), []byte("CONTENT OF b"), 0o600))
		}, "its NAR hash is "},
		{"shorter", func(dir string, paths []closure.PathInfo) {
			must(t, os.Remove(filepath.Join(dir, paths[1].Path.Base(), "sub/file")))
		}, "bytes early"},
		{"endless", func(dir string, paths []closure.PathInfo) {
			must(t, os.Truncate(filepath.Join(dir, paths[1].Path.Base(), "sub/file"), 1<<40))
		}, "it is larger than"},
		{"a path that it has not", func(dir string, paths []closure.PathInfo) {
			must(t, os.RemoveAll(filepath.Join(dir, paths[1].Path.Base())))
		}, "does not have "},
		{"a pipe", func(dir string, paths []closure.PathInfo) {
			must(t, os.RemoveAll(filepath.Join(dir, paths[1].Path.Base())))
			must(t, unix.Mkfifo(filepath.Join(dir, paths[1].Path.Base()), 0o600))
		}, "not a regular file"},
		{"a pipe within", func(dir string, paths []closure.PathInfo) {
			must(t, unix.Mkfifo(filepath.Join(dir, paths[1].Path.Base(), "pipe"), 0o600))
		}, "not a regular file"},
		{"a device", func(dir string, paths []closure.PathInfo) {
			must(t, os.RemoveAll(filepath.Join(dir, paths[1].Path.Base())))
			must(t, os.Symlink("/dev/zero", filepath.Join(dir, paths[1].Path.Base())))
		}, "bytes early"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, paths := newTree(t)
			test.do(dir, paths)
			src, err := ParseSource(dir, nil)
			must(t, err)
			within := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(within, spool, "left by one that was killed"), 0o700))
			must(t, os.MkdirAll(filepath.Join(within, "import", "of somebody"), 0o700))
			var registered []byte
			err = Bring(t.Context(), src, closureOf(paths), paths, within, func(_ context.Context, r io.Reader, _ string, timeout time.Duration) (err error) {
				if timeout < time.Minute {
					t.Errorf("%s to import", timeout)
				}
				registered, err = io.ReadAll(r)
				return err
			}, func(closure.PathInfo) {})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if (len(registered) > 0) != (test.want == "") {
				t.Errorf("%d bytes were to be registered", len(registered))
			}
			if entries, err := os.ReadDir(within); err != nil || len(entries) != 1 || entries[0].Name() != "import" {
				t.Errorf("left over: %v, %v", entries, err)
			}
			if a, b := bytes.Index(registered, []byte(paths[0].Path)), bytes.Index(registered, []byte(paths[1].Path)); test.want == "" && b > a {
				t.Error("a path comes before one that it refers to")
			}
		})
	}
}

// What does not fit is not begun, be it beside the store or on the store's own disk.
func TestRoom(t *testing.T) {
	_, paths := newTree(t)
	paths[0].NarSize = 1 << 60
	err := Bring(t.Context(), stuckSource{}, closureOf(paths), paths[:1], t.TempDir(), nil, func(closure.PathInfo) {})
	if err == nil || !strings.Contains(err.Error(), "bytes free, and the import takes "+fmt.Sprint(2<<60+room)) {
		t.Error(err)
	}
}

// What is altered after it was fetched has no end in the export, so that it is not
// registered.
func TestExportChecksAgain(t *testing.T) {
	_, paths := newTree(t)
	var out bytes.Buffer
	err := export(&out, paths, func(closure.PathInfo) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("something else")), nil
	})
	if err == nil || strings.Contains(out.String(), string(paths[0].Path.Dir())) {
		t.Errorf("%v\n%q", err, out.String())
	}
}

// An endless reply of a peer is cut off at the promised size.
func TestEndlessPeer(t *testing.T) {
	_, paths := newTree(t)
	var asked []nix.DumpRequest
	src, err := ParseSource("https://cache.example.org", dumperFunc(func(r nix.DumpRequest, w io.Writer) error {
		asked = append(asked, r)
		for written := 0; ; {
			n, err := w.Write(make([]byte, 16))
			if written += n; err != nil || written > 1<<20 {
				return fmt.Errorf("after %d bytes: %w", written, err)
			}
		}
	}))
	must(t, err)
	err = Bring(t.Context(), src, closureOf(paths), paths[:1], t.TempDir(), nil, func(closure.PathInfo) {})
	var differs *DiffersError
	if !errors.As(err, &differs) || !strings.Contains(differs.Why, "larger than") {
		t.Error(err)
	}
	if len(asked) != 1 || asked[0].Store != "https://cache.example.org" || asked[0].Path != paths[0].Path || asked[0].Timeout < time.Minute {
		t.Errorf("%+v", asked)
	}
}

// stuckSource never delivers anything.
type stuckSource struct{ Source }

func (stuckSource) String() string { return "/media/stick" }

func (stuckSource) References(_ context.Context, wanted []closure.PathInfo, _ string) (map[closure.StorePath][]closure.StorePath, error) {
	return map[closure.StorePath][]closure.StorePath{wanted[0].Path: nil}, nil
}

func (stuckSource) Dump(ctx context.Context, _ closure.PathInfo, _ string, _ io.Writer) error {
	<-ctx.Done()
	return ctx.Err()
}

// No source is waited for for ever, whatever it is.
func TestStuckSource(t *testing.T) {
	_, paths := newTree(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Bring(t.Context(), stuckSource{}, closureOf(paths), paths[:1], t.TempDir(), nil, func(closure.PathInfo) {})
		if err == nil || !strings.Contains(err.Error(), "/media/stick: it takes more than 10m0s; nothing was imported") || time.Since(began) != atLeast {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// talker is a store that says what paths refer to, and has no bytes.
type talker map[closure.StorePath][]closure.StorePath

func (d talker) References(_ context.Context, r nix.ReferencesRequest) (map[closure.StorePath][]closure.StorePath, error) {
	return d, nil
}

func (talker) Dump(context.Context, nix.DumpRequest, io.Writer) error {
	return errors.New("it was asked for bytes")
}

// A path more than the release has ends an import before anything is fetched.
func TestAsk(t *testing.T) {
	_, paths := newTree(t)
	a, b, extra := paths[0].Path, paths[1].Path, closure.StorePath("/nix/store/"+strings.Repeat("f", 32)+"-extra")
	for _, test := range []struct {
		says talker
		want string
	}{
		{talker{a: {a, b}}, ""},
		{talker{a: {}}, ""},
		{talker{a: {b}, b: {extra}, extra: nil}, ""}, // b is here already
		{talker{b: {}}, "does not have " + string(a) + "; nothing was imported"},
		{talker{a: {a, b, extra}}, "there it refers to " + string(extra) + ", which the release does not have; nothing was imported"},
	} {
		src, err := ParseSource("ssh-ng://host", test.says)
		must(t, err)
		err = Ask(t.Context(), src, closureOf(paths), paths[:1], t.TempDir())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: %v, want %q", test.says, err, test.want)
		}
		if test.want == "" {
			continue
		}
		err = Bring(t.Context(), src, closureOf(paths), paths[:1], t.TempDir(), nil, func(closure.PathInfo) {})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q", test.says, err, test.want)
		}
	}
}

// An error of nix names path and source once, and says that nothing changed.
func TestFetchNamesItsSourceOnce(t *testing.T) {
	_, paths := newTree(t)
	broken := dumperFunc(func(nix.DumpRequest, io.Writer) error {
		return errors.New("nix: exit status 1: Failed to open archive")
	})
	src, err := ParseSource("ssh-ng://host", broken)
	must(t, err)
	err = Bring(t.Context(), src, closureOf(paths), paths[:1], t.TempDir(), nil, func(closure.PathInfo) {})
	want := string(paths[0].Path) + " from ssh-ng://host: nix: exit status 1: Failed to open archive; nothing was imported"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

type dumperFunc func(r nix.DumpRequest, w io.Writer) error

// References implements [Dumper]: it has every path, and says nothing more.
func (dumperFunc) References(_ context.Context, r nix.ReferencesRequest) (map[closure.StorePath][]closure.StorePath, error) {
	references := make(map[closure.StorePath][]closure.StorePath)
	for _, p := range r.Paths {
		references[p] = nil
	}
	return references, nil
}

func (f dumperFunc) Dump(_ context.Context, r nix.DumpRequest, w io.Writer) error { return f(r, w) }

func TestParseSource(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "a cache?")
	must(t, os.Mkdir(cache, 0o755))
	must(t, os.WriteFile(filepath.Join(cache, "nix-cache-info"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for spec, want := range map[string]string{
		dir:                           "importer.tree",
		"file://" + dir:               "importer.tree",
		cache:                         "importer.nixStore file://" + dir + "/a%20cache%3F",
		"https://cache.example.org/x": "importer.nixStore https://cache.example.org/x",
		"ssh-ng://root@host?a=b":      "importer.nixStore ssh-ng://root@host?a=b",
		"http://cache.example.org":    "",
		"ssh-ng://-oProxyCommand=x":   "",
		"ssh-ng://-oProxyCommand=x@h": "",
		"ssh-ng://":                   "",
		"https://":                    "",
		"daemon://":                   "",
		"file://host/dir":             "",
		filepath.Join(dir, "file"):    "",
		filepath.Join(dir, "none"):    "",
	} {
		src, err := ParseSource(spec, nil)
		got := ""
		switch s := src.(type) {
		case nil:
		case nixStore:
			got = fmt.Sprintf("%T %s", s, s.url)
		default:
			got = fmt.Sprintf("%T", s)
		}
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", spec, got, err, want)
		}
	}
	for _, spec := range []string{
		"https://user:hunter2@cache.example.org", "ssh-ng://root:hunter2@host", "http://user:hunter2@host", "https://user:hunter2@host:port", "https://user:hunter2@ho\x00st",
	} {
		if src, err := ParseSource(spec, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, %v", spec, src, err)
		}
	}
}

// Two subvolumes share their free space, and two disks do not.
func TestSharedRoom(t *testing.T) {
	const ext4, btrfs, zfs = 0xef53, 0x9123683e, 0x2fc12fc1
	for _, test := range []struct {
		a, b   place
		shared bool
	}{
		{place{1, ext4}, place{1, ext4}, true},
		{place{1, ext4}, place{2, ext4}, false},
		{place{1, btrfs}, place{2, btrfs}, true},
		{place{1, zfs}, place{2, zfs}, true},
		{place{1, btrfs}, place{2, zfs}, false},
	} {
		if got := test.a.shares(test.b); got != test.shared {
			t.Errorf("%v and %v: %t", test.a, test.b, got)
		}
	}
}
