package terminal

import (
	"fmt"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// Value words a value that an outsider may have written: escaped, of bounded length,
// and "none" for "".
func Value[S ~string](s S) string {
	if s == "" {
		return "none"
	}
	return report.Escape(Clipped(s))
}

// Clipped keeps a value that people are shown to a length.
func Clipped[S ~string](s S) string { return excerpt.Of(string(s), 400) }

// Plural counts in words: "1 file is", "2 files are".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
