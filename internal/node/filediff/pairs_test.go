package filediff_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/node/filediff"
)

// shell runs a script with a and b as its directories.
func shell(t *testing.T, dir, script string, needs ...string) {
	t.Helper()
	imagetest.Need(t, needs...)
	cmd := exec.Command("sh", "-ec", "umask 022; mkdir -p a b\n"+script)
	cmd.Dir = dir
	// GOARCH may be another one than gcc's, where these tests are emulated.
	cmd.Env = append(os.Environ(), "GOARCH=", "SOURCE_DATE_EPOCH=", "LC_ALL=C", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func compareFiles(t *testing.T, dir, name string) *filediff.Result {
	t.Helper()
	var data [2][]byte
	for i, side := range []string{"a", "b"} {
		var err error
		if data[i], err = os.ReadFile(filepath.Join(dir, side, name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := filediff.Compare(t.Context(), name, data[0], data[1], filediff.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// causes are the names of r's causes, but for the hashes that follow from the rest.
func causes(r *filediff.Result) []string {
	var out []string
	for _, c := range r.Causes {
		if c.Name != filediff.ContentHash {
			out = append(out, string(c.Name))
		}
	}
	slices.Sort(out)
	return out
}

// dump is r for the log of a test that failed.
func dump(r *filediff.Result, indent string) string {
	s := fmt.Sprintf("%s%s, explained %v, %d differ from %d, notes %q\n", indent, r.Format, r.Explained, r.Count, r.First, r.Notes)
	for _, c := range r.Causes {
		s += fmt.Sprintf("%s  cause %s in %q: %q %q\n", indent, c.Name, c.Where, c.A, c.B)
	}
	for _, p := range r.Parts {
		s += fmt.Sprintf("%s  %s %q %s: %q %q\n", indent, p.Kind, p.Name, p.Change, p.A, p.B)
		if p.Within != nil {
			s += dump(p.Within, indent+"    ")
		}
	}
	return s
}

// Of the runtime alone: a linker takes most of the time of these tests.
const program = `package main

var built = "never"

func main() { println(built) }
`

// TestPairs creates real pairs of files that differ by one of the usual causes, or by none
// of them. The right causes must be named, and no others.
func TestPairs(t *testing.T) {
	goBuild := func(a, b, flagsA, flagsB string) string {
		// In directories of one length, whatever that of the temporary one is: what lies
		// behind a path in a program moves by its length.
		return fmt.Sprintf(`export GOFLAGS=-buildvcs=false CGO_ENABLED=0
deep=$(printf '%%*s' $((150 - ${#PWD})) '' | tr ' ' d); mkdir $deep; mv main.go go.mod $deep; here=$PWD; cd $deep
mkdir -p %[1]s %[2]s; cp main.go go.mod %[1]s; cp main.go go.mod %[2]s
(cd %[1]s; go build %[3]s -o $here/a/f .); (cd %[2]s; go build %[4]s -o $here/b/f .)`, a, b, flagsA, flagsB)
	}
	// A directory for each, of one length or of two, with the same files in it.
	inTwo := func(a, b, files, build string) string {
		return fmt.Sprintf("mkdir -p %[1]s %[2]s; here=$PWD\nfor d in %[1]s %[2]s; do (cd $d; %[3]s); done\n(cd %[1]s; out=$here/a/f; %[4]s); (cd %[2]s; out=$here/b/f; %[4]s)", a, b, files, build)
	}
	const cFiles = `printf '#include "h.h"\nint main(int n, char **v) { return g(n); }\n' >f.c; printf 'static inline int g(int x) { return x + 1; }\n' >h.h`
	const cgoFiles = `cp $here/main.go $here/go.mod .; printf 'package main\n\n// int twice(int x) { return 2*x; }\nimport "C"\n\nfunc init() { println(C.twice(2)) }\n' >c.go`
	rust := func(a, b string) string {
		return fmt.Sprintf(`for d in %[1]s %[2]s; do printf '.section .rodata\n.ascii "/build/'$d'/src/main.rscalled Option::unwrap() on a None value/build/'$d'/src/lib.rsinternal error/rustc/0123456789abcdef/library/core/src/fmt/mod.rs"\n.text\n.globl f\nf: ret\n' >$d.s; as $d.s -o $d.o; done; mv %[1]s.o a/f; mv %[2]s.o b/f`, a, b)
	}
	for _, c := range []struct {
		name, script string
		needs        []string
		file         string
		format       filediff.Format
		want         []string
		explained    bool
		parts        []string // parts of which each must be there, as "kind name"
	}{
		{"a Go binary of two dates", goBuild("s", "s", `-trimpath -ldflags "-X main.built=2026-02-28T10:00:00Z"`, `-trimpath -ldflags "-X main.built=2026-03-07T11:30:00Z"`),
			[]string{"go"}, "f", filediff.ELF, []string{"date"}, true, nil},
		{"a Go binary of two directories", goBuild("one", "two", "", ""), []string{"go"}, "f", filediff.ELF, []string{"build-directory"}, false, []string{"section .gopclntab"}},
		{"a Go binary of directories of two lengths", goBuild("one", "another", "", ""), []string{"go"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"a Go binary of directories whose lengths differ by one", goBuild("one", "four", "", ""), []string{"go"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"a Go binary with C of directories of two lengths", inTwo("one", "another/deep", cgoFiles, "CGO_ENABLED=1 go build -buildvcs=false -o $out ."), []string{"go", "gcc"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"a C program of two directories", inTwo("one", "two", cFiles, "gcc -g -o $out f.c"), []string{"gcc"}, "f", filediff.ELF, []string{"build-directory"}, true, []string{"section .debug_line_str"}},
		{"a C program of directories of two lengths", inTwo("one", "another/deep", cFiles, "gcc -g -o $out f.c"), []string{"gcc"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"a C program, packed, of directories of two lengths", inTwo("one", "another/deep", cFiles, "gcc -g -gz -o $out f.c"), []string{"gcc"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"a C object of directories of two lengths", inTwo("one", "another/deep", cFiles, "gcc -g -c -o $out f.c"), []string{"gcc"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"another C program of a source of the same name", inTwo("one", "two", cFiles+`; [ $d = one ] || echo 'int h(int x) { return x; }' >>f.c`, "gcc -g -o $out f.c"), []string{"gcc"}, "f", filediff.ELF, nil, false, nil},
		{"a C program changed", inTwo("one", "two", cFiles+`; [ $d = one ] || sed -i 's/+ 1/+ 2/' h.h`, "gcc -g -fdebug-prefix-map=$PWD=/x -o $out f.c"), []string{"gcc"}, "f", filediff.ELF, nil, false, nil},
		{"texts as Rust has them, of two directories", rust("one", "two"), []string{"as"}, "f", filediff.ELF, []string{"build-directory"}, true, nil},
		{"texts as Rust has them, of directories of two lengths", rust("one", "another"), []string{"as"}, "f", filediff.ELF, []string{"build-directory"}, false, nil},
		{"another Go program", "mkdir s; cp main.go go.mod s; here=$PWD; cd s; export GOFLAGS=-buildvcs=false; go build -trimpath -o $here/a/f .; sed -i s/never/ever/ main.go; go build -trimpath -o $here/b/f .",
			[]string{"go"}, "f", filediff.ELF, nil, false, nil},
		{"a function changed", `echo 'int f(int x) { return x + 1; } int g(void) { return 3; }' >f.c; gcc -c f.c -o a/f; sed -i 's/+ 1/+ 2/' f.c; gcc -c f.c -o b/f`,
			[]string{"gcc"}, "f", filediff.ELF, nil, false, []string{"section .text", "symbol f"}},
		{"gcc's date", `echo 'const char *built(void) { return __DATE__ " " __TIME__; }' >f.c; SOURCE_DATE_EPOCH=1000000000 gcc -c f.c -o a/f; SOURCE_DATE_EPOCH=1100000000 gcc -c f.c -o b/f`,
			[]string{"gcc"}, "f", filediff.ELF, []string{"date"}, true, []string{"section .rodata"}},
		{"a gzip with a time", `seq 1000 >f; touch -d @1000000000 f; gzip -c f >a/f.gz; touch -d @1100000000 f; gzip -c f >b/f.gz`,
			[]string{"gzip"}, "f.gz", filediff.Gzip, []string{"date"}, true, []string{"field time in the header"}},
		{"a gzip of other levels", `seq 1000 >f; gzip -n -1c f >a/f.gz; gzip -n -9c f >b/f.gz`, []string{"gzip"}, "f.gz", filediff.Gzip, []string{"compression"}, true, nil},
		{"a gzip of another text", `seq 1000 | gzip -n >a/f.gz; seq 2 1001 | gzip -n >b/f.gz`, []string{"gzip"}, "f.gz", filediff.Gzip, nil, false, []string{"contents decompressed"}},
		{"compiled Python", `echo 'x = 1' >m.py; touch -d @1000000000 m.py; python3 -c 'import py_compile; py_compile.compile("m.py", "a/m.pyc", dfile="m.py")'
touch -d @1100000000 m.py; python3 -c 'import py_compile; py_compile.compile("m.py", "b/m.pyc", dfile="m.py")'`,
			[]string{"python3"}, "m.pyc", filediff.Pyc, []string{"date"}, true, []string{"field time of the source"}},
		{"compiled Python of another source", `echo 'x = 1' >m.py; touch -d @1000000000 m.py; python3 -c 'import py_compile; py_compile.compile("m.py", "a/m.pyc", dfile="m.py")'
echo 'x = 2' >m.py; touch -d @1000000000 m.py; python3 -c 'import py_compile; py_compile.compile("m.py", "b/m.pyc", dfile="m.py")'`,
			[]string{"python3"}, "m.pyc", filediff.Pyc, nil, false, []string{"contents code"}},
		{"compiled Python in two directories", `for d in one two; do mkdir $d; echo 'def f(): raise 1' >$d/m.py; touch -d @1000000000 $d/m.py; done
python3 -c 'import py_compile; py_compile.compile("one/m.py", "a/m.pyc", dfile="/tmp/one/m.py"); py_compile.compile("two/m.py", "b/m.pyc", dfile="/tmp/two/m.py")'`,
			[]string{"python3"}, "m.pyc", filediff.Pyc, []string{"build-directory"}, true, nil},
		{"a static library of two times", `echo 'int f(void) { return 1; }' >f.c; gcc -c f.c -o f.o; touch -d @1000000000 f.o; ar rcU a/l.a f.o 2>/dev/null; touch -d @1100000000 f.o; ar rcU b/l.a f.o`,
			[]string{"gcc", "ar"}, "l.a", filediff.Ar, []string{"date"}, true, []string{"member f.o"}},
		{"a static library in another order", `echo 1 >1.o; echo 2 >a_name_of_more_than_16_bytes.o; ar rcDS a/l.a 1.o a_name_of_more_than_16_bytes.o; ar rcDS b/l.a a_name_of_more_than_16_bytes.o 1.o`,
			[]string{"ar"}, "l.a", filediff.Ar, []string{"order"}, true, nil},
		{"a static library with another member", `echo 'int f(void) { return 1; }' >f.c; gcc -c f.c -o f.o; ar rcD a/l.a f.o; sed -i s/1/2/ f.c; gcc -c f.c -o f.o; ar rcD b/l.a f.o`,
			[]string{"gcc", "ar"}, "l.a", filediff.Ar, nil, false, []string{"member f.o"}},
		{"a script with one line changed", `printf '#!/bin/sh\nset -e\nexec /nix/store/x\n' >a/s; printf '#!/bin/sh\nset -e\nexec /tmp/evil\n' >b/s`, nil, "s", filediff.Text, nil, false, nil},
		{"a script that runs a file elsewhere", `printf '#!/bin/sh\n. /home/alice/x.sh\n' >a/s; printf '#!/bin/sh\n. /tmp/evil/x.sh\n' >b/s`, nil, "s", filediff.Text, nil, false, nil},
		{"settings that look like causes", `printf 'threads = 4\nmail = root@one\npath = /opt/a/b.conf\nx = 1700000000\n' >a/s; printf 'threads = 8\nmail = root@two\npath = /opt/c/b.conf\nx = 1800000000\n' >b/s`,
			nil, "s", filediff.Text, nil, false, nil},
		{"a library and a source that are taken from elsewhere", `printf 'LD_PRELOAD=/root/x.so\nExecStart=/home/alice/run.py\n' >a/s; printf 'LD_PRELOAD=/tmp/evil/x.so\nExecStart=/tmp/evil/run.py\n' >b/s`,
			nil, "s", filediff.Text, nil, false, nil},
		{"a machine that is named otherwise", `printf 'hostName=one\nGOMAXPROCS=4\n' >a/s; printf 'hostName=two\nGOMAXPROCS=8\n' >b/s`, nil, "s", filediff.Text, nil, false, nil},
		{"a text of two builds", `echo 'made of /build/one/x.c' >a/s; echo 'made of /nix/var/nix/builds/nix-2/one/x.c' >b/s`, nil, "s", filediff.Text, []string{"build-directory"}, true, nil},
		{"a day that there is not", `echo 2026-02-30 >a/s; echo 2026-02-31 >b/s`, nil, "s", filediff.Text, nil, false, nil},
		{"a date and a change", `printf 'on 2026-02-28\nx=1\n' >a/s; printf 'on 2026-03-01\nx=2\n' >b/s`, nil, "s", filediff.Text, []string{"date"}, false, nil},
		{"a date and a change in its line", `printf 'on 2026-02-28 x=1\n' >a/s; printf 'on 2026-03-01 x=2\n' >b/s`, nil, "s", filediff.Text, nil, false, nil},
		{"a host name, cores and a UUID", `printf 'buildhost: one\nNIX_BUILD_CORES=4\nid 6ba7b810-9dad-11d1-80b4-00c04fd430c8\n' >a/s; printf 'buildhost: another\nNIX_BUILD_CORES=16\nid 6ba7b811-9dad-11d1-80b4-00c04fd430c9\n' >b/s`,
			nil, "s", filediff.Text, []string{"core-count", "host-name", "random-id"}, true, nil},
		{"a kernel's banner", `printf 'x\0Linux version 6.12 (nixbld@one) (gcc 14) #1-NixOS SMP Sat Feb 28 10:00:00 UTC 2026\0' >a/s; printf 'x\0Linux version 6.12 (nixbld@two) (gcc 14) #1-NixOS SMP Sun Mar  1 10:00:00 UTC 2026\0' >b/s`,
			nil, "s", filediff.Binary, []string{"date", "host-name"}, true, nil},
		{"a dependency", `echo /nix/store/0c6v7h9zrrs1xwv7zq3rzbhbpzqgdn8l-bash/bin/sh >a/s; echo /nix/store/1c6v7h9zrrs1xwv7zq3rzbhbpzqgdn8l-bash/bin/sh >b/s`, nil, "s", filediff.Text, []string{"dependency"}, true, nil},
		{"lines in another order", `seq 9 >a/s; seq 9 | tac >b/s`, nil, "s", filediff.Text, []string{"order"}, true, nil},
		{"an ext4 image with another hash seed", `mkdir t; seq 100 >t/x; export E2FSPROGS_FAKE_TIME=1000000000
for s in a b; do mke2fs -q -t ext4 -U 6ba7b810-9dad-11d1-80b4-00c04fd430c8 -d t $s/i 2M; done`, []string{"mke2fs"}, "i", filediff.Ext4, []string{"random-id"}, true, []string{"field hash seed of directories"}},
		{"an ext4 image with a hash seed", `mkdir t; seq 100 >t/x; export E2FSPROGS_FAKE_TIME=1000000000; u=6ba7b810-9dad-11d1-80b4-00c04fd430c8
for s in a b; do mke2fs -q -t ext4 -U $u -E hash_seed=$u -d t $s/i 2M; seq 2 101 >t/x; done`, []string{"mke2fs"}, "i", filediff.Binary, nil, false, nil},
		{"a squashfs of two times", `mkdir t; seq 100 >t/x; touch -d @1000000000 t/x t; unset SOURCE_DATE_EPOCH; mksquashfs t a/q -quiet -no-progress -mkfs-time 1000000000 >/dev/null; mksquashfs t b/q -quiet -no-progress -mkfs-time 1100000000 >/dev/null`,
			[]string{"mksquashfs"}, "q", filediff.Squashfs, []string{"date"}, true, []string{"field time of the image"}},
		{"a squashfs with another file", `mkdir t; seq 100 >t/x; touch -d @1000000000 t/x t; unset SOURCE_DATE_EPOCH; mksquashfs t a/q -quiet -no-progress -mkfs-time 1 >/dev/null; seq 2 101 >t/x; touch -d @1000000000 t/x t; mksquashfs t b/q -quiet -no-progress -mkfs-time 1 >/dev/null`,
			[]string{"mksquashfs"}, "q", filediff.Squashfs, nil, false, []string{"member x"}},
		{"a tar of two times, owners and orders", `mkdir t; seq 9 >t/x; seq 8 >t/y; tar -cf a/t.tar --mtime=@1000000000 --owner=1 -C t x y; tar -cf b/t.tar --mtime=@1100000000 --owner=2 -C t y x`,
			nil, "t.tar", filediff.Tar, []string{"date", "order", "owner"}, true, nil},
		{"a tar in xz", `mkdir t; seq 9 >t/x; tar -cJf a/t.tar.xz --mtime=@1000000000 -C t x; echo >>t/x; tar -cJf b/t.tar.xz --mtime=@1000000000 -C t x`,
			[]string{"xz"}, "t.tar.xz", filediff.Packed, nil, false, []string{"contents decompressed"}},
		{"a zip of two times", `seq 99 >x; python3 -c '
import zipfile
for side, year in ("a", 2001), ("b", 2004):
    with zipfile.ZipFile(side + "/z.zip", "w") as z:
        i = zipfile.ZipInfo("x", (year, 1, 1, 0, 0, 0)); z.writestr(i, open("x").read())'`, []string{"python3"}, "z.zip", filediff.Zip, []string{"date"}, true, []string{"member x"}},
		{"two files that have nothing to do with each other", `head -c 5000 /bin/sh >a/f; tail -c 5000 /bin/ls >b/f`, nil, "f", filediff.Binary, nil, false, nil},
		{"two programs", `cp /bin/cat a/f; cp /bin/true b/f`, nil, "f", filediff.ELF, nil, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, data := range map[string]string{"main.go": program, "go.mod": "module example.org/f\n\ngo 1.26\n"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			shell(t, dir, c.script, c.needs...)
			r := compareFiles(t, dir, c.file)
			if r.Format != c.format || !slices.Equal(causes(r), c.want) || r.Explained != c.explained {
				t.Errorf("%s, %q, explained %v; want %s, %q, %v\n%s", r.Format, causes(r), r.Explained, c.format, c.want, c.explained, dump(r, ""))
			}
			for _, want := range c.parts {
				if !slices.ContainsFunc(r.Parts, func(p filediff.Part) bool { return p.Kind+" "+string(p.Name) == want }) {
					t.Errorf("no part %q\n%s", want, dump(r, ""))
				}
			}
		})
	}
}

// TestDiff: a text's diff has the line that changed.
func TestDiff(t *testing.T) {
	r, err := filediff.Compare(t.Context(), "s", []byte("a\nb\nc\n"), []byte("a\nB\nc\n"), filediff.Limits{})
	if err != nil || !strings.Contains(fmt.Sprint(r.Diff), "-b +B") {
		t.Errorf("%q, %v", r.Diff, err)
	}
}
