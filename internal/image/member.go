package image

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

// The ways in which an image can be unreadable.
var (
	ErrMalformed   = errors.New("malformed")
	ErrTooLarge    = errors.New("too large")
	ErrUnsupported = errors.New("not supported")
)

// A Format is what an image is, in a stable word.
type Format string

// The formats that [Walk] tells apart.
const (
	Opaque   Format = "file" // none of the others
	Tar      Format = "tar"
	ISO      Format = "iso9660"
	Squashfs Format = "squashfs"
	Initrd   Format = "initrd"
)

// A Member is one node in an image. Strings hold raw bytes.
type Member struct {
	// Inside names the images that the node is in, from the outermost on: none
	// for a member of the image that is walked, "initrd" and
	// "initrd", "nix-store.squashfs" for those in its initrd.
	Inside []string
	// In is the format of the image that the node is in directly.
	In Format
	// Path leads from the root of that image to the node, names separated by
	// '/', without a leading one. The root itself is "".
	Path string
	// Type is zero for what is neither file, directory nor symbolic link.
	Type nar.Type
	// Mode is the permission bits, set-user-ID, set-group-ID and sticky bit
	// included, as chmod(2) has them.
	Mode uint32
	UID  uint32
	GID  uint32
	// MTime is in seconds since 1970; 0 where the format has none.
	MTime int64
	// Size is that of the contents in bytes; of a regular file only.
	Size int64
	// Target is what a symbolic link holds.
	Target string
	// Segment is, for a member of an initrd, where in it the archive begins that
	// holds the member, compressed or not: a later archive overrides an earlier
	// one.
	Segment int64
	// Xattrs says that there are extended attributes, which are not read.
	Xattrs bool
}

// Executable reports whether the owner may execute the member.
func (m Member) Executable() bool { return m.Mode&0o100 != 0 }

// Name returns Inside and Path as one name for people: raw bytes still.
func (m Member) Name() string {
	if len(m.Inside) == 0 {
		return m.Path
	}
	return strings.Join(m.Inside, " › ") + " › " + m.Path
}

// Visit is called for each member, directories before what is in them; in
// squashfs and ISO images the entries of a directory come by the bytes of their
// names, in archives as they stand there. For a regular file it may return
// where its contents are to be written to, which is closed when they are
// complete and left when the walk fails; nil skips them. Members of an image
// within come after its own Visit and before its own Close.
type Visit func(m Member) (io.WriteCloser, error)

// Limits bound what a walk may cost.
type Limits struct {
	Members int64 // nodes, over all images within
	Bytes   int64 // bytes of contents and of what is decompressed, over all images within
	// Spool is how many bytes the images within may take in temporary files.
	Spool int64
	// Held is how many bytes of names and of places of files may be held in
	// memory at a time. Buffers come on top, some 20 MiB and what decompressing
	// takes.
	Held int64
}

// DefaultLimits are those of a zero Limits: some ten times what the largest
// NixOS image takes.
func DefaultLimits() Limits {
	return Limits{Members: 8 << 20, Bytes: 128 << 30, Spool: 32 << 30, Held: 32 << 20}
}

const (
	maxPath   = 16 << 10 // bytes of one member's path
	maxDepth  = 2048     // directories on the way to a member
	maxTarget = 64 << 10 // bytes of a symbolic link's target
	maxNested = 6        // images and compressions around each other
	// maxWindow is what decompressing may hold in memory, in bytes; zstd's own
	// level 19 takes 8 MiB, its ultra levels and those of xz up to this. One
	// within another may hold half of what that may.
	maxWindow = 128 << 20
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooLarge, fmt.Sprintf(format, args...))
}

// quote shows a name, clipped.
func quote(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strconv.Quote(s)
}

// checkName holds one component of a path to what a name can be.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return malformed("a file is called %s", quote(name))
	}
	return nil
}

// cleanPath returns the path of an archive's member as [Member] has it.
func cleanPath(p string) (string, error) {
	if len(p) > maxPath {
		return "", tooLarge("a path of %d bytes", len(p))
	}
	p = strings.TrimPrefix(p, "/")
	var out []string
	for part := range strings.SplitSeq(p, "/") {
		if part == "." || part == "" {
			continue
		}
		if err := checkName(part); err != nil {
			return "", err
		}
		out = append(out, part)
	}
	if len(out) > maxDepth {
		return "", tooLarge("a path of %d directories", len(out))
	}
	return strings.Join(out, "/"), nil
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}
