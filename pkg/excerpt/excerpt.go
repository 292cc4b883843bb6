// Package excerpt is about untrusted text, such as a file name, a line from a server, the
// output of a program: [Of] and [List] shorten it for a message, [Raw] keeps it in JSON.
package excerpt

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Of returns s or, if s has more than limit bytes, its first bytes followed by an
// ellipsis, which is not counted. It never splits a character; invalid UTF-8 is kept.
// The limit is 4 or more.
func Of(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for end := limit; end > limit-utf8.UTFMax; end-- {
		if utf8.RuneStart(s[end]) {
			limit = end
			break
		}
	}
	return s[:limit] + "…"
}

// List joins the first most strings of list: "a, b and 3 more" for sep ", ".
func List[S ~string](list []S, sep string, most int) string {
	var b strings.Builder
	for i, s := range list[:min(most, len(list))] {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(string(s))
	}
	if more := len(list) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}
