package nar

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// coldDir makes a directory with files that are not in the page cache.
func coldDir(t *testing.T) (root string, want Sum) {
	t.Helper()
	files := dir{"d": dir{"in": file{data: pattern(300)}}}
	for i := range maxAhead + maxAhead/2 {
		files[fmt.Sprintf("f%03d", i)] = file{data: pattern(100 + 9000*i)}
	}
	root = place(t, files)
	evictAll(t, root)
	return root, sumOf(archive(files))
}

func evictAll(t *testing.T, root string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "f*"))
	must(t, err)
	for _, name := range append(names, filepath.Join(root, "d", "in")) {
		evict(t, name)
	}
}

// Files out of the page cache are opened before their turn, and leave the cache again.
func TestAhead(t *testing.T) {
	root, want := coldDir(t)
	checkNoLeak(t)
	before, most := openFiles(t), 0
	got, err := hashPath(t, root, Options{DropBehind: true, OnEntry: func(Entry) error {
		most = max(most, openFiles(t)-before)
		return nil
	}})
	if err != nil || got != want {
		t.Errorf("HashPath = %v, %v; want %v", got, err, want)
	}
	if most < maxAhead/2 || most > MaxOpen {
		t.Errorf("%d files were open at a time", most)
	}
	checkCold(t, root)
}

func checkCold(t *testing.T, root string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "f*"))
	must(t, err)
	for _, name := range names {
		if n := len(residents(t, name)); n > 0 {
			t.Errorf("%d pages of %s are cached", n, name)
		}
	}
}

// A program that reads a file between its opening and its turn keeps the pages.
func TestAheadOfNeighbour(t *testing.T) {
	for name, give := range map[string]error{"to the end": nil, "given up": errors.New("enough")} {
		t.Run(name, func(t *testing.T) {
			root, _ := coldDir(t)
			large := filepath.Join(root, "f031")
			read := false
			_, err := hashPath(t, root, Options{DropBehind: true, OnEntry: func(e Entry) error {
				if e.Path == "f002" {
					data, err := os.ReadFile(large)
					must(t, err)
					if read = len(data) > aheadBytes; !read {
						t.Errorf("%s has %d bytes", large, len(data))
					}
					return give
				}
				return nil
			}})
			if !errors.Is(err, give) || !read {
				t.Fatalf("HashPath = %v", err)
			}
			info, err := os.Stat(large)
			must(t, err)
			page := int64(os.Getpagesize())
			if n, all := int64(len(residents(t, large))), (info.Size()+page-1)/page; n != all {
				t.Errorf("%d of its %d pages are cached", n, all)
			}
		})
	}
}

// Nothing that changes between the opening of a file and its turn goes unnoticed.
func TestAheadChanged(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"written": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			_, err = f.WriteAt([]byte("x"), 0)
			must(t, err)
		},
		"grown": func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<20)) },
		"replaced": func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".new", []byte("other"), 0o444))
			must(t, os.Rename(path+".new", path))
		},
		"replaced by a link": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink("/etc/passwd", path))
		},
		"removed":        func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"made writable":  func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) },
		"given to other": func(t *testing.T, path string) { must(t, unix.Chown(path, 1, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "given to other" && os.Geteuid() != 0 {
				t.Skip("requires root")
			}
			root, _ := coldDir(t)
			checkNoLeak(t)
			_, err := hashPath(t, root, Options{DropBehind: true, OnEntry: func(e Entry) error {
				if e.Path == "f002" {
					change(t, filepath.Join(root, "f006"))
				}
				return nil
			}})
			if !errors.Is(err, ErrChanged) {
				t.Errorf("HashPath = %v; want ErrChanged", err)
			}
		})
	}
}

// A walk that ends early closes what it opened, and drops what it read.
func TestAheadGivenUp(t *testing.T) {
	root, _ := coldDir(t)
	checkNoLeak(t)
	enough := errors.New("enough")
	_, err := hashPath(t, root, Options{DropBehind: true, OnEntry: func(e Entry) error {
		if e.Path == "f003" {
			return enough
		}
		return nil
	}})
	if !errors.Is(err, enough) {
		t.Errorf("HashPath = %v", err)
	}
	checkCold(t, root)
}
