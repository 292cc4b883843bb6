package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"every.channel/ec-verify/pkg/excerpt"
)

// Escape returns s with everything that a terminal, a log or a reader's eye
// could be misled by written as a Go escape: control characters, line ends,
// invalid UTF-8, and the invisible and direction-changing characters of
// Unicode. A backslash is doubled, so that the result is unambiguous.
func Escape(s string) string {
	clean := func(r rune, size int) bool {
		return (r != utf8.RuneError || size > 1) && r != '\\' && unicode.IsPrint(r) && !unicode.In(r, invisible...)
	}
	i := 0
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !clean(r, size) {
			break
		}
		i += size
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if clean(r, size) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteToASCII(s[i : i+size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// invisible is what counts as printable by its category and leaves nothing on
// the screen, or changes only what is before it.
var invisible = []*unicode.RangeTable{
	unicode.Other_Default_Ignorable_Code_Point, // fillers, joiners
	unicode.Variation_Selector,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}}, // a Braille cell without dots
}

// PrintableJSON returns a text in JSON with what [Escape] escapes written as JSON's
// escapes, so that a terminal which shows it is not misled, and '<', '>' and '&' as well,
// so that a page which holds it is not. Its values stay the same.
func PrintableJSON(text []byte) []byte {
	plain := func(r rune) bool {
		return r == '\n' || r < utf8.RuneSelf && r != 0x7f && r != '<' && r != '>' && r != '&' || r >= utf8.RuneSelf && unicode.IsPrint(r) && !unicode.In(r, invisible...)
	}
	out := make([]byte, 0, len(text)+len(text)/64)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case plain(r):
			out = append(out, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}

// EscapeBounded is Escape for a field of unknown length, of which limit bytes are kept.
func EscapeBounded(s string, limit int) string { return escapeBounded(s, limit) }

func escapeBounded(s string, limit int) string { return Escape(excerpt.Of(s, limit)) }
