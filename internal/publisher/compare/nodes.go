package compare

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/excerpt"
)

// nodes compares the nodes of one name on both sides: links by their target, without
// following them, files by their bytes, files and directories by their modes.
func (c *comparison) nodes(ctx context.Context, name, a, b string) error {
	infoA, err := os.Lstat(a)
	if err != nil {
		c.r.fail(name, "A", err)
		return nil
	}
	infoB, err := os.Lstat(b)
	if err != nil {
		c.r.fail(name, "B", err)
		return nil
	}
	linkA, linkB := infoA.Mode()&fs.ModeSymlink != 0, infoB.Mode()&fs.ModeSymlink != 0
	switch {
	case linkA && linkB:
		c.links(name, a, b)
	case linkA || linkB:
		c.r.Compared = append(c.r.Compared, excerpt.Raw(name))
		c.r.in(name).add(Difference{Kind: Type, A: excerpt.Raw(describeNode(a, infoA)), B: excerpt.Raw(describeNode(b, infoB))})
	case strings.HasSuffix(name, "/"):
		c.modes(name, infoA, infoB)
	default:
		return c.files(ctx, name, a, b, hostfile.OpenNoFollow)
	}
	return nil
}

func (c *comparison) links(name, a, b string) {
	targetA, err := os.Readlink(a)
	if err != nil {
		c.r.fail(name, "A", err)
		return
	}
	targetB, err := os.Readlink(b)
	if err != nil {
		c.r.fail(name, "B", err)
		return
	}
	c.r.Compared = append(c.r.Compared, excerpt.Raw(name))
	if targetA != targetB {
		c.r.in(name).add(Difference{Kind: Target, A: excerpt.Raw("link to " + clip(targetA)), B: excerpt.Raw("link to " + clip(targetB))})
	}
}

func describeNode(name string, info fs.FileInfo) string {
	if info.Mode()&fs.ModeSymlink == 0 {
		return "no link"
	}
	target, err := os.Readlink(name)
	if err != nil {
		return "link"
	}
	return "link to " + clip(target)
}

// modes compares the mode bits that a build sets. Read and write permissions depend
// on the umask or on Nix, and are only noted.
func (c *comparison) modes(name string, a, b fs.FileInfo) {
	const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	set := special
	if !a.IsDir() {
		set |= 0o100
	}
	modeA, modeB := a.Mode()&(special|fs.ModePerm), b.Mode()&(special|fs.ModePerm)
	switch {
	case modeA&set != modeB&set:
		c.r.in(name).add(Difference{Kind: Metadata, A: excerpt.Raw("mode " + octal(modeA)), B: excerpt.Raw("mode " + octal(modeB))})
	case modeA != modeB:
		if c.permissions++; c.permissions == 1 {
			c.firstPermissions = fmt.Sprintf("%s: %s and %s", name, octal(modeA), octal(modeB))
		}
	}
}

// octal returns m in the form of chmod(1).
func octal(m fs.FileMode) string {
	bits := uint32(m.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return fmt.Sprintf("%04o", bits)
}

// notePermissions notes how many files differ in permissions that no build sets.
func (c *comparison) notePermissions() {
	if c.permissions > 0 {
		c.r.note("files and directories with other permissions to read or write, which depend on the umask: %d, the first %s", c.permissions, c.firstPermissions)
	}
}
