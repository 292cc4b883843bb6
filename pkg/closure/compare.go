package closure

import (
	"cmp"
	"fmt"
	"slices"

	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// Difference is one difference between the database's claim about a store path and
// the manifest. Want and Got are for people.
type Difference struct {
	Path  StorePath
	Cause Cause
	Field string // "narSize", "references" or "ca"; empty for the path as a whole
	// For references, Want lists those that the claim lacks and Got those that it
	// adds.
	Want string
	Got  string
}

// CompareClaim returns the differences between a manifest's and a database's data on
// a path, except for the hash (see [Witnesses.Causes]). A deriver is never a
// difference, because several derivations may have the same output. Neither is a
// content address missing from the database, because images register paths without
// one.
func CompareClaim(want, claimed PathInfo) []Difference {
	var out []Difference
	add := func(field, want_, got string) {
		out = append(out, Difference{Path: want.Path, Cause: DatabaseAltered, Field: field, Want: want_, Got: got})
	}
	// Nix writes 0 for an unknown size.
	if claimed.NarSize != 0 && claimed.NarSize != want.NarSize {
		add("narSize", fmt.Sprint(want.NarSize), fmt.Sprint(claimed.NarSize))
	}
	if claimed.CA != "" && claimed.CA != want.CA {
		add("ca", orNone(want.CA), claimed.CA)
	}
	if !slices.Equal(want.References, claimed.References) { // they mostly are
		lost, added := subtract(want.References, claimed.References), subtract(claimed.References, want.References)
		if len(lost)+len(added) > 0 {
			add("references", excerpt.List(lost, " ", maxNamed), excerpt.List(added, " ", maxNamed))
		}
	}
	return out
}

// FileChange is one file that differs between a store path and its listing. Path is
// relative to the store path; "" is its root.
type FileChange struct {
	Path excerpt.Raw `json:"name"`
	Kind ChangeKind  `json:"change"`
	Want nar.Entry   `json:"-"` // zero where Kind is FileAdded
	Got  nar.Entry   `json:"-"` // zero where Kind is FileRemoved
}

// ChangeKind is the kind of a file's difference, a stable word.
type ChangeKind string

// The kinds of file differences that a NAR shows.
const (
	FileAdded      ChangeKind = "added"
	FileRemoved    ChangeKind = "removed"
	FileContent    ChangeKind = "content"    // other bytes
	FileExecutable ChangeKind = "executable" // the same bytes, another executable bit
	FileTarget     ChangeKind = "target"     // a symlink leads elsewhere
	FileType       ChangeKind = "type"       // e.g. a regular file became a symlink
)

// CompareFiles returns the files that differ between got and want, in the order of
// their names. Both are listings of one store path in the order of a [nar.Hasher].
func CompareFiles(want, got []nar.Entry) []FileChange {
	gotByName := make(map[string]nar.Entry, len(got))
	for _, e := range got {
		gotByName[e.Path] = e
	}
	var out []FileChange
	for _, w := range want {
		g, ok := gotByName[w.Path]
		delete(gotByName, w.Path)
		if kind, differs := compareFile(w, g, ok); differs {
			out = append(out, FileChange{Path: excerpt.Raw(w.Path), Kind: kind, Want: w, Got: g})
		}
	}
	for _, g := range gotByName {
		out = append(out, FileChange{Path: excerpt.Raw(g.Path), Kind: FileAdded, Got: g})
	}
	slices.SortFunc(out, func(a, b FileChange) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

func compareFile(want, got nar.Entry, present bool) (ChangeKind, bool) {
	switch {
	case !present:
		return FileRemoved, true
	case want.Type != got.Type:
		return FileType, true
	case want.Target != got.Target:
		return FileTarget, true
	case want.SHA256 != got.SHA256 || want.Size != got.Size:
		return FileContent, true
	case want.Executable != got.Executable:
		return FileExecutable, true
	}
	return "", false
}

// subtract returns the paths of a that b lacks.
func subtract(a, b []StorePath) []StorePath {
	has := make(map[StorePath]bool, len(b))
	for _, p := range b {
		has[p] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(p StorePath) bool { return has[p] })
}

// maxNamed limits the references named in one difference: a database may claim a
// hundred thousand for each path.
const maxNamed = 20

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
