package filediff

// Format is what both sides are, in a stable word.
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

// CauseName is one of the usual causes by which two builds differ, in a stable word.
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
	Name CauseName
	// Where is the part of the file, "" for the whole.
	Where string
	// A and B are what it reads there.
	A, B string
	// Count is for how many differences it accounts.
	Count int
}

// Part is a part of the file that differs: a section, a symbol, a member, a field.
type Part struct {
	Kind   string // "section", "symbol", "member", "field"
	Name   string
	Change string // "added", "removed", "changed"
	A, B   string // what is said of it on either side, for people
	// Within is what differs in its contents; nil where that was not looked at.
	Within *Result
}

// Window is the bytes about the first difference.
type Window struct {
	At   int64 // offset of the first byte of A and B
	A, B []byte
}

// Result is what differs between two versions of a file.
type Result struct {
	Format Format
	// First is the offset of the first byte that differs, Count how many do, with
	// those that only one side has.
	First, Count int64
	SizeA, SizeB int64
	Parts        []Part
	MoreParts    int
	// Diff are the lines of a unified diff of two texts.
	Diff     []string
	MoreDiff int
	// Window is there where nothing says more than the bytes.
	Window *Window
	Causes []Cause
	// Explained says that the causes account for everything that differs.
	Explained bool
	// Notes say what was not looked at, and why.
	Notes []string
}

// Limits bound what a comparison costs. Zero ones are those of [DefaultLimits].
type Limits struct {
	Bytes int64 // of what is decompressed on either side, in all
	Parts int   // that are kept of one file
	Lines int   // of a unified diff that are kept
	Depth int   // files within each other
}

// DefaultLimits are those of a zero Limits.
func DefaultLimits() Limits { return Limits{Bytes: 128 << 20, Parts: 100, Lines: 200, Depth: 4} }

// MaxSize is how large a file may be, in bytes, that [Compare] is given.
const MaxSize = 64 << 20

func (r *Result) part(p Part, limits Limits) {
	if len(r.Parts) >= limits.Parts {
		r.MoreParts++
		return
	}
	r.Parts = append(r.Parts, p)
}

// caused adds a cause, or counts it to one that is there.
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

// adopt takes over what a part of the file was explained with.
func (r *Result) adopt(within *Result, where string) {
	for _, c := range within.Causes {
		if c.Where != "" {
			c.Where = where + " › " + c.Where
		} else {
			c.Where = where
		}
		r.caused(c)
	}
}
