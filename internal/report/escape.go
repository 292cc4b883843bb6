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

// Escape returns s with everything that could mislead a terminal, a log or a reader
// written as a Go escape: control characters, line ends, invalid UTF-8, and Unicode's
// invisible and direction-changing characters. A backslash is doubled, so that the result
// is unambiguous.
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

// invisible are the characters that are printable by category, but show nothing or only
// change the character before them.
var invisible = []*unicode.RangeTable{
	unicode.Other_Default_Ignorable_Code_Point, // fillers, joiners
	unicode.Variation_Selector,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}}, // a Braille cell without dots
}

// PrintableJSON returns JSON text with the characters that [Escape] escapes written as
// JSON escapes, so that it cannot mislead a terminal, and '<', '>' and '&' as well, so
// that it cannot break out of an HTML page. The values stay the same. Text without such
// characters is returned as it is.
func PrintableJSON(text []byte) []byte {
	plain := func(r rune) bool {
		return r == '\n' || r < utf8.RuneSelf && r != 0x7f && r != '<' && r != '>' && r != '&' || r >= utf8.RuneSelf && unicode.IsPrint(r) && !unicode.In(r, invisible...)
	}
	var out []byte
	copied := 0 // how much of text is in out
	for i := 0; i < len(text); {
		if b := text[i]; b >= ' ' && b < 0x7f && b != '<' && b != '>' && b != '&' {
			i++ // most of them
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		i += size
		if plain(r) {
			continue
		}
		out = append(out, text[copied:i-size]...)
		copied = i
		if r > 0xffff {
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	if copied == 0 {
		return text
	}
	return append(out, text[copied:]...)
}

// EscapeBounded is Escape for a field of unknown length; it keeps limit bytes.
func EscapeBounded(s string, limit int) string { return escapeBounded(s, limit) }

func escapeBounded[S ~string](s S, limit int) string { return Escape(excerpt.Of(string(s), limit)) }
