package report

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jedib0t/go-pretty/v6/text"
)

// fold breaks the lines of s at blanks, so that none is wider than width cells of a
// terminal, and indents the continuation; 0 leaves s unchanged. A word that is wider than
// a line is shortened, which "…" shows: a store path first loses its hash.
func fold(s string, width int) string { return foldWords(s, width, hashesIn(s).cutWord) }

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
func (h hashes) fit(line string, width int) string {
	if width <= 0 || cells(line) <= width {
		return line
	}
	line = h.drop(line)
	if cells(line) <= width {
		return line
	}
	folded := foldWords(line+"\n", width-2, h.cutWord) // for the " …"
	first, _, _ := strings.Cut(folded, "\n")
	if cells(first) < width/2 {
		return h.cutWord(line, width) // one word is most of it
	}
	if strings.HasSuffix(first, "…") {
		return first
	}
	return first + " …"
}

// foldedTo is folded to at most most lines: the rest is cut.
func foldedTo(line string, width, most int) string {
	lines := strings.SplitN(folded(line, width), "\n", most+1)
	if len(lines) <= most {
		return strings.Join(lines, "\n")
	}
	last := lines[most-1] + " " + strings.Join(strings.Fields(lines[most]), " ")
	return strings.Join(append(lines[:most-1:most-1], hashesIn(line).fit(last, width)), "\n")
}

// hashes are the hashes of store paths that must not be removed as a whole, because paths
// with different hashes have one name, and how many of their first digits tell them apart.
type hashes map[string]int

// hashesIn returns the hashes that tell store paths in s apart.
func hashesIn(s string) hashes {
	const least = 8
	of := make(map[string][]string) // the hashes of a name
	for _, m := range storePath().FindAllStringSubmatch(s, -1) {
		if !slices.Contains(of[m[2]], m[1]) {
			of[m[2]] = append(of[m[2]], m[1])
		}
	}
	h := make(hashes)
	for _, same := range of {
		if len(same) == 1 {
			continue
		}
		slices.Sort(same)
		digits := least
		for i := 1; i < len(same); i++ {
			digits = max(digits, common(same[i-1], same[i])+1)
		}
		for _, hash := range same {
			h[hash] = max(h[hash], digits)
		}
	}
	return h
}

// drop replaces the hashes of the store paths in s by "…"; those of h keep their first
// digits.
func (h hashes) drop(s string) string {
	return storePath().ReplaceAllStringFunc(s, func(path string) string {
		m := storePath().FindStringSubmatch(path)
		return "/nix/store/" + m[1][:h[m[1]]] + "…-" + m[2]
	})
}

var storePath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`/nix/store/([0-9a-z]{32})-([0-9A-Za-z+._?=-]*)`)
})

// cutWord shortens a word to at most width cells: it removes the hashes of its store
// paths and, if that is not enough, the middle.
func (h hashes) cutWord(word string, width int) string {
	if cells(word) <= width {
		return word
	}
	return CutMiddle(h.drop(word), width)
}

// CutMiddle shortens s to at most width cells: "…" takes the place of its middle, since
// the end of a name, such as a version, says as much as its beginning.
func CutMiddle(s string, width int) string {
	if cells(s) <= width {
		return s
	}
	tail := max(0, width-1) / 2
	return begin(s, max(0, width-1-tail)) + "…" + end(s, tail)
}

// begin returns the longest beginning of s with at most width cells, and end the longest
// end.
func begin(s string, width int) string {
	for i, r := range s {
		if width -= text.RuneWidth(r); width < 0 {
			return s[:i]
		}
	}
	return s
}

func end(s string, width int) string {
	runes := []rune(s)
	for i := len(runes) - 1; i >= 0; i-- {
		if width -= text.RuneWidth(runes[i]); width < 0 {
			return string(runes[i+1:])
		}
	}
	return s
}

// common returns the length of the common beginning of a and b: whole characters, in bytes.
func common(a, b string) int {
	for i, r := range a {
		if !strings.HasPrefix(b[min(i, len(b)):], string(r)) {
			return i
		}
	}
	return len(a)
}

// pair shortens two values to at most width cells together. What is left of each shows
// where they differ.
func pair(a, b string, width int) (string, string) {
	half := width / 2
	toA, toB := half, width-half
	switch {
	case cells(a) < toA:
		toA, toB = cells(a), width-cells(a)
	case cells(b) < toB:
		toA, toB = width-cells(b), cells(b)
	}
	from := common(a, b)
	return around(a, from, toA), around(b, from, toB)
}

// around shortens s to at most width cells and keeps what follows s[:from].
func around(s string, from, width int) string {
	if cells(s) <= width {
		return s
	}
	if cells(s[:from]) > width/2 {
		s = "…" + end(s[:from], width/4) + s[from:]
	}
	if cells(s) <= width {
		return s
	}
	return begin(s, max(0, width-1)) + "…"
}
