package nar

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// pattern returns n bytes that differ from place to place, so that a piece left
// out, doubled or moved shows.
func pattern(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16*31)
	}
	return string(b)
}

// trees are the shapes that have gone wrong somewhere: in other programs that
// write archives, or at the boundaries of this one.
var trees = map[string]tree{
	"empty file":      file{},
	"empty directory": dir{},
	"root is executable": file{
		data: "#!/bin/sh\n", mode: 0o755},
	"root is a link": link("nowhere"),

	// The order is that of bytes, not of paths: "a-b" and "a.b" sort before
	// "a/x" when paths are compared.
	"order": dir{
		"a": dir{"x": file{}}, "a-b": file{}, "a.b": file{}, "a b": file{},
		"A": file{}, "B": dir{}, "b": file{}, "Z": link("a"), "aa": file{}, "\xff": file{}, "\x01": file{},
	},
	"dots": dir{
		"..foo": file{data: "1"}, "...": dir{"..data": file{}, "....": link("..")},
		".hidden": file{}, "..data~nix~case~hack~1": file{}, "a..": file{},
	},
	"bytes in names": dir{
		"new\nline": file{}, "not\x80utf-8": file{}, "\xc3\xa9": file{}, "e\xcc\x81": file{},
		"tab\t": dir{"\xf0\x28\x8c\x28": link("\xff\xfe")}, " ": file{}, "\\": file{}, "*": file{},
		")": file{}, "(": file{}, "node": file{}, "entry": dir{"name": file{}},
	},
	"long names": dir{
		strings.Repeat("n", 255):     file{data: "x"},
		strings.Repeat("d", 254):     dir{strings.Repeat("m", 255): dir{}},
		strings.Repeat("\xe2", 255):  link("x"),
		strings.Repeat("seven.", 42): file{},
	},
	"links": dir{
		"dangling": link("does/not/exist"), "self": link("self"), "up": link(".."), "root": link("/"),
		"dir": link("real"), "real": dir{"f": file{data: "f"}}, "slash": link("real/"),
		"bytes": link("a\x80\n\xff"), "long": link(strings.Repeat("t", 4095)), "eight": link("12345678"),
	},
	"modes": dir{
		"0644": file{mode: 0o644}, "0755": file{mode: 0o755}, "0100": file{mode: 0o100, data: "x"},
		"0500": file{mode: 0o500, data: "x"}, "0444": file{mode: 0o444, data: "x"},
		// Only the owner's bit counts.
		"0655": file{mode: 0o655}, "0611": file{mode: 0o611},
		"4755": file{mode: 0o755 | os.ModeSetuid}, "2644": file{mode: 0o644 | os.ModeSetgid},
		"1744": file{mode: 0o744 | os.ModeSticky},
	},
}

func init() {
	sizes := dir{}
	for _, n := range []int{
		0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097,
		smallRead - 1, smallRead, smallRead + 1,
		bufferSize - 1, bufferSize, bufferSize + 1, 2*bufferSize - 1, 2*bufferSize + 9,
		directSize - 1, directSize, directSize + 1, directSize + directAlign,
		readAhead - 1, readAhead + 1, bufferSize*(bufferCount+2) + 3,
	} {
		sizes[fmt.Sprintf("size-%d", n)] = file{data: pattern(n)}
		trees[fmt.Sprintf("file of %d bytes", n)] = file{data: pattern(n)}
	}
	trees["sizes"] = sizes
	many := dir{}
	for i := range 3000 { // more than one getdents call, and more than one buffer
		many[fmt.Sprintf("%d-%s", i*7919%3000, strings.Repeat("x", i%50))] = file{data: pattern(i % 300)}
	}
	trees["many entries"] = many
}

// skipUnreadable leaves out trees with files that only root can read.
func skipUnreadable(t *testing.T, name string) {
	t.Helper()
	if name == "modes" && os.Geteuid() != 0 {
		t.Skip("mode 0100 needs root to be read")
	}
}

func TestSum(t *testing.T) {
	// One Hasher each for all trees: nothing may stay behind in it.
	hashers := map[string]*Hasher{
		"cached":  NewHasher(Options{}),
		"disk":    NewHasher(Options{Read: ReadDisk}),
		"listing": NewHasher(Options{OnEntry: func(Entry) error { return nil }}),
	}
	for name, tr := range trees {
		t.Run(name, func(t *testing.T) {
			skipUnreadable(t, name)
			path := place(t, tr)
			want := archive(tr)
			parent, err := os.Open(filepath.Dir(path))
			must(t, err)
			defer parent.Close()
			for mode, h := range hashers {
				got, err := h.Sum(t.Context(), parent, "root")
				if err != nil || got != sumOf(want) {
					t.Errorf("%s: Sum = %v, %v; want %v", mode, got, err, sumOf(want))
				}
			}
			got, err := dumpString(t.Context(), path, Options{})
			if err != nil || got != string(want) {
				t.Errorf("Dump = %d bytes, %v; want %d bytes, the same", len(got), err, len(want))
			}
		})
	}
}

// The hashes that nix-hash (Nix 2.8.0) prints, so that the package is held to
// Nix also where there is no Nix.
func TestSumGolden(t *testing.T) {
	tests := []struct {
		name string
		tree tree
		want string
	}{
		{"empty directory", dir{}, "sha256:0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5"},
		{"empty file", file{}, "sha256:0ip26j2h11n1kgkz36rl4akv694yz65hr72q4kv4b3lxcbi65b3p"},
		{"executable", file{data: "#!/bin/sh\n", mode: 0o755}, "sha256:0m35wabrvlzjvv71f2xvca3vd91gh9mwvh4mm38h7yb0h9kc30v2"},
		{"link", link("nowhere"), "sha256:1nx7dbpasy9g1avhq5kbi0flavsbgml5qhkwgy8rsdgcvkmn57vv"},
		{"tree", dir{
			"a": dir{"x": file{data: "x"}}, "a-b": file{data: "12345678"}, "a.b": link("a/x"),
			"..foo": file{}, "\x80": dir{},
		}, "sha256:1aprxcss9g0mlmj7mdkx1b37z007a457w2kcdw8miyvliasi1rlf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := hashPath(t, place(t, tt.tree), Options{})
			if err != nil || got.Hash.Base32() != tt.want {
				t.Errorf("HashPath = %v, %v; want %s", got.Hash.Base32(), err, tt.want)
			}
		})
	}
}

func TestSumSparseAndHardLinked(t *testing.T) {
	path := place(t, dir{"f": file{data: "one inode"}})
	must(t, os.Link(path+"/f", path+"/g"))
	must(t, os.WriteFile(path+"/sparse", nil, 0o644))
	must(t, os.Truncate(path+"/sparse", 5<<20+3))
	want := sumOf(archive(dir{
		"f": file{data: "one inode"}, "g": file{data: "one inode"},
		"sparse": file{data: strings.Repeat("\x00", 5<<20+3)},
	}))
	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		if got, err := hashPath(t, path, Options{Read: mode}); err != nil || got != want {
			t.Errorf("%v: HashPath = %v, %v; want %v", mode, got, err, want)
		}
	}
}

func TestHashPathForms(t *testing.T) {
	path := place(t, dir{"sub": dir{"f": file{data: "f"}}, "link": link("sub")})
	t.Chdir(path)
	sub, target := sumOf(archive(dir{"f": file{data: "f"}})), sumOf(archive(link("sub")))
	tests := []struct {
		path string
		want Sum
	}{
		{path + "/sub", sub},
		{"sub", sub},
		{"./sub", sub},
		{"sub/", sub},
		{"sub//", sub},
		{"sub/.", sub},
		{"link", target},
		{"link/", target},
		{"link/f", sumOf(archive(file{data: "f"}))}, // only the last component is not followed
		{"link/.", sub},
	}
	for _, tt := range tests {
		if got, err := hashPath(t, tt.path, Options{}); err != nil || got != tt.want {
			t.Errorf("HashPath(%q) = %v, %v; want %v", tt.path, got, err, tt.want)
		}
	}
	t.Chdir(path + "/sub")
	for _, p := range []string{".", "./", "../sub/../sub"} {
		if got, err := hashPath(t, p, Options{}); err != nil || got != sub {
			t.Errorf("HashPath(%q) = %v, %v; want %v", p, got, err, sub)
		}
	}
}

func TestSumRefusesNames(t *testing.T) {
	parent, err := os.Open(filepath.Dir(place(t, dir{"f": file{}})))
	must(t, err)
	defer parent.Close()
	h := NewHasher(Options{})
	for _, name := range []string{"", ".", "..", "/", "root/f", "root/", "/etc", "root\x00"} {
		if got, err := h.Sum(t.Context(), parent, name); !errors.Is(err, syscall.EINVAL) || got != (Sum{}) {
			t.Errorf("Sum(%q) = %v, %v; want EINVAL", name, got, err)
		}
	}
	if _, err := h.Sum(t.Context(), parent, "root"); err != nil {
		t.Errorf("Sum(%q) after refusals: %v", "root", err)
	}
	if _, err := h.Sum(t.Context(), parent, "absent"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Sum(%q) = %v; want ENOENT", "absent", err)
	}
	for _, path := range []string{"", "/no/such/parent"} {
		var perr *PathError
		if _, err := hashPath(t, path, Options{}); !errors.Is(err, syscall.ENOENT) || !errors.As(err, &perr) {
			t.Errorf("HashPath(%q) = %v; want a PathError with ENOENT", path, err)
		}
	}
}

func TestOnEntry(t *testing.T) {
	tr := dir{
		"a":    dir{"x": file{data: "x"}, "\x80": dir{}},
		"a-b":  file{data: "#!", mode: 0o755},
		"link": link("\xff"),
		"z":    file{},
	}
	digest := func(s string) Hash { return sha256.Sum256([]byte(s)) }
	want := []Entry{
		{Path: "", Type: Directory},
		{Path: "a", Type: Directory},
		{Path: "a/x", Type: Regular, Size: 1, SHA256: digest("x")},
		{Path: "a/\x80", Type: Directory},
		{Path: "a-b", Type: Regular, Executable: true, Size: 2, SHA256: digest("#!")},
		{Path: "link", Type: Symlink, Target: "\xff"},
		{Path: "z", Type: Regular, SHA256: digest("")},
	}
	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		var got []Entry
		_, err := hashPath(t, place(t, tr), Options{Read: mode, OnEntry: func(e Entry) error {
			got = append(got, e)
			return nil
		}})
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: entries (-want +got):\n%s", mode, diff)
		}
	}

	// The root alone.
	var got []Entry
	_, err := hashPath(t, place(t, link("t")), Options{OnEntry: func(e Entry) error {
		got = append(got, e)
		return nil
	}})
	must(t, err)
	if diff := cmp.Diff([]Entry{{Type: Symlink, Target: "t"}}, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestOnEntryEndsTheWalk(t *testing.T) {
	checkNoLeak(t)
	path := place(t, dir{"d": dir{"f": file{}}, "l": link("x")})
	stop := errors.New("stop")
	for _, at := range []string{"", "d", "d/f", "l"} {
		calls := 0
		sum, err := hashPath(t, path, Options{OnEntry: func(e Entry) error {
			calls++
			if e.Path == at {
				return stop
			}
			return nil
		}})
		if !errors.Is(err, stop) || sum != (Sum{}) {
			t.Errorf("at %q: HashPath = %v, %v; want the callback's error", at, sum, err)
		}
		if calls == 0 {
			t.Errorf("at %q: no calls", at)
		}
	}
}

func TestOnMode(t *testing.T) {
	path := place(t, dir{
		"data": file{mode: 0o444}, "program": file{mode: 0o555}, "nix": dir{},
		"plain": file{mode: 0o755}, "private": file{mode: 0o500}, "own": file{mode: 0o700},
		"none": file{mode: 0o400}, "sticky": file{mode: 0o444 | os.ModeSticky},
		"setuid": file{mode: 0o555 | os.ModeSetuid}, "setgid": file{mode: 0o555 | os.ModeSetgid},
		"group": file{mode: 0o664}, "world": file{mode: 0o646},
		"dir": dir{"f": file{mode: 0o444}}, "link": link("world"), // a link's own mode is 0777
	})
	must(t, os.Chmod(path+"/nix", 0o555))
	must(t, os.Chmod(path+"/dir", 0o777|os.ModeSticky))
	must(t, os.Chmod(path, 0o744))
	type call struct {
		Path string
		Mode uint32
	}
	var got []call
	_, err := hashPath(t, path, Options{OnMode: func(path string, mode uint32) {
		got = append(got, call{path, mode})
	}})
	must(t, err)
	want := []call{
		{"", unix.S_IFDIR | 0o744},
		{"dir", unix.S_IFDIR | unix.S_ISVTX | 0o777},
		{"group", unix.S_IFREG | 0o664},
		{"none", unix.S_IFREG | 0o400},
		{"own", unix.S_IFREG | 0o700},
		{"plain", unix.S_IFREG | 0o755},
		{"private", unix.S_IFREG | 0o500},
		{"setgid", unix.S_IFREG | unix.S_ISGID | 0o555},
		{"setuid", unix.S_IFREG | unix.S_ISUID | 0o555},
		{"sticky", unix.S_IFREG | unix.S_ISVTX | 0o444},
		{"world", unix.S_IFREG | 0o646},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

func TestOnLinks(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "a"), &st); err != nil {
		t.Fatal(err)
	}
	got := 0
	_, err := hashPath(t, dir, Options{OnLinks: func(dev, ino, names uint64) {
		got++
		if dev != st.Dev || ino != st.Ino || names != 2 {
			t.Errorf("got %d, %d, %d names", dev, ino, names)
		}
	}})
	if err != nil || got != 2 {
		t.Errorf("%d files with several names, %v", got, err)
	}
}

func TestOnTime(t *testing.T) {
	path := place(t, dir{"nix": file{}, "new": file{}, "nearly": file{}, "dir": dir{"f": file{}}, "l": link("new")})
	for name, at := range map[string]time.Time{
		"": time.Unix(1, 0), "nix": time.Unix(1, 0), "dir/f": time.Unix(1, 0),
		"new": time.Unix(1790000000, 5), "nearly": time.Unix(1, 1), "dir": time.Unix(0, 0),
	} {
		must(t, os.Chtimes(path+"/"+name, time.Time{}, at))
	}
	var got []string
	_, err := hashPath(t, path, Options{OnTime: func(path string, sec, nsec int64) {
		got = append(got, fmt.Sprintf("%s %d.%09d", path, sec, nsec))
	}})
	must(t, err)
	if diff := cmp.Diff([]string{"dir 0.000000000", "nearly 1.000000001", "new 1790000000.000000005"}, got); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

func TestProgress(t *testing.T) {
	var p Progress
	path := place(t, dir{"a": file{data: pattern(bufferSize + 1)}, "b": file{}, "l": link("a")})
	for _, opts := range []Options{{Progress: &p}, {Progress: &p, Read: ReadDisk}} {
		_, err := hashPath(t, path, opts)
		must(t, err)
	}
	if got, want := p.Snapshot(), (Counts{Files: 4, Bytes: 2 * (bufferSize + 1)}); got != want {
		t.Errorf("Snapshot = %+v; want %+v", got, want)
	}
	if got := (*Progress)(nil).Snapshot(); got != (Counts{}) {
		t.Errorf("nil: Snapshot = %+v", got)
	}
}

// shortWriter fails once it was given more than n bytes, and panics if it is
// given anything after that.
type shortWriter struct{ n int }

func (w *shortWriter) Write(b []byte) (int, error) {
	if w.n < 0 {
		panic("written to after an error")
	}
	if len(b) > w.n {
		w.n = -1
		return 0, io.ErrShortWrite
	}
	w.n -= len(b)
	return len(b), nil
}

func TestDumpReturnsTheWritersError(t *testing.T) {
	checkNoLeak(t)
	path := place(t, dir{
		"a": file{data: pattern(3 * bufferSize)}, "b": file{data: pattern(3 * bufferSize)}, "c": dir{},
	})
	for _, n := range []int{0, bufferSize, 4 * bufferSize, 6 * bufferSize} {
		var p Progress
		err := Dump(t.Context(), &shortWriter{n: n}, path, Options{Progress: &p})
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("after %d bytes: Dump = %v; want the writer's error", n, err)
		}
		if got := p.Snapshot().Bytes; got > int64(n)+2*bufferSize {
			t.Errorf("after %d bytes: went on reading, %d bytes", n, got)
		}
	}
	var b bytes.Buffer
	must(t, Dump(t.Context(), &b, path, Options{}))

	// Without contents to read the walk ends as well.
	links := dir{}
	for i := range 3000 {
		links[fmt.Sprint(i)] = link(strings.Repeat("t", 200))
	}
	entries := 0
	err := Dump(t.Context(), &shortWriter{n: 0}, place(t, links), Options{OnEntry: func(Entry) error {
		entries++
		return nil
	}})
	if !errors.Is(err, io.ErrShortWrite) || entries > 1000 {
		t.Errorf("links: Dump = %v after %d entries; want the writer's error, early", err, entries)
	}
}

func TestOnOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files away takes root")
	}
	path := place(t, dir{"a": file{}, "b": file{}, "dir": dir{"f": file{}}, "l": link("a"), "z": file{}})
	for _, c := range []struct {
		name     string
		uid, gid int
	}{{"b", 1001, -1}, {"dir", 1002, -1}, {"dir/f", 1003, -1}, {"l", 1004, 1004}, {"z", -1, 1005}} {
		must(t, os.Lchown(path+"/"+c.name, c.uid, c.gid))
	}
	for _, c := range []struct {
		owner, group uint32
		want         []string
	}{
		{0, 0, []string{"b 1001:0", "dir 1002:0", "dir/f 1003:0", "z 0:1005"}}, // who owns a link cannot change it
		{1002, 1005, []string{"b 1001:0", "dir/f 1003:0"}},
	} {
		var got []string
		_, err := hashPath(t, path, Options{Owner: c.owner, Group: c.group, OnOwner: func(path string, uid, gid uint32) {
			got = append(got, fmt.Sprintf("%s %d:%d", path, uid, gid))
		}})
		must(t, err)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("beside %d:%d (-want +got):\n%s", c.owner, c.group, diff)
		}
	}
}

func TestOnAttributes(t *testing.T) {
	path := place(t, dir{"able": file{mode: 0o555}, "plain": file{mode: 0o555}, "data": file{mode: 0o444}, "dir": dir{}, "many": file{mode: 0o444}})
	// Version 2 of vfs_cap_data: cap_setuid, permitted and effective.
	ability := []byte{1, 0, 0, 2, 1 << 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(path+"/able", "security.capability", ability, 0); errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		t.Skipf("setting capabilities: %v", err)
	} else {
		must(t, err)
	}
	must(t, unix.Setxattr(path+"/data", "trusted.a", []byte("x"), 0))
	must(t, unix.Setxattr(path+"/data", "trusted.b", nil, 0))
	must(t, unix.Setxattr(path+"/dir", "trusted.c", nil, 0))
	long := strings.Repeat("x", 200)
	for i := range 5 {
		must(t, unix.Setxattr(path+"/many", fmt.Sprintf("trusted.%d%s", i, long), nil, 0))
	}
	var got []string
	_, err := hashPath(t, path, Options{OnAttributes: func(path string, names []string) {
		slices.Sort(names)
		got = append(got, path+" "+strings.ReplaceAll(strings.Join(names, " "), long, ""))
	}})
	must(t, err)
	want := []string{"able security.capability", "data trusted.a trusted.b", "dir trusted.c", "many trusted.0 trusted.1 trusted.2 trusted.3 trusted.4"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
