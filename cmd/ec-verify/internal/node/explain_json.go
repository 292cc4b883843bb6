package node

import (
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/explain"
	"every.channel/ec-verify/internal/node/filediff"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// The object that explain --output json prints; docs/report.md describes it.
type (
	explanationJSON struct {
		SchemaVersion int                 `json:"schemaVersion"`
		Kind          string              `json:"kind"`
		Tool          string              `json:"tool"`
		Path          closure.StorePath   `json:"path"`
		File          *terminal.Name      `json:"file,omitzero"`
		Tag           string              `json:"tag"`
		Configuration string              `json:"configuration"`
		State         explain.State       `json:"state"`
		Want          nar.Hash            `json:"want,omitzero"`
		Got           nar.Hash            `json:"got,omitzero"`
		Original      explain.State       `json:"original,omitzero"`
		Files         []explainedFile     `json:"files"`
		MoreFiles     int                 `json:"moreFiles"`
		Chain         []closure.StorePath `json:"chain"`
		Origin        explainedOrigin     `json:"origin"`
		Notes         []string            `json:"notes"`
	}
	explainedFile struct {
		Name       terminal.Name      `json:"name"`
		Change     closure.ChangeKind `json:"change"`
		Want       string             `json:"want"`
		Got        string             `json:"got"`
		Within     *withinJSON        `json:"within,omitzero"`
		Diffoscope *terminal.Name     `json:"diffoscope,omitzero"`
	}
	withinJSON struct {
		Format    filediff.Format `json:"format"`
		First     int64           `json:"first"`
		Count     int64           `json:"count"`
		SizeA     int64           `json:"sizeA"`
		SizeB     int64           `json:"sizeB"`
		Causes    []causeJSON     `json:"causes"`
		Explained bool            `json:"explained"`
		Parts     []partJSON      `json:"parts"`
		MoreParts int             `json:"moreParts"`
		Diff      []terminal.Name `json:"diff,omitzero"`
		MoreDiff  int             `json:"moreDiff"`
		Window    *windowJSON     `json:"window,omitzero"`
		Notes     []string        `json:"notes"`
	}
	causeJSON struct {
		Cause filediff.CauseName `json:"cause"`
		Where terminal.Name      `json:"where"`
		A     terminal.Name      `json:"a"`
		B     terminal.Name      `json:"b"`
		Count int                `json:"count"`
	}
	partJSON struct {
		Kind   string        `json:"kind"`
		Name   terminal.Name `json:"name"`
		Change string        `json:"change"`
		A      terminal.Name `json:"a"`
		B      terminal.Name `json:"b"`
		Within *withinJSON   `json:"within,omitzero"`
	}
	windowJSON struct {
		At int64  `json:"at"`
		A  []byte `json:"a"`
		B  []byte `json:"b"`
	}
	explainedOrigin struct {
		Commit      string              `json:"commit"`
		Deriver     closure.StorePath   `json:"deriver,omitzero"`
		Builder     []terminal.Name     `json:"builder"`
		Fetched     []terminal.Name     `json:"fetched"`
		Sources     []closure.StorePath `json:"sources"`
		FlakeSource bool                `json:"flakeSource"`
		Inputs      []explainedInput    `json:"inputs"`
		AllInputs   []explainedInput    `json:"allInputs"`
	}
	explainedInput struct {
		Name string            `json:"name"`
		Ref  string            `json:"ref"`
		Path closure.StorePath `json:"path"`
	}
)

func newExplanationJSON(e *explained) *explanationJSON {
	out := &explanationJSON{
		SchemaVersion: 1, Kind: "ec-explanation", Tool: terminal.ToolVersion(), Path: e.Path, File: terminal.OptionalName(e.File, e.File != ""),
		Tag: e.tag, Configuration: e.configuration, State: e.Disk.State, Want: e.Want.NarHash, Got: e.Disk.Sum.Hash, Original: e.Original.State,
		Files: []explainedFile{}, MoreFiles: e.MoreFiles, Chain: e.Chain, Notes: terminal.ValidTexts(e.Notes),
	}
	for i := range e.Files {
		f := &e.Files[i]
		said, ok := e.diffoscope[f.Path]
		out.Files = append(out.Files, explainedFile{
			Name: terminal.NewName(f.Path), Change: f.Kind, Want: report.Describe(f.Want), Got: report.Describe(f.Got),
			Within: newWithinJSON(f.Within), Diffoscope: terminal.OptionalName(string(said), ok),
		})
	}
	o := &e.Origin
	out.Origin = explainedOrigin{
		Commit: o.Commit, Deriver: o.Deriver, Builder: terminal.NewNames(o.Builder), Fetched: terminal.NewNames(o.Fetched), Sources: o.Sources, FlakeSource: o.FlakeSource,
	}
	for _, in := range o.Inputs {
		out.Origin.Inputs = append(out.Origin.Inputs, explainedInput{in.Name, in.Ref, in.Path})
	}
	for _, in := range o.All {
		out.Origin.AllInputs = append(out.Origin.AllInputs, explainedInput{in.Name, in.Ref, in.Path})
	}
	return out
}

func newWithinJSON(r *filediff.Result) *withinJSON {
	if r == nil {
		return nil
	}
	out := &withinJSON{
		Format: r.Format, First: r.First, Count: r.Count, SizeA: r.SizeA, SizeB: r.SizeB, Explained: r.Explained,
		MoreParts: r.MoreParts, Diff: terminal.NewNames(r.Diff), MoreDiff: r.MoreDiff, Notes: terminal.ValidTexts(r.Notes),
	}
	for _, c := range r.Causes {
		out.Causes = append(out.Causes, causeJSON{c.Name, terminal.NewName(c.Where), terminal.NewName(c.A), terminal.NewName(c.B), c.Count})
	}
	for _, p := range r.Parts {
		out.Parts = append(out.Parts, partJSON{p.Kind, terminal.NewName(p.Name), p.Change, terminal.NewName(p.A), terminal.NewName(p.B), newWithinJSON(p.Within)})
	}
	if r.Window != nil {
		out.Window = &windowJSON{r.Window.At, r.Window.A, r.Window.B}
	}
	return out
}
