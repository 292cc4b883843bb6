package explain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/filediff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// Explainer has the sources of an explanation.
type Explainer struct {
	// Store is the store under examination.
	Store *nixstore.Store
	// Original is another store that may have the original; nil for none.
	Original *nixstore.Store
	// Release is what the machine should be, Configuration the name of its system there.
	Release       *release.Release
	Configuration string
	// Limits limits the comparison of one file; zero values mean filediff's own.
	Limits filediff.Limits
	// Diffoscope compares the files as well; nil for no.
	Diffoscope *Diffoscope
}

// State says how a path compares with the release.
type State string

// The states.
const (
	Same       State = "same"       // the release's bytes
	Different  State = "different"  // other bytes
	Absent     State = "absent"     // nothing is there
	Unreadable State = "unreadable" // it could not be read; nothing is known of it
	Foreign    State = "foreign"    // the release does not have the path
)

// Tree is the path of one side, as it was read.
type Tree struct {
	State State
	Sum   nar.Sum
	Why   string // of Unreadable
}

// Explanation is what is known of one path.
type Explanation struct {
	Path closure.StorePath `json:"path"`
	// File is the requested file in Path; "" for all.
	File excerpt.Raw `json:"file,omitzero"`
	// Want is the release's data on the path; its Path is "" if the release lacks it.
	Want closure.PathInfo `json:"-"`
	Disk Tree             `json:"-"`
	// Original is the zero value without another store.
	Original Tree `json:"-"`
	// OfOriginal means that the path is the release's and the original is not: Files are
	// those in which the original differs.
	OfOriginal bool `json:"-"`
	// Chain leads from the toplevel to Path by references.
	Chain  []closure.StorePath `json:"chain"`
	Origin Origin              `json:"origin"`
	Files  []File              `json:"files"`
	// MoreFiles counts the differing files that Files leaves out.
	MoreFiles int `json:"moreFiles"`
	// Notes say what is unknown, and why.
	Notes []string `json:"notes"`
}

// File is one file that differs.
type File struct {
	closure.FileChange
	// Want and Got describe both sides for people.
	Want string `json:"want"`
	Got  string `json:"got"`
	// Within is what differs in it; nil if there was nothing to compare it with.
	Within *filediff.Result `json:"within,omitzero"`
	// Diffoscope is the output of [Diffoscope] about it; nil if it was not run.
	Diffoscope *excerpt.Raw `json:"diffoscope,omitzero"`
}

// maxCompared limits how many files of a path are compared by their bytes.
const maxCompared = 20

// maxHeld limits how many files of a path are kept for the comparison.
const maxHeld = 1 << 20

// Explain explains one path. The error is one of the release, or of ctx; anything else
// that is unknown is in Notes.
func (x *Explainer) Explain(ctx context.Context, path closure.StorePath, file string) (*Explanation, error) {
	manifest, err := x.Release.Manifest(ctx, x.Configuration)
	if err != nil {
		return nil, err
	}
	e := &Explanation{Path: path, File: excerpt.Raw(file), Want: manifest.Closure()[path]}
	e.Chain = chain(manifest, path)
	if err := x.origin(ctx, e, manifest); err != nil {
		return nil, err
	}
	var got []nar.Entry
	if e.Disk, got, err = look(ctx, x.Store, e.Want, path); err != nil {
		return nil, err
	}
	want, from, err := x.wanted(ctx, e)
	if err != nil {
		return nil, err
	}
	to := x.Store
	switch {
	case e.Disk.State == Same && e.Original.State == Different:
		// The other build differs from the path, not the path from the release.
		e.OfOriginal = true
		want, from, got, to = got, x.Store, want, x.Original
	case e.Disk.State != Different && e.Disk.State != Foreign, want == nil:
		return e, nil
	}
	c := closure.NewFileComparison(want)
	for _, entry := range got {
		c.Add(entry)
	}
	changes, more := c.End()
	e.MoreFiles = more
	for _, change := range changes {
		if name := string(change.Path); file == "" || name == file || strings.HasPrefix(name, file+"/") {
			e.Files = append(e.Files, File{FileChange: change, Want: report.Describe(change.Want), Got: report.Describe(change.Got)})
		}
	}
	if from != nil {
		return e, x.compareBytes(ctx, e, from, to)
	}
	return e, nil
}

// look reads a path and lists its files.
func look(ctx context.Context, store *nixstore.Store, want closure.PathInfo, path closure.StorePath) (Tree, []nar.Entry, error) {
	if there, err := store.Exists(path); err == nil && !there {
		return Tree{State: Absent}, nil, nil
	}
	var entries []nar.Entry
	h := nar.NewHasher(nar.Options{MaxSize: largest(want), OnEntry: func(entry nar.Entry) error {
		if len(entries) == maxHeld {
			return fmt.Errorf("it has more than %d files", maxHeld)
		}
		entries = append(entries, entry)
		return nil
	}})
	sum, unread := h.Sum(ctx, store.File(), path.Base())
	switch {
	case ctx.Err() != nil:
		return Tree{}, nil, ctx.Err()
	case unread != nil:
		return Tree{State: Unreadable, Why: unread.Error()}, nil, nil //nolint:nilerr // which is the answer
	case want.Path == "":
		return Tree{State: Foreign, Sum: sum}, entries, nil
	case sum.Hash == want.NarHash:
		return Tree{State: Same, Sum: sum}, entries, nil
	}
	return Tree{State: Different, Sum: sum}, entries, nil
}

// largest returns how much of a path is read in all: whoever altered it may have made it
// endless.
func largest(want closure.PathInfo) int64 {
	const atLeast = 1 << 30
	return want.NarSize + max(want.NarSize, atLeast)
}

// wanted returns the files that the path should have, and the store that has their bytes;
// nil if there is none.
func (x *Explainer) wanted(ctx context.Context, e *Explanation) ([]nar.Entry, *nixstore.Store, error) {
	var original []nar.Entry
	if x.Original != nil {
		var err error
		if e.Original, original, err = look(ctx, x.Original, e.Want, e.Path); err != nil {
			return nil, nil, err
		}
		if e.Original.State == Same || e.Disk.State == Same {
			return original, x.Original, nil
		}
	}
	var listed []nar.Entry
	if e.Want.Path != "" {
		for files, err := range x.Release.Files(ctx, x.Configuration, func(p closure.StorePath) bool { return p == e.Path }) {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			if errors.As(err, new(*release.UntrustedError)) {
				return nil, nil, err
			}
			if err != nil {
				e.Notes = append(e.Notes, "the release's listing can't be read: "+err.Error())
				listed = nil
				break
			}
			listed = files.Files
		}
	}
	if listed != nil {
		return listed, nil, nil
	}
	// A comparison with something other than the release's path, which Original says, is
	// better than none.
	return original, x.Original, nil
}

// compareBytes compares the files in from whose contents differ with those in to.
func (x *Explainer) compareBytes(ctx context.Context, e *Explanation, from, to *nixstore.Store) error {
	compared := 0
	for i := range e.Files {
		f := &e.Files[i]
		if f.Kind != closure.FileContent || compared == maxCompared {
			continue
		}
		compared++
		want, err := read(from, e.Path, f.FileChange.Want)
		var got []byte
		if err == nil {
			got, err = read(to, e.Path, f.FileChange.Got)
		}
		if err != nil {
			e.Notes = append(e.Notes, err.Error())
			continue
		}
		if f.Within, err = filediff.Compare(ctx, string(f.Path), want, got, x.Limits); err != nil {
			return err
		}
		if x.Diffoscope == nil {
			continue
		}
		said, err := x.Diffoscope.compare(ctx, want, got, string(f.Path))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.Notes = append(e.Notes, "diffoscope: "+err.Error())
		}
		f.Diffoscope = new(excerpt.Raw(said))
	}
	return nil
}

// read returns a file that was listed before, if it is unchanged.
func read(store *nixstore.Store, path closure.StorePath, entry nar.Entry) ([]byte, error) {
	data, err := store.ReadFile(path, entry.Path, filediff.MaxSize)
	if err != nil {
		return nil, err
	}
	if contentHash(data) != entry.SHA256 {
		return nil, &fs.PathError{Op: "read", Path: string(path) + "/" + entry.Path, Err: nar.ErrChanged}
	}
	return data, nil
}

// chain returns the shortest chain of references from the toplevel to path.
func chain(m *closure.Manifest, path closure.StorePath) []closure.StorePath {
	paths := m.Closure()
	from := map[closure.StorePath]closure.StorePath{m.Toplevel.OutPath: ""}
	for todo := []closure.StorePath{m.Toplevel.OutPath}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		if at == path {
			var list []closure.StorePath
			for ; at != ""; at = from[at] {
				list = append([]closure.StorePath{at}, list...)
			}
			return list
		}
		for _, next := range paths[at].References {
			if _, seen := from[next]; !seen {
				from[next] = at
				todo = append(todo, next)
			}
		}
	}
	return nil
}

// asset reads an asset of the release completely.
func (x *Explainer) asset(ctx context.Context, name string, read func(io.Reader) error) error {
	r, err := x.Release.Asset(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	return read(r)
}
