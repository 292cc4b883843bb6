package compare

import (
	"fmt"

	"every.channel/ec-verify/pkg/closure"
)

// Verdict is what a comparison ended with, in a stable word.
type Verdict string

// The verdicts.
const (
	Equal     Verdict = "equal"
	Different Verdict = "different"
	// Inconclusive: nothing differs that could be compared, and something could
	// not be, or there was nothing.
	Inconclusive Verdict = "inconclusive"
)

// Kind says in what two builds differ; it is a stable word.
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
	// Field: what a manifest or release.json says.
	Field Kind = "field"
	// Derivation: two derivations that differ by themselves.
	Derivation Kind = "derivation"
	// Checksum: a line of SHA256SUMS.txt.
	Checksum Kind = "checksum"
	// FalseChecksum: SHA256SUMS.txt of one side is not about that side's file.
	FalseChecksum Kind = "false-checksum"
)

// Difference is one thing in which A and B differ. Strings hold raw bytes.
type Difference struct {
	Asset string // the file of A and B that it is in
	Kind  Kind
	// Path is the store path that it is about, if any.
	Path closure.StorePath
	// Inside are the images within the file that lead to File.
	Inside []string
	// File is the file in the store path, or the member of the image.
	File    string
	HasFile bool // File may be "", which is the root of a store path
	// Field is which of the things that are said of it.
	Field string
	// A and B are what it is there, for people.
	A, B string
	// Bytes says which bytes differ; nil where they could not be compared.
	Bytes *Bytes
	// Follows says that it is there because of another difference: a checksum of
	// a file that differs, an image around a member that does.
	Follows bool
}

// Bytes says where two files differ.
type Bytes struct {
	First        int64 // offset of the first byte that differs, from 0
	Count        int64 // how many differ, those that only one has included
	SizeA, SizeB int64
}

// Failure is something that could not be compared.
type Failure struct {
	Asset string
	Side  string // "A", "B" or "" for both
	Err   error
}

const (
	// maxListed bounds the differences of one file that are listed.
	maxListed = 1000
	// maxListedBytes bounds what all listed differences say, in bytes.
	maxListedBytes = 8 << 20
	// maxSaidBytes bounds what all failures say, and what all notes do, in bytes.
	maxSaidBytes = 1 << 20
)

// Result is what a comparison found.
type Result struct {
	A, B string
	// Compared are the files that both sides have, in the order of their names.
	Compared []string
	// Members is how many members of images were compared.
	Members     int
	Differences []Difference
	// More is how many differences there are beyond those that are listed.
	More     int
	Failures []Failure
	// MoreFailures is how many there are beyond those that are listed.
	MoreFailures int
	// Notes are what differs and is no difference.
	Notes []string
	// MoreNotes is how many there are beyond those that are listed.
	MoreNotes int

	listed, failed, noted int // bytes of Differences, Failures and Notes
}

// Verdict returns what r amounts to. Nothing compared is nothing equal.
func (r *Result) Verdict() Verdict {
	switch {
	case len(r.Differences) > 0 || r.More > 0:
		return Different
	case len(r.Failures) > 0 || r.MoreFailures > 0 || len(r.Compared) == 0:
		return Inconclusive
	}
	return Equal
}

// Primary returns how many differences follow from no other, those beyond the
// listed ones included.
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
