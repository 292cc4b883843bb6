package main

import (
	"encoding/base64"
	"unicode/utf8"

	"every.channel/ec-verify/internal/publisher/compare"
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
	A             name                   `json:"a"`
	B             name                   `json:"b"`
	Compared      []name                 `json:"compared"`
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
	Asset   name              `json:"asset"`
	Kind    compare.Kind      `json:"kind"`
	Path    closure.StorePath `json:"path,omitzero"`
	Inside  []name            `json:"inside,omitzero"`
	File    *name             `json:"file,omitzero"`
	Field   string            `json:"field,omitzero"`
	A       *name             `json:"a,omitzero"`
	B       *name             `json:"b,omitzero"`
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
	Asset  name   `json:"asset"`
	Side   string `json:"side,omitzero"`
	Detail string `json:"detail"`
}

// name is a string of bytes: {"text": …}, or {"base64": …} where it is no valid
// UTF-8.
type name struct {
	Text   *string `json:"text,omitzero"`
	Base64 *string `json:"base64,omitzero"`
}

// raw returns the string.
func (n *name) raw() string {
	if n.Base64 != nil {
		raw, err := base64.StdEncoding.DecodeString(*n.Base64)
		if err != nil {
			return *n.Base64
		}
		return string(raw)
	}
	return *n.Text
}

func newName(s string) name {
	if utf8.ValidString(s) {
		return name{Text: &s}
	}
	b := base64.StdEncoding.EncodeToString([]byte(s))
	return name{Base64: &b}
}

func newNames(list []string) []name {
	var out []name
	for _, s := range list {
		out = append(out, newName(s))
	}
	return out
}

func optionalName(s string, present bool) *name {
	if !present {
		return nil
	}
	n := newName(s)
	return &n
}

func newComparison(r *compare.Result) *comparison {
	c := &comparison{
		SchemaVersion: 1, Kind: comparisonKind, Tool: toolVersion(), Verdict: r.Verdict(),
		A: newName(r.A), B: newName(r.B), Compared: newNames(r.Compared), Members: r.Members,
		Primary: r.Primary(), More: r.More, MoreFailures: r.MoreFailures, Notes: r.Notes, MoreNotes: r.MoreNotes,
	}
	for _, d := range r.Differences {
		line := comparisonDifference{
			Asset: newName(d.Asset), Kind: d.Kind, Path: d.Path, Inside: newNames(d.Inside), File: optionalName(d.File, d.HasFile),
			Field: validText(d.Field), A: optionalName(d.A, d.A != ""), B: optionalName(d.B, d.B != ""), Follows: d.Follows,
		}
		if d.Bytes != nil {
			line.Bytes = &comparisonBytes{d.Bytes.First, d.Bytes.Count, d.Bytes.SizeA, d.Bytes.SizeB}
		}
		c.Differences = append(c.Differences, line)
	}
	for _, f := range r.Failures {
		c.Failures = append(c.Failures, comparisonFailure{newName(f.Asset), f.Side, validText(f.Err.Error())})
	}
	for i, n := range c.Notes {
		c.Notes[i] = validText(n)
	}
	return c
}

// validText is for texts of our own that may quote an outsider's.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s)) // each byte that is none becomes U+FFFD
}
