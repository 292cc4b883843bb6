package report

import (
	"regexp"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// fold breaks the lines of s at blanks, so that none is wider than width cells of
// a terminal, and indents what follows under its line; 0 leaves s as it is. A word
// that is wider than a line is cut, which "…" shows: a store path first loses its
// hash as a whole.
func fold(s string, width int) string { return foldWords(s, width, cutWord) }

// folded is fold for one line that has no end.
func folded(line string, width int) string {
	return strings.TrimSuffix(fold(line+"\n", width), "\n")
}

// Fold breaks the lines of s at blanks, so that none is wider than width cells of a
// terminal, and indents what follows under its line; 0 leaves s as it is. A word that is
// wider than a line stays whole, to be copied.
func Fold(s string, width int) string {
	return foldWords(s, width, func(word string, _ int) string { return word })
}

func foldWords(s string, width int, cut func(word string, width int) string) string {
	if width <= 0 {
		return s
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		foldLine(&b, strings.TrimRight(line, "\n"), width, cut)
	}
	return b.String()
}

// foldIndent is how far the rest of a line is indented, beyond the line.
const foldIndent = 4

func foldLine(b *strings.Builder, line string, width int, cut func(word string, width int) string) {
	rest := strings.TrimLeft(line, " ")
	indent := len(line) - len(rest)
	if cells(line) <= width {
		b.WriteString(line + "\n")
		return
	}
	at := min(indent, width/2)
	b.WriteString(strings.Repeat(" ", at))
	next := min(indent+foldIndent, width/2)
	for i, gap := 0, ""; rest != ""; i++ {
		word, after := rest, ""
		if end := strings.IndexByte(rest, ' '); end >= 0 {
			word, after = rest[:end], rest[end:]
		}
		rest = strings.TrimLeft(after, " ")
		if i > 0 && at+len(gap)+cells(word) > width {
			// A word that fits a line by itself is not cut for its indentation.
			at = min(next, max(0, width-cells(word)))
			b.WriteString("\n" + strings.Repeat(" ", at))
		} else {
			b.WriteString(gap)
			at += len(gap)
		}
		word = cut(word, width-at)
		b.WriteString(word)
		at += cells(word)
		gap = after[:len(after)-len(rest)]
	}
	b.WriteByte('\n')
}

// cells is how wide s is on a terminal.
func cells(s string) int { return text.StringWidthWithoutEscSequences(s) }

// fit returns a line that is at most width cells wide; 0 leaves it as it is. It
// loses the hashes of its store paths first, then its end, at a blank.
func fit(line string, width int) string {
	if width <= 0 || cells(line) <= width {
		return line
	}
	line = storeHash.ReplaceAllString(line, "/nix/store/…-")
	if cells(line) <= width {
		return line
	}
	folded := fold(line+"\n", width-2) // for the " …"
	first, _, _ := strings.Cut(folded, "\n")
	if cells(first) < width/2 {
		return cutWord(line, width) // one word is most of it
	}
	if strings.HasSuffix(first, "…") {
		return first
	}
	return first + " …"
}

var storeHash = regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`)

// cutWord returns a word that is at most width cells wide: without the hashes of
// its store paths, and where that is not enough, without its end. It is cut after
// a separator, if there is one in its second half.
func cutWord(word string, width int) string {
	if cells(word) <= width {
		return word
	}
	word = storeHash.ReplaceAllString(word, "/nix/store/…-")
	if cells(word) <= width {
		return word
	}
	kept, wide := 0, 0
	for i, r := range word {
		n := text.RuneWidth(r)
		if wide+n > width-1 { // one for the "…"
			break
		}
		kept, wide = i+len(string(r)), wide+n
	}
	if at := strings.LastIndexAny(word[:kept], "/-_.,:;="); at >= kept/2 {
		kept = at + 1
	}
	return word[:kept] + "…"
}
