package nix

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotFound(t *testing.T) {
	empty := t.TempDir()
	notExecutable := t.TempDir()
	for _, program := range programs {
		writeFile(t, filepath.Join(notExecutable, program), "#!/bin/sh\n")
	}
	onlyOne := t.TempDir()
	writeFile(t, filepath.Join(onlyOne, "nix"), "")
	if err := os.Chmod(filepath.Join(onlyOne, "nix"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, notExecutable, onlyOne, "bin", "./bin"} {
		if _, err := New(Config{BinDir: dir}).Version(t.Context()); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), dir) {
			t.Errorf("BinDir %q: %v, want ErrNotFound", dir, err)
		}
	}
}

func TestFoundInPath(t *testing.T) {
	for _, dir := range []string{"/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin"} {
		if holdsPrograms(dir) {
			t.Skipf("%s comes first", dir)
		}
	}
	f := newFake(t, Config{}, "nix (Nix) 2.30.0\n", fake{})
	// A relative directory of PATH is whatever lies where we happen to run.
	t.Chdir(f.dir)
	t.Setenv("PATH", ".:"+t.TempDir())
	if _, err := New(Config{}).Version(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("relative PATH: %v, want ErrNotFound", err)
	}
	t.Setenv("PATH", ".:"+f.dir)
	if v, err := New(Config{}).Version(t.Context()); err != nil || v.Minor != 30 {
		t.Errorf("Version = %v, %v", v, err)
	}
}
