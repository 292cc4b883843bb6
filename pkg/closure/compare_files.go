package closure

import (
	"cmp"
	"slices"

	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

const (
	// MaxFileChanges limits the changes that a [FileComparison] returns.
	MaxFileChanges = 100
	// maxChangeBytes limits their text, in bytes: an attacker chooses the length of
	// names and targets.
	maxChangeBytes = 64 << 10
)

// A FileComparison compares the files of a store path with its listing while they are
// read, so that untrusted files take no memory. The zero value compares with an empty
// listing.
type FileComparison struct {
	want    []nar.Entry // not yet met
	changes []FileChange
	bytes   int
	more    int
}

// NewFileComparison returns a comparison with want, a listing in the order of the
// NAR. want must not be modified before End.
func NewFileComparison(want []nar.Entry) *FileComparison { return &FileComparison{want: want} }

// Add compares the next file, in the order of the NAR, as [nar.Options.OnEntry]
// and [nar.Builder] give them.
func (c *FileComparison) Add(got nar.Entry) {
	for len(c.want) > 0 && c.want[0].Path != got.Path && inOrder(c.want[0].Path, got.Path) {
		c.remove()
	}
	if len(c.want) == 0 || c.want[0].Path != got.Path {
		c.change(FileChange{Path: excerpt.Raw(got.Path), Kind: FileAdded, Got: got})
		return
	}
	want := c.want[0]
	c.want = c.want[1:]
	if kind, differs := compareFile(want, got, true); differs {
		c.change(FileChange{Path: excerpt.Raw(got.Path), Kind: kind, Want: want, Got: got})
	}
}

func (c *FileComparison) remove() {
	c.change(FileChange{Path: excerpt.Raw(c.want[0].Path), Kind: FileRemoved, Want: c.want[0]})
	c.want = c.want[1:]
}

func (c *FileComparison) change(f FileChange) {
	size := len(f.Path) + len(f.Want.Target) + len(f.Got.Target)
	if len(c.changes) == MaxFileChanges || c.bytes+size > maxChangeBytes {
		c.more++
		return
	}
	c.bytes += size
	c.changes = append(c.changes, f)
}

// End returns the files that differ, in the order of their names: at most
// [MaxFileChanges], with names of at most 64 KiB together. more is how many it
// leaves out.
func (c *FileComparison) End() (changes []FileChange, more int) {
	for len(c.want) > 0 {
		c.remove()
	}
	slices.SortFunc(c.changes, func(a, b FileChange) int { return cmp.Compare(a.Path, b.Path) })
	return c.changes, c.more
}
