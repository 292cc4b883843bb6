package report

import (
	"regexp"
	"strings"
	"sync"

	"github.com/jedib0t/go-pretty/v6/text"
)

// fold breaks the lines of s at blanks, so that none is wider than width cells of a
// terminal, and indents the continuation; 0 leaves s unchanged. A word that is wider than
// a line is shortened, which "…" shows: a store path first loses its hash.
func fold(s string, width int) string { return foldWords(s, width, cutWord) }

// folded is fold for a single line without a line end.
func folded(line string, width int) string {
	return strings.TrimSuffix(fold(line+"\n", width), "\n")
}

// Fold breaks the lines of s at blanks, so that none is wider than width cells of a
// terminal, and indents the continuation; 0 leaves s unchanged. A word that is wider than
// a line stays whole, so that it can be copied.
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

// foldIndent is how far a continuation is indented beyond its line.
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
			// A word that fits on a line by itself is not shortened for the indentation.
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

// cells returns the width of s on a terminal.
func cells(s string) int { return text.StringWidthWithoutEscSequences(s) }

// fit shortens a line to at most width cells; 0 leaves it unchanged. It removes the
// hashes of store paths first, then the end, at a blank.
func fit(line string, width int) string {
	if width <= 0 || cells(line) <= width {
		return line
	}
	line = storeHash().ReplaceAllString(line, "/nix/store/…-")
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

var storeHash = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`) })

// cutWord shortens a word to at most width cells: it removes the hashes of its store
// paths and, if that is not enough, the end, after a separator if there is one in the
// second half.
func cutWord(word string, width int) string {
	if cells(word) <= width {
		return word
	}
	word = storeHash().ReplaceAllString(word, "/nix/store/…-")
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
