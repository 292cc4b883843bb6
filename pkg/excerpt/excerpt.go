// Package excerpt shortens what a stranger wrote before it becomes part of a
// message: a name of a file, a line of a server, the output of a program.
package excerpt

import "unicode/utf8"

// Of returns s, or where s has more than limit bytes the first of them with an
// ellipsis, which is not counted. No character is cut in two; bytes that are no
// UTF-8 stay as they are. The limit is 4 or more.
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
