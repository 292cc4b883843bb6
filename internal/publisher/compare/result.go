package compare

import (
	"fmt"

	"every.channel/ec-verify/pkg/closure"
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

// Difference is one difference between A and B. Strings contain raw bytes.
type Difference struct {
	Asset string // the file of A and B that has the difference
	Kind  Kind
	// Path is the store path concerned, if any.
	Path closure.StorePath
	// Inside are the nested images that contain File.
	Inside []string
	// File is the file in the store path, or the member of the image.
	File    string
	HasFile bool // File may be "", which is the root of a store path
	// Field is the field that differs.
	Field string
	// A and B are the two values, for people.
	A, B string
	// Bytes are the bytes that differ; nil if they could not be compared.
	Bytes *Bytes
	// Follows means that it is a consequence of another difference: the checksum of a
	// differing file, an image around a differing member.
	Follows bool
}

// Bytes describes where two files differ.
type Bytes struct {
	First        int64 // offset of the first differing byte, from 0
	Count        int64 // how many differ, including those that only one has
	SizeA, SizeB int64
}

// Failure is something that could not be compared.
type Failure struct {
	Asset string
	Side  string // "A", "B" or "" for both
	Err   error
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
	A, B string
	// Compared are the files that both sides have, in the order of their names.
	Compared []string
	// Members is how many members of images were compared.
	Members     int
	Differences []Difference
	// More counts differences beyond those listed.
	More     int
	Failures []Failure
	// MoreFailures counts failures beyond those listed.
	MoreFailures int
	// Notes are variations that do not count as differences.
	Notes []string
	// MoreNotes counts notes beyond those listed.
	MoreNotes int

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
	d.Asset = f.asset
	size := len(d.Asset) + len(d.Path) + len(d.File) + len(d.Field) + len(d.A) + len(d.B)
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
		f.add(Difference{Kind: Field, Path: path, Field: name, A: a, B: b})
	}
}

func (r *Result) fail(asset, side string, err error) {
	if r.failed += len(asset) + len(err.Error()); r.failed > maxSaidBytes {
		r.MoreFailures++
		return
	}
	r.Failures = append(r.Failures, Failure{asset, side, err})
}

func (r *Result) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if r.noted += len(note); r.noted > maxSaidBytes {
		r.MoreNotes++
		return
	}
	r.Notes = append(r.Notes, note)
}
