package rebuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestScratch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "rebuild")
	s, err := openScratch(dir)
	must(t, err)
	// As a run that was killed leaves it: a store's modes, links, names.
	p, err := s.mkdir("builds/0/nix/store/x")
	must(t, err)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("mine"), 0o600))
	must(t, os.Symlink(filepath.Dir(outside), filepath.Join(p, "link")))
	must(t, os.WriteFile(filepath.Join(p, "new\nline"), nil, 0o444))
	must(t, os.Mkdir(filepath.Join(p, "closed"), 0))
	must(t, os.Chmod(p, 0o555))

	if _, err := openScratch(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("a second run: got error %v, want %v", err, ErrBusy)
	}
	must(t, s.dir.Close()) // what is left of a process that was killed
	s, err = openScratch(dir)
	must(t, err)
	if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the next run found what the killed one left: %v", err)
	}
	must(t, s.close())
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
	if data, err := os.ReadFile(outside); string(data) != "mine" {
		t.Errorf("what a link led to: %q, %v", data, err)
	}
	if _, err := openScratch("relative"); err == nil {
		t.Error("a relative directory is taken")
	}
}

func TestScratchIsALink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	if s, err := openScratch(filepath.Join(dir, "link")); err == nil {
		s.close()
		t.Error("a link is taken for the scratch directory")
	}
}

func TestSpace(t *testing.T) {
	dir := t.TempDir()
	if err := (space{path: dir, reserve: 1 << 62}).check(); !errors.Is(err, errNoRoom) {
		t.Errorf("a reserve larger than any disk: got error %v, want %v", err, errNoRoom)
	}
	if err := (space{path: dir}).check(); err != nil {
		t.Errorf("no bounds: %v", err)
	}
	if err := (space{path: filepath.Join(dir, "absent")}).check(); err == nil {
		t.Error("a directory that is not there: no error")
	}
}

func TestWatchSpace(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	must(t, os.Mkdir(tree, 0o755))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		space{path: dir, limit: 8 << 20}.watch(ctx, []string{tree}, cancel)
	}()
	// What is written elsewhere does not count, however much it is.
	other, err := os.Create(filepath.Join(dir, "other"))
	must(t, err)
	_, err = other.Write(make([]byte, 24<<20))
	must(t, err)
	must(t, other.Sync())
	time.Sleep(4 * spaceEvery)
	if ctx.Err() != nil {
		t.Fatalf("ended by what was written elsewhere: %v", context.Cause(ctx))
	}
	f, err := os.Create(filepath.Join(tree, "file"))
	must(t, err)
	_, err = f.Write(make([]byte, 24<<20))
	must(t, err)
	must(t, f.Sync())
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("24 MiB did not end what may take 8 MiB")
	}
	if err := context.Cause(ctx); !errors.Is(err, errNoRoom) || !strings.Contains(err.Error(), "may take 8.0 MiB") {
		t.Errorf("got cause %v", err)
	}
}
