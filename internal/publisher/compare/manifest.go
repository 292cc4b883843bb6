package compare

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

func joined(s []string) string { return strings.Join(s, " ") }

// manifests compares two manifests path by path.
func (c *comparison) manifests(p pair) {
	a, b, ok := decoded(c, p, closure.DecodeManifest)
	if !ok {
		return
	}
	f := c.r.in(p.name)
	f.field("", "configuration", a.Configuration, b.Configuration)
	f.field("", "system", a.System, b.System)
	f.field("", "storeDir", string(a.StoreDir), string(b.StoreDir))
	f.field("", "source.lockNarHash", a.Source.LockNarHash.String(), b.Source.LockNarHash.String())
	f.field("", "source.narHash", a.Source.NarHash.String(), b.Source.NarHash.String())
	f.field("", "toplevel.drvPath", string(a.Toplevel.DrvPath), string(b.Toplevel.DrvPath))
	f.field("", "toplevel.outPath", string(a.Toplevel.OutPath), string(b.Toplevel.OutPath))
	inA, inB := a.Closure(), b.Closure()
	defer func() {
		if f.n == 0 { // what is not compared above
			f.add(p.contents())
		}
	}()
	for _, want := range a.Paths {
		got, ok := inB[want.Path]
		if !ok {
			f.add(Difference{Kind: OnlyA, Path: want.Path})
			continue
		}
		if want.NarHash != got.NarHash || want.NarSize != got.NarSize {
			f.add(Difference{Kind: Contents, Path: want.Path, A: narSum(want), B: narSum(got)})
		}
		f.field(want.Path, "references", paths(want.References), paths(got.References))
		f.field(want.Path, "deriver", string(want.Deriver), string(got.Deriver))
		f.field(want.Path, "ca", want.CA, got.CA)
	}
	for _, got := range b.Paths {
		if _, ok := inA[got.Path]; !ok {
			f.add(Difference{Kind: OnlyB, Path: got.Path})
		}
	}
	f.field("", "unreproducible", unreproducible(a), unreproducible(b))
}

func narSum(i closure.PathInfo) excerpt.Raw {
	return excerpt.Raw(fmt.Sprintf("%s, a NAR of %d bytes", i.NarHash, i.NarSize))
}

func paths(list []closure.StorePath) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = p.Base()
	}
	return joined(parts)
}

func unreproducible(m *closure.Manifest) string {
	parts := make([]string, len(m.Unreproducible))
	for i, u := range m.Unreproducible {
		parts[i] = u.DrvPath.Base() + "^" + strings.Join(u.Outputs, ",")
	}
	return joined(parts)
}

// listings compares two listings and reads each once.
func (c *comparison) listings(ctx context.Context, p pair, configuration string) {
	f := c.r.in(p.name)
	every := func(closure.StorePath) bool { return true }
	section := func(r io.ReaderAt) io.Reader { return io.NewSectionReader(r, 0, release.MaxListingSize+1) }
	nextA, stopA := iter.Pull2(closure.ReadListing(section(p.a), configuration, every))
	defer stopA()
	nextB, stopB := iter.Pull2(closure.ReadListing(section(p.b), configuration, every))
	defer stopB()
	before := f.n
	a, errA, moreA := nextA()
	b, errB, moreB := nextB()
	for (moreA || moreB) && errA == nil && errB == nil && ctx.Err() == nil {
		switch {
		case !moreB || moreA && a.Path < b.Path:
			f.add(Difference{Kind: OnlyA, Path: a.Path})
			a, errA, moreA = nextA()
			continue
		case !moreA || b.Path < a.Path:
			f.add(Difference{Kind: OnlyB, Path: b.Path})
			b, errB, moreB = nextB()
			continue
		}
		for _, change := range closure.CompareFiles(a.Files, b.Files) {
			f.add(fileDifference(a.Path, change))
		}
		a, errA, moreA = nextA()
		b, errB, moreB = nextB()
	}
	if errA != nil {
		c.r.fail(p.name, "A", errA)
	}
	if errB != nil {
		c.r.fail(p.name, "B", errB)
	}
	if f.n == before {
		// They have the same contents in other bytes, or can't be read.
		f.add(p.contents())
	}
}

func fileDifference(path closure.StorePath, change closure.FileChange) Difference {
	d := Difference{Path: path, File: &change.Path, A: describe(change.Want), B: describe(change.Got)}
	switch change.Kind {
	case closure.FileAdded:
		d.Kind, d.A = OnlyB, ""
	case closure.FileRemoved:
		d.Kind, d.B = OnlyA, ""
	case closure.FileExecutable:
		d.Kind = Executable
	case closure.FileTarget:
		d.Kind = Target
	case closure.FileType:
		d.Kind = Type
	default:
		d.Kind = Contents
	}
	return d
}

// describe describes a file of a store path.
func describe(e nar.Entry) excerpt.Raw {
	switch e.Type {
	case nar.Regular:
		what := "file"
		if e.Executable {
			what = "executable file"
		}
		return excerpt.Raw(fmt.Sprintf("%s of %d bytes, %s", what, e.Size, e.SHA256))
	case nar.Symlink:
		return excerpt.Raw("link to " + clip(e.Target))
	case nar.Directory:
		return "directory"
	}
	return "neither file, link nor directory"
}

// clip shortens a value for people.
func clip(s string) string { return excerpt.Of(s, 400) }

// derivations finds the derivations that differ by themselves in two graphs.
func (c *comparison) derivations(p pair, configuration string) {
	f := c.r.in(p.name)
	contents := p.contents()
	a, b, err := graphs(p, configuration)
	if err != nil {
		f.add(contents)
		c.r.fail(p.name, "", err)
		return
	}
	list, _ := drvdiff.Compare(a.graph, b.graph, a.root, b.root)
	for _, d := range list {
		f.add(Difference{Kind: Derivation, Path: d.Want, Field: d.Field, A: excerpt.Raw(d.WantValue), B: excerpt.Raw(d.GotValue)})
	}
	if len(list) == 0 {
		f.add(contents)
	}
}

// graph is one side's derivations, from the toplevel in its manifest.
type graph struct {
	graph nixstore.Graph
	root  closure.StorePath
}

func graphs(p pair, configuration string) (a, b graph, err error) {
	if a, err = readGraph(p.a, configuration); err != nil {
		return a, b, fmt.Errorf("of A: %w", err)
	}
	if b, err = readGraph(p.b, configuration); err != nil {
		return a, b, fmt.Errorf("of B: %w", err)
	}
	return a, b, nil
}

func readGraph(f *os.File, configuration string) (graph, error) {
	manifest, err := readAsset(filepath.Dir(f.Name()), release.ManifestName(configuration), closure.DecodeManifest)
	if err != nil {
		return graph{}, fmt.Errorf("the manifest that names the first derivation: %w", err)
	}
	g, err := drvdiff.Read(io.NewSectionReader(f, 0, release.MaxDerivationsSize), configuration, manifest.Toplevel.DrvPath)
	return graph{g, manifest.Toplevel.DrvPath}, err
}
