package closure

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/pkg/nar"
)

func TestCompareClaim(t *testing.T) {
	want := PathInfo{
		Path: lib, NarHash: hashOf("lib"), NarSize: 112, References: []StorePath{data, lib},
		Deriver: object("f", "lib.drv"), CA: "text:sha256:x",
	}
	altered := func(field, want, got string) Difference {
		return Difference{Path: lib, Cause: DatabaseAltered, Field: field, Want: want, Got: got}
	}
	for _, tc := range []struct {
		name string
		edit func(claimed *PathInfo)
		want []Difference
	}{
		{"the same", func(*PathInfo) {}, nil},
		{"hash is not looked at", func(c *PathInfo) { c.NarHash = hashOf("other") }, nil},
		{"another deriver", func(c *PathInfo) { c.Deriver = drv }, nil},
		{"no deriver", func(c *PathInfo) { c.Deriver = "" }, nil},
		{"size not known", func(c *PathInfo) { c.NarSize = 0 }, nil},
		{"size", func(c *PathInfo) { c.NarSize = 120 }, []Difference{altered("narSize", "112", "120")}},
		{"no content address", func(c *PathInfo) { c.CA = "" }, nil},
		{"content address", func(c *PathInfo) { c.CA = "text:sha256:y" }, []Difference{altered("ca", "text:sha256:x", "text:sha256:y")}},
		{"reference lost", func(c *PathInfo) { c.References = []StorePath{lib} }, []Difference{altered("references", string(data), "")}},
		{"reference to itself lost", func(c *PathInfo) { c.References = []StorePath{data} }, []Difference{altered("references", string(lib), "")}},
		{"reference added", func(c *PathInfo) { c.References = []StorePath{data, lib, top} }, []Difference{altered("references", "", string(top))}},
		{"reference replaced", func(c *PathInfo) { c.References = []StorePath{lib, top} }, []Difference{altered("references", string(data), string(top))}},
		{"references in another order", func(c *PathInfo) { slices.Reverse(c.References) }, nil},
		{"everything", func(c *PathInfo) { *c = PathInfo{NarSize: 8, CA: "x"} }, []Difference{
			altered("narSize", "112", "8"), altered("ca", "text:sha256:x", "x"), altered("references", string(data)+" "+string(lib), ""),
		}},
	} {
		claimed := want
		claimed.References = slices.Clone(want.References)
		tc.edit(&claimed)
		if diff := cmp.Diff(tc.want, CompareClaim(want, claimed)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	// Where the manifest has no content address, a database must not have one.
	input, claimed := want, want
	input.CA = ""
	if diff := cmp.Diff([]Difference{altered("ca", "none", "text:sha256:x")}, CompareClaim(input, claimed)); diff != "" {
		t.Errorf("content address added (-want +got):\n%s", diff)
	}
}

// A database may claim any number of references; the difference stays short.
func TestCompareClaimNamesFewReferences(t *testing.T) {
	claimed := PathInfo{Path: lib}
	for i := range 100_000 {
		claimed.References = append(claimed.References, object("a", fmt.Sprintf("%06d", i)))
	}
	differences := CompareClaim(PathInfo{Path: lib}, claimed)
	if len(differences) != 1 {
		t.Fatalf("got %d differences, want 1", len(differences))
	}
	got := differences[0].Got
	if !strings.HasPrefix(got, string(claimed.References[0])+" ") || !strings.HasSuffix(got, " and 99980 more") || len(got) > 10_000 {
		t.Errorf("got %.100q… of %d bytes, want the first few and how many more", got, len(got))
	}
}

func TestCompareFiles(t *testing.T) {
	var (
		root  = nar.Entry{Type: nar.Directory}
		dir   = nar.Entry{Path: "x", Type: nar.Directory}
		file  = nar.Entry{Path: "x", Type: nar.Regular, Size: 3, SHA256: hashOf("abc")}
		other = nar.Entry{Path: "x", Type: nar.Regular, Size: 3, SHA256: hashOf("abd")}
		grown = nar.Entry{Path: "x", Type: nar.Regular, Size: 4, SHA256: hashOf("abcd")}
		tool  = nar.Entry{Path: "x", Type: nar.Regular, Size: 3, SHA256: hashOf("abc"), Executable: true}
		trick = nar.Entry{Path: "x", Type: nar.Regular, Size: 3, SHA256: hashOf("abd"), Executable: true}
		link  = nar.Entry{Path: "x", Type: nar.Symlink, Target: "a"}
		stray = nar.Entry{Path: "x", Type: nar.Symlink, Target: "b"}
	)
	for _, tc := range []struct {
		want, got nar.Entry // one of them may be no entry
		kind      ChangeKind
	}{
		{file, file, ""}, {dir, dir, ""}, {link, link, ""}, {tool, tool, ""},
		{file, nar.Entry{}, FileRemoved}, {dir, nar.Entry{}, FileRemoved}, {link, nar.Entry{}, FileRemoved},
		{nar.Entry{}, file, FileAdded}, {nar.Entry{}, dir, FileAdded}, {nar.Entry{}, link, FileAdded},
		{file, other, FileContent}, {file, grown, FileContent}, {file, trick, FileContent},
		{file, tool, FileExecutable}, {tool, file, FileExecutable},
		{link, stray, FileTarget},
		{file, link, FileType}, {link, file, FileType}, {file, dir, FileType}, {dir, file, FileType},
		{link, dir, FileType}, {dir, link, FileType},
	} {
		want, got := []nar.Entry{root}, []nar.Entry{root}
		if tc.want.Type != 0 {
			want = append(want, tc.want)
		}
		if tc.got.Type != 0 {
			got = append(got, tc.got)
		}
		var changes []FileChange
		if tc.kind != "" {
			changes = []FileChange{{Path: "x", Kind: tc.kind, Want: tc.want, Got: tc.got}}
		}
		if diff := cmp.Diff(changes, CompareFiles(want, got)); diff != "" {
			t.Errorf("%+v, %+v (-want +got):\n%s", tc.want, tc.got, diff)
		}
	}
}

func TestCompareFilesInOrder(t *testing.T) {
	entries := func(names ...string) []nar.Entry {
		out := []nar.Entry{{Type: nar.Directory}}
		for _, n := range names {
			out = append(out, nar.Entry{Path: n, Type: nar.Directory})
		}
		return out
	}
	var got []string
	for _, c := range CompareFiles(entries("b", "caf\xe9", "d"), entries("a", "b", "b/x", "e", "f")) {
		got = append(got, string(c.Kind)+" "+string(c.Path))
	}
	want := []string{"added a", "added b/x", "removed caf\xe9", "removed d", "added e", "added f"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The root itself may be what changed.
	root := CompareFiles([]nar.Entry{{Type: nar.Symlink, Target: "x"}}, entries())
	if len(root) != 1 || root[0].Path != "" || root[0].Kind != FileType {
		t.Errorf("a root of another type: got %+v", root)
	}
}
