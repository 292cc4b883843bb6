package report

import (
	"fmt"
	"strings"
)

// Line returns f in one line that is safe to show anywhere: class, meaning of the cause,
// subject, and the first file that differs.
func (f *Finding) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s [%s, %s]", f.Class(), Title(f.Cause), f.Tier, f.Cause)
	separator := ": "
	add := func(s string) {
		if s != "" {
			b.WriteString(separator + s)
			separator = " "
		}
	}
	add(escapeBounded(f.Path, maxShown))
	add(escapeBounded(f.Field, maxShown))
	if of := f.Of(); of != "" {
		add("(" + of + ")")
	}
	if len(f.Files) > 0 {
		c := f.Files[0]
		add(shownName(c.Path) + " " + changeWords[c.Kind])
		if more := len(f.Files) - 1 + f.MoreFiles; more > 0 {
			add(fmt.Sprintf("and %s more", Quantity(more, "file")))
		}
	}
	if f.Detail != "" {
		add("(" + escapeBounded(f.Detail, maxShown) + ")")
	}
	return b.String()
}
