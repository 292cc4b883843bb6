package testhost

import (
	"fmt"
	"strings"
)

// ChangedLines returns the lines that one of two texts has and the other has not,
// each with how many more of it the second has.
func ChangedLines(before, after string) string {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var b strings.Builder
	for line, n := range count {
		if n != 0 {
			fmt.Fprintf(&b, "%+d %s", n, line)
		}
	}
	return b.String()
}
