package render

import (
	"fmt"

	"every.channel/ec-verify/internal/report"
)

// maxRendered limits a document's findings, in bytes of the format that takes most for
// them: forges refuse much larger ones, and browsers show them slowly.
const maxRendered = 16 << 20

// bytes returns the most that it takes in any format: a SARIF result, with the longest
// escape for each byte.
func (it *Item) bytes() int {
	const frame, escaped = 700, 6
	n := len(it.Name)
	for _, line := range it.Lines {
		n += len(line)
	}
	return frame + escaped*n
}

// Bound removes the findings of d beyond maxRendered and counts them: the last ones of
// each group, and harmless groups before others. Call it after all groups are added.
func (d *Document) Bound() {
	left := maxRendered
	kept := make([]int, len(d.Groups))
	for _, all := range []bool{false, true} { // one of each group first
		for _, tone := range []Tone{Bad, Unknown, Note} {
			for i := range d.Groups {
				g := &d.Groups[i]
				if g.Tone != tone {
					continue
				}
				for kept[i] < len(g.Items) && (all || kept[i] == 0) && g.Items[kept[i]].bytes() <= left {
					left -= g.Items[kept[i]].bytes()
					kept[i]++
				}
			}
		}
	}
	groups := d.Groups[:0]
	for i, g := range d.Groups {
		d.Left += len(g.Items) - kept[i]
		if g.Left = len(g.Items) - kept[i]; kept[i] > 0 {
			g.Items = g.Items[:kept[i]]
			groups = append(groups, g)
		}
	}
	d.Groups = groups
}

// Unlisted describes the findings that are not in d's groups.
func (d *Document) Unlisted() []string {
	var out []string
	if d.More > 0 {
		out = append(out, fmt.Sprintf("the report counts %s more that it does not list", report.Quantity(d.More, "finding")))
	}
	if d.Left > 0 {
		out = append(out, fmt.Sprintf("%s left out here, as there are too many to show: the report in JSON lists them", report.Quantity(d.Left, "finding")))
	}
	return out
}
