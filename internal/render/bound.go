package render

import "fmt"

// maxRendered bounds what a document's findings make, in bytes of the format that
// takes most for them: forges refuse what is much larger, and browsers show it slowly.
const maxRendered = 16 << 20

// bytes is the most that it takes in any format: a result of SARIF, and the longest
// escape of each byte.
func (it *Item) bytes() int {
	const frame, escaped = 700, 6
	n := len(it.Name)
	for _, line := range it.Lines {
		n += len(line)
	}
	return frame + escaped*n
}

// Bound leaves out the findings of d that are beyond maxRendered, and counts them: of
// each group the last ones, and those that are no trouble before those that are. It
// is to be called once d has all its groups.
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

// Unlisted says which findings there are beyond those of d's groups.
func (d *Document) Unlisted() []string {
	var out []string
	if d.More > 0 {
		out = append(out, fmt.Sprintf("the report counts %s more that it does not list", quantity(int64(d.More), "finding")))
	}
	if d.Left > 0 {
		out = append(out, fmt.Sprintf("%s left out here, as there are too many to show: the report in JSON lists them", quantity(int64(d.Left), "finding")))
	}
	return out
}
