package nar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSumContents(t *testing.T) {
	name := filepath.Join(t.TempDir(), "kernel")
	content := bytes.Repeat([]byte("kernel"), 100_000)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	asked := 0
	sum := func(opts Options, n int64) (Sum, error) {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		opts.Pace = func(_ context.Context, n int) error { asked += n; return nil }
		return NewHasher(opts).SumContents(t.Context(), f, n)
	}
	for _, opts := range []Options{{}, {DropBehind: true}, {Read: ReadDisk}} {
		for _, n := range []int64{0, 1, 5000, int64(len(content))} {
			asked = 0
			got, err := sum(opts, n)
			if want := (Sum{sha256.Sum256(content[:n]), n}); err != nil || got != want {
				t.Errorf("%+v, %d bytes: %v, %v; want %v", opts.Read, n, got, err, want)
			}
			if int64(asked) < n {
				t.Errorf("%+v: %d bytes were read, and %d asked for", opts.Read, n, asked)
			}
		}
	}
	if _, err := sum(Options{}, int64(len(content))+1); !errors.Is(err, ErrChanged) {
		t.Errorf("more than it has: %v", err)
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := NewHasher(Options{}).SumContents(t.Context(), dir, 0); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a directory: %v", err)
	}
}
