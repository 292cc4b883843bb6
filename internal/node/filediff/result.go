package filediff

import "every.channel/ec-verify/pkg/excerpt"

// Format is the format of both sides, in a stable word.
type Format string

// The formats.
const (
	Text     Format = "text"
	ELF      Format = "elf"
	Gzip     Format = "gzip"
	Packed   Format = "compressed" // xz or zstd
	Ar       Format = "ar"
	Zip      Format = "zip"
	Tar      Format = "tar"
	Cpio     Format = "initrd"
	Squashfs Format = "squashfs"
	ISO      Format = "iso9660"
	Ext4     Format = "ext4"
	Pyc      Format = "pyc"
	Binary   Format = "binary" // none of these, or not both the same
)

// CauseName is a usual cause of differences between builds, in a stable word.
type CauseName string

// The causes.
const (
	Date         CauseName = "date"            // a date or a time of day
	HostName     CauseName = "host-name"       // of the machine that built
	BuildDir     CauseName = "build-directory" // where it was built
	CoreCount    CauseName = "core-count"      // with how many cores
	Order        CauseName = "order"           // the same lines or members in another order
	RandomID     CauseName = "random-id"       // a UUID, or the seed of a hash
	Owner        CauseName = "owner"           // the user who built, as a number
	Dependency   CauseName = "dependency"      // another store path of the same name
	Compression  CauseName = "compression"     // the same contents, compressed otherwise
	ContentHash  CauseName = "content-hash"    // a build ID or checksum of the rest
	sourceSuffix           = `\.(?:c|cc|cpp|cxx|h|hh|hpp|go|rs|s|S|py|pl|rb|hs|ml|mli|java|m|f90|zig|d)`
)

// Cause is one cause, with the first place that it accounts for.
type Cause struct {
	Name CauseName `json:"cause"`
	// Where is the part of the file, "" for the whole.
	Where excerpt.Raw `json:"where"`
	// A and B are the texts of the two sides there.
	A excerpt.Raw `json:"a"`
	B excerpt.Raw `json:"b"`
	// Count is how many differences it accounts for.
	Count int `json:"count"`
}

// Part is a differing part of the file: a section, a symbol, a member, a field.
type Part struct {
	Kind   string      `json:"kind"` // "section", "symbol", "member", "field"
	Name   excerpt.Raw `json:"name"`
	Change string      `json:"change"` // "added", "removed", "changed"
	// A and B describe it on either side, for people.
	A excerpt.Raw `json:"a"`
	B excerpt.Raw `json:"b"`
	// Within is what differs in its contents; nil if they were not compared.
	Within *Result `json:"within,omitzero"`
}

// Window is the bytes around the first difference.
type Window struct {
	At int64  `json:"at"` // offset of the first byte of A and B
	A  []byte `json:"a"`
	B  []byte `json:"b"`
}

// Result is what differs between two versions of a file.
type Result struct {
	Format Format `json:"format"`
	// First is the offset of the first differing byte, Count the number of differing
	// bytes, including those that only one side has.
	First     int64  `json:"first"`
	Count     int64  `json:"count"`
	SizeA     int64  `json:"sizeA"`
	SizeB     int64  `json:"sizeB"`
	Parts     []Part `json:"parts"`
	MoreParts int    `json:"moreParts"`
	// Diff is a unified diff of two texts, in lines.
	Diff     []excerpt.Raw `json:"diff,omitzero"`
	MoreDiff int           `json:"moreDiff"`
	// Window is set if nothing says more than the bytes.
	Window *Window `json:"window,omitzero"`
	Causes []Cause `json:"causes"`
	// Explained means that the causes account for all differences.
	Explained bool `json:"explained"`
	// Notes say what was not compared, and why.
	Notes []string `json:"notes"`
}

// Limits limits the cost of a comparison. Zero values mean those of [DefaultLimits].
type Limits struct {
	Bytes int64 // of what is decompressed on either side, in all
	Parts int   // that are kept of one file
	Lines int   // of a unified diff that are kept
	Depth int   // files within each other
}

// DefaultLimits returns the limits that a zero Limits stands for.
func DefaultLimits() Limits { return Limits{Bytes: 128 << 20, Parts: 100, Lines: 200, Depth: 4} }

// MaxSize is the largest file for [Compare], in bytes.
const MaxSize = 64 << 20

func (r *Result) part(p Part, limits Limits) {
	if len(r.Parts) >= limits.Parts {
		r.MoreParts++
		return
	}
	r.Parts = append(r.Parts, p)
}

// caused adds a cause, or increases the count of an equal one.
func (r *Result) caused(c Cause) {
	if c.Count == 0 {
		c.Count = 1
	}
	for i := range r.Causes {
		if r.Causes[i].Name == c.Name {
			r.Causes[i].Count += c.Count
			return
		}
	}
	r.Causes = append(r.Causes, c)
}

// adopt adds the causes of a part of the file.
func (r *Result) adopt(within *Result, where excerpt.Raw) {
	for _, c := range within.Causes {
		if c.Where != "" {
			c.Where = where + " › " + c.Where
		} else {
			c.Where = where
		}
		r.caused(c)
	}
}
