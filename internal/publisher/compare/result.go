package compare

import (
	"fmt"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// Verdict is the result of a comparison, a stable word.
type Verdict string

// The verdicts.
const (
	Equal     Verdict = "equal"
	Different Verdict = "different"
	// Inconclusive: nothing compared differs, but something could not be compared, or
	// there was nothing to compare.
	Inconclusive Verdict = "inconclusive"
)

// Kind is the kind of a difference, a stable word.
type Kind string

// The kinds of differences.
const (
	OnlyA Kind = "only-in-a" // a file, store path or member that B lacks
	OnlyB Kind = "only-in-b"
	// Contents: the bytes of a file or member, or the NAR hash of a store path.
	Contents   Kind = "contents"
	Type       Kind = "type"       // e.g. a file here and a symlink there
	Executable Kind = "executable" // of a file of a store path
	Target     Kind = "target"     // a symlink leads elsewhere
	// Metadata: another mode of a file, or another mode, owner or time in an image.
	Metadata Kind = "metadata"
	// Field: a field of a manifest or release.json.
	Field Kind = "field"
	// Derivation: two derivations that differ by themselves.
	Derivation Kind = "derivation"
	// Checksum: a line of SHA256SUMS.txt.
	Checksum Kind = "checksum"
	// FalseChecksum: one side's SHA256SUMS.txt does not match that side's file.
	FalseChecksum Kind = "false-checksum"
)

// Difference is one difference between A and B.
type Difference struct {
	Asset excerpt.Raw `json:"asset"` // the file of A and B that has the difference
	Kind  Kind        `json:"kind"`
	// Cause is the cause that a report gives for it, if any.
	Cause report.Cause `json:"cause,omitzero"`
	// Path is the store path concerned, if any.
	Path closure.StorePath `json:"path,omitzero"`
	// Inside are the nested images that contain File.
	Inside []excerpt.Raw `json:"inside,omitzero"`
	// File is the file in the store path, "" for its root, or the member of the image;
	// nil if neither is concerned.
	File *excerpt.Raw `json:"file,omitzero"`
	// Field is the field that differs.
	Field string `json:"field,omitzero"`
	// A and B are the two values, for people.
	A excerpt.Raw `json:"a,omitzero"`
	B excerpt.Raw `json:"b,omitzero"`
	// Bytes are the bytes that differ; nil if they could not be compared.
	Bytes *Bytes `json:"bytes,omitzero"`
	// Follows means that it is a consequence of another difference: the checksum of a
	// differing file, an image around a differing member.
	Follows bool `json:"follows"`
}

// Bytes describes where two files differ.
type Bytes struct {
	First int64 `json:"first"` // offset of the first differing byte, from 0
	Count int64 `json:"count"` // how many differ, including those that only one has
	SizeA int64 `json:"sizeA"`
	SizeB int64 `json:"sizeB"`
}

// Failure is something that could not be compared.
type Failure struct {
	Asset  excerpt.Raw `json:"asset"`
	Side   string      `json:"side,omitzero"` // "A", "B" or "" for both
	Detail string      `json:"detail"`
}

const (
	// maxListed limits the listed differences of one file.
	maxListed = 1000
	// maxListedBytes limits the text of all listed differences, in bytes.
	maxListedBytes = 8 << 20
	// maxSaidBytes limits the text of all failures, and that of all notes, in bytes.
	maxSaidBytes = 1 << 20
)

// Result is the result of a comparison.
type Result struct {
	A excerpt.Raw `json:"a"`
	B excerpt.Raw `json:"b"`
	// Compared are the files that both sides have, in the order of their names.
	Compared []excerpt.Raw `json:"compared"`
	// Members is how many members of images were compared.
	Members     int          `json:"members"`
	Differences []Difference `json:"differences"`
	// More counts differences beyond those listed.
	More     int       `json:"more"`
	Failures []Failure `json:"failures"`
	// MoreFailures counts failures beyond those listed.
	MoreFailures int `json:"moreFailures"`
	// Notes are variations that do not count as differences.
	Notes []string `json:"notes"`
	// MoreNotes counts notes beyond those listed.
	MoreNotes int `json:"moreNotes"`

	listed, failed, noted int // bytes of Differences, Failures and Notes
}

// Verdict returns the verdict of r. If nothing was compared, it is not Equal.
func (r *Result) Verdict() Verdict {
	switch {
	case len(r.Differences) > 0 || r.More > 0:
		return Different
	case len(r.Failures) > 0 || r.MoreFailures > 0 || len(r.Compared) == 0:
		return Inconclusive
	}
	return Equal
}

// Primary returns how many differences are not a consequence of another, including
// those not listed.
func (r *Result) Primary() int {
	n := r.More
	for _, d := range r.Differences {
		if !d.Follows {
			n++
		}
	}
	return n
}

// found collects the differences of one asset.
type found struct {
	r     *Result
	asset string
	n     int
}

func (r *Result) in(asset string) *found { return &found{r: r, asset: asset} }

func (f *found) add(d Difference) {
	d.Asset = excerpt.Raw(f.asset)
	d.Cause = d.cause()
	size := len(d.Asset) + len(d.Path) + len(d.Field) + len(d.A) + len(d.B)
	if d.File != nil {
		size += len(*d.File)
	}
	for _, in := range d.Inside {
		size += len(in)
	}
	if f.n++; f.n > maxListed || f.r.listed+size > maxListedBytes {
		f.r.More++
		return
	}
	f.r.listed += size
	f.r.Differences = append(f.r.Differences, d)
}

func (f *found) field(path closure.StorePath, name, a, b string) {
	if a != b {
		f.add(Difference{Kind: Field, Path: path, Field: name, A: excerpt.Raw(a), B: excerpt.Raw(b)})
	}
}

func (r *Result) fail(asset, side string, err error) {
	if r.failed += len(asset) + len(err.Error()); r.failed > maxSaidBytes {
		r.MoreFailures++
		return
	}
	r.Failures = append(r.Failures, Failure{excerpt.Raw(asset), side, err.Error()})
}

func (r *Result) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if r.noted += len(note); r.noted > maxSaidBytes {
		r.MoreNotes++
		return
	}
	r.Notes = append(r.Notes, note)
}
