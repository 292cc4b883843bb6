package nar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"every.channel/ec-verify/pkg/sha256pair"
)

// pairTrees makes trees of very different sizes and returns their directory and
// what their NARs hash to, computed by Dump and crypto/sha256.
func pairTrees(t *testing.T) (dir *os.File, names []string, want map[string]Sum) {
	t.Helper()
	root := t.TempDir()
	want = make(map[string]Sum)
	put := func(name string, size int) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * (size + 7) >> 3)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("large/one", 3*bufferSize+11)
	for i := range 200 {
		put(fmt.Sprintf("many/%d/file", i), i*37)
	}
	for _, size := range []int{0, 1, 64, 4096, bufferSize - 1, bufferSize, bufferSize + 1} {
		put(fmt.Sprintf("file-%d", size), size)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		var archive bytes.Buffer
		if err := Dump(t.Context(), &archive, filepath.Join(root, e.Name()), Options{}); err != nil {
			t.Fatal(err)
		}
		want[e.Name()] = Sum{sha256.Sum256(archive.Bytes()), int64(archive.Len())}
	}
	dir, err = os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir, names, want
}

// TestPair has two workers hash trees in pairs and holds each hash to that of the
// archive, also where one of the trees can't be read.
func TestPair(t *testing.T) {
	dir, names, want := pairTrees(t)
	names = append(names, "absent", names[0])
	for _, opts := range []Options{
		{}, {Read: ReadDisk}, {DropBehind: true}, {OnEntry: func(Entry) error { return nil }},
	} {
		var mu sync.Mutex
		next := 0
		take := func() (string, bool) {
			mu.Lock()
			defer mu.Unlock()
			if next == len(names) {
				return "", false
			}
			next++
			return names[next-1], true
		}
		calls := 0
		var workers sync.WaitGroup
		for range 2 {
			workers.Go(func() {
				Pair(func(newHasher func(Options) *Hasher) {
					mu.Lock()
					calls++
					mu.Unlock()
					h := newHasher(opts)
					for name, ok := take(); ok; name, ok = take() {
						sum, err := h.Sum(context.Background(), dir, name)
						if name == "absent" {
							if !errors.Is(err, os.ErrNotExist) {
								t.Errorf("%s: %v", name, err)
							}
							continue
						}
						if err != nil || sum != want[name] {
							t.Errorf("%s = %v, %v, want %v", name, sum, err, want[name])
						}
					}
				})
			})
		}
		workers.Wait()
		if lanes := 1 + map[bool]int{true: 1}[sha256pair.Available()]; calls != 2*lanes {
			t.Errorf("%d calls, want %d of each worker", calls, lanes)
		}
	}
}

// TestListingHashes holds the hashes of a listing, which come in pairs with that
// of the NAR, to those of the files.
func TestListingHashes(t *testing.T) {
	dir, names, want := pairTrees(t)
	for _, read := range []ReadMode{ReadCached, ReadDisk} {
		for _, name := range names {
			h := NewHasher(Options{Read: read, OnEntry: func(e Entry) error {
				if e.Type != Regular {
					return nil
				}
				data, err := os.ReadFile(filepath.Join(dir.Name(), name, e.Path))
				if err != nil {
					return err
				}
				if e.SHA256 != sha256.Sum256(data) {
					t.Errorf("%s/%s: wrong hash", name, e.Path)
				}
				return nil
			}})
			for range 2 {
				if sum, err := h.Sum(t.Context(), dir, name); err != nil || sum != want[name] {
					t.Errorf("%s = %v, %v, want %v", name, sum, err, want[name])
				}
			}
		}
	}
}
