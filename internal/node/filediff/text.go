package filediff

import (
	"bytes"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"every.channel/ec-verify/pkg/excerpt"
)

// maxText and maxLines limit the texts that are compared line by line: a line takes some
// 100 bytes of memory, however short it is.
const (
	maxText  = 8 << 20
	maxLines = 500_000
)

// text compares line by line.
func (c *comparison) text(r *Result, a, b []byte) bool {
	lineEnd := []byte("\n")
	if len(a) > maxText || len(b) > maxText || bytes.Count(a, lineEnd) > maxLines || bytes.Count(b, lineEnd) > maxLines {
		r.Notes = append(r.Notes, "it is too long to be compared line by line")
		return false
	}
	lines := strings.SplitAfter(string(diff.Diff("A", a, "B", b)), "\n")
	const head = 3 // the command, and the names of both
	lines = lines[min(head, len(lines)):]
	if n := len(lines); n > 0 && lines[n-1] == "" {
		lines = lines[:n-1]
	}
	for _, line := range lines {
		if len(r.Diff) == c.limits.Lines {
			r.MoreDiff++
			continue
		}
		r.Diff = append(r.Diff, excerpt.Raw(strings.TrimSuffix(line, "\n")))
	}
	if sameLines(a, b) {
		r.caused(Cause{Name: Order, A: "lines", B: "the same lines in another order"})
		r.Explained = true
		return true
	}
	r.Explained = c.explainLines(r, lines, bytes.HasPrefix(a, []byte("#!")))
	return true
}

// sameLines reports whether b has the lines of a in another order.
func sameLines(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	sorted := func(data []byte) [][]byte {
		lines := bytes.Split(data, []byte("\n"))
		slices.SortFunc(lines, bytes.Compare)
		return lines
	}
	return slices.EqualFunc(sorted(a), sorted(b), bytes.Equal)
}

// explainLines looks for the causes of each changed line, and reports whether it found
// one for each. In a script, a directory decides what runs, so it is no cause there.
func (c *comparison) explainLines(r *Result, lines []string, script bool) bool {
	known := make(directories)
	all := true
	var removed, added []string
	end := func() {
		if len(removed) != len(added) {
			all = false
		}
		for i := range min(len(removed), len(added)) {
			causes, ok := explainStrings(removed[i], added[i], known)
			if slices.ContainsFunc(causes, func(c Cause) bool {
				return script && (c.Name == BuildDir || c.Name == CoreCount) || c.Name == BuildDir && (!nixBuild().MatchString(string(c.A)) || !nixBuild().MatchString(string(c.B)))
			}) {
				ok = false
			}
			if !ok {
				all = false
				continue
			}
			for _, cause := range causes {
				r.caused(cause)
			}
		}
		removed, added = nil, nil
	}
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "-"):
			if len(added) > 0 {
				end()
			}
			removed = append(removed, line[1:])
		case strings.HasPrefix(line, "+"):
			added = append(added, line[1:])
		default:
			end()
		}
	}
	end()
	return all
}
