package report

import (
	"fmt"
	"io"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

// cacheSplit says which kinds of bytes were read past the page cache, and which through
// it. [nar.ReadDisk] reads the contents of files from the disk; directory entries, link
// targets, modes and owners come from the kernel's caches, and the Nix database is copied
// like any file.
func (c *Coverage) cacheSplit() (past, through []string) {
	if c.Paths == 0 {
		return nil, nil
	}
	through = []string{"names", "targets", "metadata", "database"}
	if c.Read != nar.ReadDisk || c.FromCache > 0 {
		through = append([]string{"contents"}, through...)
	}
	if c.Read == nar.ReadDisk && (c.FromCache == 0 || c.FromCache < c.Files) {
		past = []string{"contents"}
	}
	return past, through
}

// writeOrigins lists the file systems that were read, one in a line.
func (c *Coverage) writeOrigins(w io.Writer) {
	var lines []Origin
	dirs := make(map[Origin][]string)
	for _, o := range c.Origins {
		line := o
		line.Dir, line.Root = "", ""
		if dirs[line] == nil {
			lines = append(lines, line)
		}
		dirs[line] = append(dirs[line], escapeBounded(o.Dir, maxShown))
	}
	for _, o := range lines {
		fmt.Fprintf(w, "%s from %s %s (device %s), mounted at %s\n", strings.Join(dirs[o], ", "),
			escapeBounded(o.Type, maxShown), escapeBounded(o.Source, maxShown), escapeBounded(o.Device, maxShown), escapeBounded(o.Point, maxShown))
	}
}
