package image

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// The reasons why an image is unreadable.
var (
	ErrMalformed   = errors.New("malformed")
	ErrTooLarge    = errors.New("too large")
	ErrUnsupported = errors.New("not supported")
)

// A Format is the format of an image; the words are stable.
type Format string

// The formats that [Walk] distinguishes.
const (
	Opaque   Format = "file" // none of the others
	Tar      Format = "tar"
	ISO      Format = "iso9660"
	Squashfs Format = "squashfs"
	Initrd   Format = "initrd"
)

// A Member is one node in an image. Strings contain raw bytes.
type Member struct {
	// Inside names the images around the node, outermost first: none for a member of the
	// image that is walked, "initrd" and "initrd", "nix-store.squashfs" for members of
	// its initrd.
	Inside []string
	// In is the format of the innermost image around the node.
	In Format
	// Path is the path of the node within that image, separated by '/' and without a
	// leading one. The root itself is "".
	Path string
	// Type is zero if the node is neither a file, a directory nor a symbolic link.
	Type nar.Type
	// Mode has the permission bits, with the set-user-ID, set-group-ID and sticky bits,
	// as in chmod(2).
	Mode uint32
	UID  uint32
	GID  uint32
	// MTime is in seconds since 1970; 0 if the format has none.
	MTime int64
	// Size is the size of a regular file's contents in bytes.
	Size int64
	// Target is the target of a symbolic link.
	Target string
	// Segment is, for a member of an initrd, the offset of its archive in the initrd,
	// compressed or not: a later archive overrides an earlier one.
	Segment int64
	// Xattrs means that there are extended attributes, which are not read.
	Xattrs bool
}

// Executable reports whether the owner may execute the member.
func (m Member) Executable() bool { return m.Mode&0o100 != 0 }

// Name joins Inside and Path to a name for people, still in raw bytes.
func (m Member) Name() string {
	if len(m.Inside) == 0 {
		return m.Path
	}
	return strings.Join(m.Inside, " › ") + " › " + m.Path
}

// Visit is called for each member, directories before their entries. In squashfs and ISO
// images the entries of a directory are sorted by the bytes of their names; in archives
// they keep the archive's order. For a regular file it may return a writer for the
// contents. The writer is closed when the contents are complete, and not closed if the
// walk fails; nil skips the contents. Members of a nested image follow that image's Visit
// and precede the Close of its writer.
type Visit func(m Member) (io.WriteCloser, error)

// Limits limits the cost of a walk.
type Limits struct {
	Members int64 // nodes, over all images within
	Bytes   int64 // bytes of contents and of what is decompressed, over all images within
	// Spool is how many bytes nested images may take in temporary files.
	Spool int64
	// Held is how many bytes of names and file positions may be in memory at a time.
	// Buffers add some 20 MiB, and decompression its own memory.
	Held int64
}

// DefaultLimits returns the limits of a zero Limits: about ten times the needs of the
// largest NixOS image.
func DefaultLimits() Limits {
	return Limits{Members: 8 << 20, Bytes: 128 << 30, Spool: 32 << 30, Held: 32 << 20}
}

const (
	maxPath   = 16 << 10 // bytes of one member's path
	maxDepth  = 2048     // directories on the way to a member
	maxTarget = 64 << 10 // bytes of a symbolic link's target
	maxNested = 6        // images and compressions around each other
	// maxWindow limits the memory of a decompressor, in bytes; zstd takes 8 MiB at level
	// 19, and up to this much at its ultra levels, as does xz. A nested one may use half
	// as much as the one around it.
	maxWindow = 128 << 20
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooLarge, fmt.Sprintf(format, args...))
}

// quote clips and quotes a name.
func quote(s string) string { return strconv.Quote(excerpt.Of(s, 200)) }

// checkName reports an error if name cannot be a component of a path.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return malformed("a file is called %s", quote(name))
	}
	return nil
}

// cleanPath returns the path of an archive's member in the form of [Member].
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
