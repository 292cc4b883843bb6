package nar

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A walk calls OnMode for a file after it was opened and before it is read, and
// OnEntry for a directory before it is listed and for a file after it was read.
// The tests change the tree in these calls: each change happens at a known
// step, and no test depends on time.

// changing is an Options whose walk runs change when it has opened, but not yet
// read, the file at path. The file must be writable for its group.
func changing(path string, change func()) Options {
	return Options{OnMode: func(p string, _ uint32) {
		if p == path {
			change()
		}
	}}
}

// after is an Options whose walk runs change when it is done with the file, or
// about to list the directory, at path.
func after(path string, change func()) Options {
	return Options{OnEntry: func(e Entry) error {
		if e.Path == path {
			change()
		}
		return nil
	}}
}

// wantChanged checks that a walk fails with ErrChanged about path.
func wantChanged(t *testing.T, root string, opts Options, path, op string, also ...error) error {
	t.Helper()
	sum, err := hashPath(t, root, opts)
	var perr *PathError
	if !errors.Is(err, ErrChanged) || !errors.As(err, &perr) || perr.Path != path || perr.Op != op || sum != (Sum{}) {
		t.Fatalf("HashPath = %v, %v; want ErrChanged for %s %q", sum, err, op, path)
	}
	for _, target := range also {
		if !errors.Is(err, target) {
			t.Errorf("HashPath = %v; want it to be %v too", err, target)
		}
	}
	return err
}

func TestFileChangesWhileRead(t *testing.T) {
	const size = 3*bufferSize + 5
	longAgo := time.Unix(1, 0)
	tests := []struct {
		name   string
		change func(t *testing.T, path string)
		want   string
	}{
		{"grows", func(t *testing.T, path string) { must(t, os.Truncate(path, size+1)) }, ""},
		{"grows past the last page", func(t *testing.T, path string) { must(t, os.Truncate(path, size+1<<20)) }, ""},
		{"shrinks", func(t *testing.T, path string) { must(t, os.Truncate(path, size-1)) }, "it ends after"},
		{"is emptied", func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, "it ends after 0 of"},
		{"is written", func(t *testing.T, path string) { write(t, path, size/2, "x") }, "modification time"},
		{"is made executable", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o775)) }, "mode or owner"},
	}
	for _, tt := range tests {
		for _, mode := range []ReadMode{ReadCached, ReadDisk} {
			t.Run(tt.name+"/"+mode.String(), func(t *testing.T) {
				checkNoLeak(t)
				root := place(t, dir{"a": file{data: pattern(size), mode: 0o664}, "b": file{}})
				must(t, os.Chtimes(root+"/a", longAgo, longAgo))
				opts := changing("a", func() { tt.change(t, root+"/a") })
				opts.Read, opts.Progress = mode, new(Progress)
				err := wantChanged(t, root, opts, "root/a", "read")
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %q does not say %q", err, tt.want)
				}
				if got := opts.Progress.Snapshot(); got.Bytes > size || got.Files != 0 {
					t.Errorf("Snapshot = %+v; want no more than the %d bytes announced", got, size)
				}
			})
		}
	}
}

// A change time that moves alone is no change: every user can move it with a
// hard link. A file that is written and dated back has another hash.
func TestChangeTimeMovesWhileRead(t *testing.T) {
	const size = 3*bufferSize + 5
	longAgo := time.Unix(1, 0)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, path, other string)
		same   bool
	}{
		{"is linked", func(t *testing.T, path, other string) { must(t, os.Link(path, other)) }, true},
		{"is linked for a moment", func(t *testing.T, path, other string) {
			must(t, os.Link(path, other))
			must(t, os.Remove(other))
		}, true},
		{"is written and dated back", func(t *testing.T, path, _ string) {
			write(t, path, size-1, "!")
			must(t, os.Chtimes(path, longAgo, longAgo))
		}, false},
	} {
		for _, mode := range []ReadMode{ReadCached, ReadDisk} {
			t.Run(tt.name+"/"+mode.String(), func(t *testing.T) {
				tree := dir{"a": file{data: pattern(size), mode: 0o664}}
				root := place(t, tree)
				must(t, os.Chtimes(root+"/a", longAgo, longAgo))
				opts := changing("a", func() { tt.change(t, root+"/a", filepath.Dir(root)+"/other") })
				opts.Read = mode
				sum, err := hashPath(t, root, opts)
				if err != nil || (sum == sumOf(archive(tree))) != tt.same {
					t.Errorf("HashPath = %v, %v; want the hash of before: %v", sum, err, tt.same)
				}
			})
		}
	}
}

// write puts data at an offset of an existing file.
func write(t *testing.T, path string, off int64, data string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(data), off)
	must(t, err)
}

func TestRootFileChangesWhileRead(t *testing.T) {
	root := place(t, file{data: "data", mode: 0o664})
	wantChanged(t, root, changing("", func() { must(t, os.Truncate(root, 9)) }), "root", "read")
}

// Entries that were replaced by something else before the walk reaches them.
func TestEntryReplaced(t *testing.T) {
	outside := place(t, dir{"f": file{data: "outside"}})
	tests := []struct {
		name  string
		entry tree // what is listed
		with  func(t *testing.T, path string)
		op    string
		also  []error
	}{
		{"file by link", file{data: "x"}, func(t *testing.T, p string) { link(outside+"/f").create(t, p) }, "open", []error{syscall.ELOOP}},
		{"file by FIFO", file{data: "x"}, func(t *testing.T, p string) { must(t, unix.Mkfifo(p, 0o644)) }, "open", nil},
		{"file by directory", file{data: "x"}, func(t *testing.T, p string) { dir{}.create(t, p) }, "open", nil},
		{"file by socket", file{data: "x"}, func(t *testing.T, p string) {
			must(t, unix.Mknod(p, unix.S_IFSOCK|0o644, 0))
		}, "open", []error{syscall.ENXIO}},
		{"file by nothing", file{data: "x"}, func(*testing.T, string) {}, "open", []error{syscall.ENOENT}},
		{"directory by link", dir{"f": file{}}, func(t *testing.T, p string) { link(outside).create(t, p) }, "open", nil},
		{"directory by file", dir{"f": file{}}, func(t *testing.T, p string) { file{}.create(t, p) }, "open", []error{syscall.ENOTDIR}},
		{"directory by FIFO", dir{"f": file{}}, func(t *testing.T, p string) { must(t, unix.Mkfifo(p, 0o644)) }, "open", []error{syscall.ENOTDIR}},
		{"directory by nothing", dir{"f": file{}}, func(*testing.T, string) {}, "open", []error{syscall.ENOENT}},
		{"link by file", link("x"), func(t *testing.T, p string) { file{}.create(t, p) }, "readlink", nil},
		{"link by nothing", link("x"), func(*testing.T, string) {}, "readlink", []error{syscall.ENOENT}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkNoLeak(t)
			root := place(t, dir{"a": file{}, "b": tt.entry})
			opened := opens(t, outside, outside+"/f")
			wantChanged(t, root, after("a", func() {
				must(t, os.RemoveAll(root+"/b"))
				tt.with(t, root+"/b")
			}), "root/b", tt.op, tt.also...)
			if n := opened(); n != 0 {
				t.Errorf("the walk left the tree: %d events", n)
			}
		})
	}
}

func TestDirectoryChangesWhileRead(t *testing.T) {
	changes := map[string]func(t *testing.T, dir string){
		"entry added":    func(t *testing.T, dir string) { file{}.create(t, dir+"/c") },
		"entry removed":  func(t *testing.T, dir string) { must(t, os.Remove(dir+"/a")) },
		"entry renamed":  func(t *testing.T, dir string) { must(t, os.Rename(dir+"/a", dir+"/0")) },
		"entry replaced": func(t *testing.T, dir string) { must(t, os.Rename(dir+"/a", dir+"/b")) },
		"mode":           func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o700)) },
	}
	for name, change := range changes {
		for _, sub := range []string{"", "d"} {
			t.Run(name+" in root/"+sub, func(t *testing.T) {
				checkNoLeak(t)
				content := dir{"a": file{}, "b": file{}}
				root := place(t, dir{"d": content, "a": file{}, "b": file{}})
				where, last := root, "d"
				if sub != "" {
					where, last = root+"/"+sub, sub+"/b"
				}
				want := strings.TrimSuffix("root/"+sub, "/")
				wantChanged(t, root, after(last, func() { change(t, where) }), want, "list")
			})
		}
	}
}

// A directory that is moved while the walk is so deep in it that its parents
// are closed: ".." leads somewhere else then.
func TestDirectoryMovedWhileDeepInIt(t *testing.T) {
	checkNoLeak(t)
	var tr tree = dir{"f": file{}}
	for range maxOpenDirs + 4 {
		tr = dir{"d": tr}
	}
	root := place(t, dir{"d": dir{"d": tr}, "other": dir{}})
	deep := strings.Repeat("d/", maxOpenDirs+6) + "f"
	wantChanged(t, root, after(deep, func() {
		must(t, os.Rename(root+"/d/d", root+"/other/d"))
	}), "root/d/d", "open")

	// Most file systems move the change time of what is renamed, so that it is
	// found before ".." is followed. Where they do not, reopen has to see it.
	h := NewHasher(Options{})
	child, err := os.Open(root + "/other/d")
	must(t, err)
	defer child.Close()
	other, err := os.Stat(root + "/other")
	must(t, err)
	st := other.Sys().(*syscall.Stat_t)
	for _, tt := range []struct {
		ino  uint64
		want error
	}{{st.Ino, nil}, {st.Ino + 1, ErrChanged}} {
		f := frame{fd: -1, dev: st.Dev, ino: tt.ino}
		if err := h.reopen(&f, int(child.Fd())); !errors.Is(err, tt.want) {
			t.Errorf("reopen = %v; want %v", err, tt.want)
		}
		unix.Close(f.fd)
	}
}

// What does not touch the tree must not disturb the walk.
func TestUnrelatedChanges(t *testing.T) {
	root := place(t, dir{"a": file{data: "a", mode: 0o664}, "b": file{}})
	want := sumOf(archive(dir{"a": file{data: "a"}, "b": file{}}))
	got, err := hashPath(t, root, changing("a", func() {
		file{}.create(t, root+"-beside")
		_, err := os.ReadFile(root + "/a")
		must(t, err)
	}))
	if err != nil || got != want {
		t.Errorf("HashPath = %v, %v; want %v", got, err, want)
	}
}
