package compare_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/publisher/compare"
)

// builds makes two releases of one store, the second after change.
func builds(t *testing.T, change func(b *imagetest.Build)) (a, b *imagetest.Build) {
	t.Helper()
	a, b = imagetest.NewBuild(t, t.TempDir()), imagetest.NewBuild(t, t.TempDir())
	if change != nil {
		change(b)
	}
	a.Release(t)
	b.Release(t)
	return a, b
}

func dirs(t *testing.T, a, b string) *compare.Result {
	t.Helper()
	r, err := compare.Dirs(context.Background(), a, b, compare.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Logf("failed: %s %s: %v", f.Asset, f.Side, f.Detail)
	}
	return r
}

// lines are the differences of r, those that follow from others in brackets.
func lines(r *compare.Result) []string {
	var out []string
	for _, d := range r.Differences {
		s := fmt.Sprintf("%s: %s", d.Asset, d.Kind)
		if d.Path != "" {
			s += " " + d.Path.Name()
		}
		for _, in := range d.Inside {
			s += " " + string(in) + " ›"
		}
		if d.File != nil {
			s += " " + string(*d.File)
		}
		if d.Field != "" {
			s += " " + d.Field
		}
		if d.Bytes != nil && d.Path != "" {
			s += fmt.Sprintf(" (first %d, %d differ, %d/%d)", d.Bytes.First, d.Bytes.Count, d.Bytes.SizeA, d.Bytes.SizeB)
		}
		if d.Follows {
			s = "[" + s + "]"
		}
		out = append(out, s)
	}
	return out
}

func TestEqual(t *testing.T) {
	a, b := builds(t, nil)
	r := dirs(t, a.Out, b.Out)
	if r.Verdict() != compare.Equal || len(r.Compared) != 6 {
		t.Errorf("got %s over %q:\n%s", r.Verdict(), r.Compared, strings.Join(lines(r), "\n"))
	}
}

// TestPlanted: one byte in one file of one path. It is named, with its place.
func TestPlanted(t *testing.T) {
	a, b := builds(t, func(b *imagetest.Build) {
		imagetest.Shell(t, b.Store, "printf X | dd of="+imagetest.Program+"/share/data bs=1 seek=100000 conv=notrunc status=none")
	})
	r := dirs(t, a.Out, b.Out)
	if r.Verdict() != compare.Different || r.Primary() != 1 {
		t.Errorf("verdict %s, %d primary differences", r.Verdict(), r.Primary())
	}
	m, l, bundle, iso := "closure-"+imagetest.Configuration+".json", "closure-"+imagetest.Configuration+".files.json.zst", imagetest.Bundle, imagetest.ISOName
	want := []string{
		m + ": contents program-1",
		"[" + l + ": contents program-1 share/data (first 100000, 1 differ, 228894/228894)]",
		"[" + bundle + ": contents]",
		"[" + bundle + ": contents initrd]",
		"[" + bundle + ": contents initrd › nix/store/" + imagetest.StoreImage + "]",
		"[" + bundle + ": contents program-1 initrd › nix/store/" + imagetest.StoreImage + " › share/data (first 100000, 1 differ, 228894/228894)]",
		"[" + iso + ": contents]",
		"[" + iso + ": contents nix-store.squashfs]",
		"[" + iso + ": contents program-1 nix-store.squashfs › share/data (first 100000, 1 differ, 228894/228894)]",
		"[SHA256SUMS.txt: checksum " + m + "]",
		"[SHA256SUMS.txt: checksum " + l + "]",
		"[SHA256SUMS.txt: checksum " + bundle + "]",
		"[SHA256SUMS.txt: checksum " + iso + "]",
	}
	got := lines(r)
	// What Nix is to register follows from the path as well, but it is a file.
	got = slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "nix-path-registration") })
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestKinds plants one difference of each kind into otherwise equal releases.
func TestKinds(t *testing.T) {
	a, b := builds(t, nil)
	manifest := "closure-" + imagetest.Configuration + ".json"
	cases := []struct {
		name, script string // run in B's release
		verdict      compare.Verdict
		want         string // one of the lines
	}{
		{"a file too many", "echo x >extra.iso", compare.Different, "extra.iso: only-in-b"},
		{"a file missing", "rm " + imagetest.ISOName, compare.Different, imagetest.ISOName + ": only-in-a"},
		{"a false checksum", "sed -i '1s/^.\\{60\\}..../0000000000000000000000000000000000000000000000000000000000000000/' SHA256SUMS.txt", compare.Different, "SHA256SUMS.txt: false-checksum"},
		{"no checksums in B", "rm SHA256SUMS.txt", compare.Different, "SHA256SUMS.txt: only-in-a"},
		{"a manifest cut short", "truncate -s -5 " + manifest, compare.Different, manifest + ": contents"},
		{"an image cut short", "truncate -s -500 " + imagetest.Bundle, compare.Different, imagetest.Bundle + ": contents"},
		{"an image repacked", "zcat " + imagetest.Bundle + " | gzip -n -1 >x; mv x " + imagetest.Bundle, compare.Different, imagetest.Bundle + ": contents packing"},
		{"another mode in a tar", "mkdir x; tar -C x -xzf " + imagetest.Bundle + "; chmod 755 x/kernel; tar -C x --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --format=gnu -cf - initrd kernel netboot.ipxe | gzip -n >y; mv y " + imagetest.Bundle + "; rm -r x", compare.Different, imagetest.Bundle + ": metadata kernel"},
		{"another commit", `sed -i 's/"commit": ""/"commit": "0123456789abcdef0123456789abcdef01234567"/' release.json`, compare.Different, "release.json: field commit"},
		{"a signature", "echo x >SHA256SUMS.txt.sigstore.json", compare.Equal, ""},
		{"other times", `sed -i 's/"createdAt": ".*"/"createdAt": "2026-01-01T00:00:00Z"/' release.json; LC_ALL=C sha256sum -- *.zst c*json e* r* | sort -k2 >x; mv x SHA256SUMS.txt`, compare.Equal, ""},
		{"a pipe in the place of a file", "rm release.json; mkfifo release.json", compare.Inconclusive, ""},
		{"a pipe in the place of checksums", "rm SHA256SUMS.txt; mkfifo SHA256SUMS.txt", compare.Inconclusive, ""},
		{"an empty directory", "mkdir -p x/y", compare.Different, "x/y/: only-in-b"},
		{"a directory that a link leads to", "ln -s /etc dir", compare.Different, "dir: only-in-b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b")
			imagetest.Shell(t, b.Out, "cp -r . '"+dir+"'")
			imagetest.Shell(t, dir, c.script)
			r := dirs(t, a.Out, dir)
			got := lines(r)
			if r.Verdict() != c.verdict {
				t.Errorf("got %s, want %s", r.Verdict(), c.verdict)
			}
			if c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(strings.Trim(s, "[]"), c.want) }) {
				t.Errorf("no %q in\n%s", c.want, strings.Join(got, "\n"))
			}
			if c.verdict == compare.Equal && len(r.Notes) == 0 {
				t.Error("a note was to say what differs and is no difference")
			}
		})
	}
}

// TestManifests plants differences in what a manifest says.
func TestManifests(t *testing.T) {
	a, b := builds(t, nil)
	name := "closure-" + imagetest.Configuration + ".json"
	for script, want := range map[string]string{
		"sed -i 's/x86_64-linux/riscv64-linux/'":                                                              "field system",
		"sed -i 's/sha256-AQAA/sha256-AgAA/'":                                                                 "field source.narHash",
		"sed -i 's/nixos-system-ec.drv/nixos-system-ed.drv/'":                                                 "field toplevel.drvPath",
		`sed -i '0,/"deriver": null/s,"deriver": null,"deriver": "/nix/store/` + imagetest.Kernel + `.drv",'`: "field linux-6.12 deriver",
	} {
		dir := filepath.Join(t.TempDir(), "b")
		imagetest.Shell(t, b.Out, "cp -r . '"+dir+"'")
		imagetest.Shell(t, dir, script+" "+name)
		r, err := compare.Files(context.Background(), filepath.Join(a.Out, name), filepath.Join(dir, name), compare.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(r); len(got) != 1 || got[0] != name+": "+want {
			t.Errorf("%s: got %q, want %q (%v)", script, got, want, r.Failures)
		}
	}
	t.Run("a path", func(t *testing.T) {
		other := imagetest.NewBuild(t, t.TempDir())
		imagetest.Shell(t, other.Dir, "rm -r store/"+imagetest.Program+"/share/link; chmod -x store/"+imagetest.Program+"/bin/program; ln -sf elsewhere store/"+imagetest.Toplevel+"/sw; rm store/"+imagetest.Kernel+"/bzImage; mkdir store/"+imagetest.Kernel+"/bzImage")
		other.Manifest(t)
		first := imagetest.NewBuild(t, t.TempDir())
		first.Manifest(t)
		got := lines(dirs(t, first.Out, other.Out))
		for _, want := range []string{
			"contents linux-6.12", "contents program-1", "contents nixos-system-ec",
			"only-in-a program-1 share/link", "executable program-1 bin/program", "target nixos-system-ec sw", "type linux-6.12 bzImage",
		} {
			if !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(strings.Trim(s, "[]"), ": "+want) }) {
				t.Errorf("no %q in\n%s", want, strings.Join(got, "\n"))
			}
		}
	})
}

// TestLinksAndModes: a link is compared with a link, whatever it leads to, and the
// bits of a mode that a build sets are compared.
func TestLinksAndModes(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   []string
		notes  int
	}{
		"a link and a copy of what it leads to": {"ln -s /etc/passwd a/l; cp /etc/passwd b/l", []string{"l: type"}, 0},
		"a copy and a link":                     {"ln -s /etc/passwd b/l; cp /etc/passwd a/l", []string{"l: type"}, 0},
		"other targets, the same bytes":         {"echo x >a/1; cp a/1 a/2; cp a/1 a/2 b; ln -s 1 a/l; ln -s 2 b/l", []string{"l: target"}, 0},
		"the same target":                       {"ln -s /none a/l; ln -s /none b/l", nil, 0},
		"a link to a directory":                 {"mkdir a/d; echo x >a/d/x; cp -r a/d b; ln -s d a/l; mkdir b/l; cp b/d/x b/l", []string{"l: only-in-a", "l/x: only-in-b"}, 0},
		"an executable bit":                     {"echo x >a/x; cp a/x b; chmod 755 a/x", []string{"x: metadata"}, 0},
		"an executable bit and other bytes":     {"echo x >a/x; echo y >b/x; chmod 755 a/x", []string{"x: contents", "x: metadata"}, 0},
		"a set-user-ID bit":                     {"echo x >a/x; chmod 755 a/x; cp a/x b; chmod 4755 a/x", []string{"x: metadata"}, 0},
		"a sticky directory":                    {"mkdir a/d b/d; touch a/d/x b/d/x; chmod 1755 a/d", []string{"d/: metadata"}, 0},
		"what a umask sets":                     {"echo x >a/x; cp a/x b; chmod 600 a/x; chmod 444 b/x", nil, 1},
		"an empty directory and its file":       {"mkdir a/d b/d; touch a/d/x", []string{"d/x: only-in-a"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			imagetest.Shell(t, dir, "umask 022; mkdir a b; echo x >a/same; cp a/same b; "+c.script)
			r := dirs(t, filepath.Join(dir, "a"), filepath.Join(dir, "b"))
			if got := lines(r); !slices.Equal(got, c.want) || len(r.Failures) > 0 || len(r.Notes) != c.notes {
				t.Errorf("got %q, want %q; notes %q", got, c.want, r.Notes)
			}
		})
	}
	t.Run("what checksums say of a link", func(t *testing.T) {
		a, b := builds(t, nil)
		imagetest.Shell(t, b.Out, "mv release.json ../moved; ln -s ../moved release.json")
		imagetest.Shell(t, a.Out, "mv release.json ../moved; ln -s ../moved release.json")
		r, err := compare.Dirs(t.Context(), a.Out, b.Out, compare.Options{Releases: true})
		if err != nil || r.Verdict() == compare.Equal {
			t.Errorf("%v; equal, though release.json is a link", err)
		}
	})
	t.Run("files", func(t *testing.T) {
		dir := t.TempDir()
		imagetest.Shell(t, dir, "echo x >a; cp a b; chmod +x a")
		r, err := compare.Files(t.Context(), filepath.Join(dir, "a"), filepath.Join(dir, "b"), compare.Options{})
		if err != nil || !slices.Equal(lines(r), []string{"a: metadata"}) {
			t.Errorf("%q, %v", lines(r), err)
		}
	})
}

// TestMissingOnBothSides: what both sides say that there is, and neither has, is
// not the same.
func TestMissingOnBothSides(t *testing.T) {
	a, b := builds(t, nil)
	for name, c := range map[string]struct{ script, want string }{
		"an image":   {"rm " + imagetest.ISOName, imagetest.ISOName + ": SHA256SUMS.txt lists it"},
		"a manifest": {"rm closure-*.json; sed -i '/closure-.*json$/d' SHA256SUMS.txt", "closure-" + imagetest.Configuration + ".json: release.json lists it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			imagetest.Shell(t, dir, "cp -r '"+a.Out+"' a; cp -r '"+b.Out+"' b; (cd a; "+c.script+"); (cd b; "+c.script+")")
			r := dirs(t, filepath.Join(dir, "a"), filepath.Join(dir, "b"))
			if r.Verdict() != compare.Inconclusive || len(r.Failures) != 1 {
				t.Fatalf("%s, failures %v, %q", r.Verdict(), r.Failures, lines(r))
			}
			if f := r.Failures[0]; !strings.HasPrefix(string(f.Asset)+": "+f.Detail, c.want) {
				t.Errorf("%s: %v", f.Asset, f.Detail)
			}
		})
	}
}

// TestSame: a build compared with itself shows nothing.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	imagetest.Shell(t, dir, "mkdir a; echo x >a/x; ln -s a b; ln a/x y")
	path := func(name string) string { return filepath.Join(dir, name) }
	if _, err := compare.Dirs(t.Context(), path("a"), path("b"), compare.Options{}); !errors.Is(err, compare.ErrSame) {
		t.Errorf("directories: %v", err)
	}
	if _, err := compare.Files(t.Context(), path("a/x"), path("y"), compare.Options{}); !errors.Is(err, compare.ErrSame) {
		t.Errorf("files: %v", err)
	}
}

// TestNothing: what compared nothing found nothing equal.
func TestNothing(t *testing.T) {
	if r := dirs(t, t.TempDir(), t.TempDir()); r.Verdict() != compare.Inconclusive {
		t.Errorf("two empty directories: %s", r.Verdict())
	}
	if _, err := compare.Dirs(context.Background(), t.TempDir(), filepath.Join(t.TempDir(), "none"), compare.Options{}); err == nil {
		t.Error("a directory that is not there was compared")
	}
}

// TestBytes compares files of all lengths about the size of a read.
func TestBytes(t *testing.T) {
	dir := t.TempDir()
	base := strings.Repeat("0123456789abcdef", 40<<10) // 640 KiB
	for _, c := range []struct {
		a, b         string
		first, count int64
	}{
		{"", "x", 0, 1},
		{"x", "", 0, 1},
		{"abc", "abd", 2, 1},
		{"abc", "abcdef", 3, 3},
		{base, base + "y", int64(len(base)), 1},
		{base[:256<<10], base, 256 << 10, int64(len(base)) - 256<<10},
		{base, "X" + base[1:len(base)-1] + "Y", 0, 2},
		{base + "tail", base[:300<<10] + "?" + base[300<<10+1:], 300 << 10, 5},
	} {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		os.WriteFile(a, []byte(c.a), 0o644)
		os.WriteFile(b, []byte(c.b), 0o644)
		r, err := compare.Files(context.Background(), a, b, compare.Options{})
		if err != nil || len(r.Differences) != 1 {
			t.Fatal(err, lines(r))
		}
		got := r.Differences[0].Bytes
		if got.First != c.first || got.Count != c.count || got.SizeA != int64(len(c.a)) || got.SizeB != int64(len(c.b)) {
			t.Errorf("%d and %d bytes: got %+v, want first %d, count %d", len(c.a), len(c.b), *got, c.first, c.count)
		}
	}
}
