package publisher

import (
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/publisher/compare"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// comparisonKind is the kind of the object that compare --output json prints.
const comparisonKind = "ec-compare"

// comparison is what compare --output json prints; docs/releasing.md describes
// it.
type comparison struct {
	SchemaVersion int                    `json:"schemaVersion"`
	Kind          string                 `json:"kind"`
	Tool          string                 `json:"tool"`
	Verdict       compare.Verdict        `json:"verdict"`
	A             terminal.Name          `json:"a"`
	B             terminal.Name          `json:"b"`
	Compared      []terminal.Name        `json:"compared"`
	Members       int                    `json:"members"`
	Primary       int                    `json:"primary"`
	More          int                    `json:"more"`
	Differences   []comparisonDifference `json:"differences"`
	Failures      []comparisonFailure    `json:"failures"`
	MoreFailures  int                    `json:"moreFailures"`
	Notes         []string               `json:"notes"`
	MoreNotes     int                    `json:"moreNotes"`
}

type comparisonDifference struct {
	Asset   terminal.Name     `json:"asset"`
	Kind    compare.Kind      `json:"kind"`
	Cause   report.Cause      `json:"cause,omitzero"`
	Path    closure.StorePath `json:"path,omitzero"`
	Inside  []terminal.Name   `json:"inside,omitzero"`
	File    *terminal.Name    `json:"file,omitzero"`
	Field   string            `json:"field,omitzero"`
	A       *terminal.Name    `json:"a,omitzero"`
	B       *terminal.Name    `json:"b,omitzero"`
	Bytes   *comparisonBytes  `json:"bytes,omitzero"`
	Follows bool              `json:"follows"`
}

type comparisonBytes struct {
	First int64 `json:"first"`
	Count int64 `json:"count"`
	SizeA int64 `json:"sizeA"`
	SizeB int64 `json:"sizeB"`
}

type comparisonFailure struct {
	Asset  terminal.Name `json:"asset"`
	Side   string        `json:"side,omitzero"`
	Detail string        `json:"detail"`
}

func newComparison(r *compare.Result) *comparison {
	c := &comparison{
		SchemaVersion: 1, Kind: comparisonKind, Tool: terminal.ToolVersion(), Verdict: r.Verdict(),
		A: terminal.NewName(r.A), B: terminal.NewName(r.B), Compared: terminal.NewNames(r.Compared), Members: r.Members,
		Primary: r.Primary(), More: r.More, MoreFailures: r.MoreFailures, Notes: r.Notes, MoreNotes: r.MoreNotes,
	}
	for _, d := range r.Differences {
		line := comparisonDifference{
			Asset: terminal.NewName(d.Asset), Kind: d.Kind, Cause: d.Cause(), Path: d.Path, Inside: terminal.NewNames(d.Inside), File: terminal.OptionalName(d.File, d.HasFile),
			Field: terminal.ValidText(d.Field), A: terminal.OptionalName(d.A, d.A != ""), B: terminal.OptionalName(d.B, d.B != ""), Follows: d.Follows,
		}
		if d.Bytes != nil {
			line.Bytes = &comparisonBytes{d.Bytes.First, d.Bytes.Count, d.Bytes.SizeA, d.Bytes.SizeB}
		}
		c.Differences = append(c.Differences, line)
	}
	for _, f := range r.Failures {
		c.Failures = append(c.Failures, comparisonFailure{terminal.NewName(f.Asset), f.Side, terminal.ValidText(f.Err.Error())})
	}
	for i, n := range c.Notes {
		c.Notes[i] = terminal.ValidText(n)
	}
	return c
}
