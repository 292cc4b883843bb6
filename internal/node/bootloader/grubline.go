package bootloader

import "strings"

// GrubLine returns the command line that a kernel receives for parameters in a grub.cfg. GRUB
// removes quotes and backslashes from the words, puts words with a space in quotes, and puts
// a backslash before each remaining quote and backslash. ok is false if GRUB ends the command
// before the last parameter, or if a parameter has a variable.
func GrubLine(parameters string) (line string, ok bool) {
	if strings.Contains(parameters, "$") {
		return "", false
	}
	commands := 0
	var words []string
	for c := range grubCommands("linux " + parameters) {
		if commands++; commands > 1 || c.opens || c.closes || c.odd || len(c.words) == 0 {
			return "", false
		}
		words = c.words[1:]
	}
	for i, word := range words {
		words[i] = grubWord(word)
	}
	return strings.Join(words, " "), true
}

// grubWord returns the form in which GRUB writes a word to a command line.
func grubWord(word string) string {
	isHex := func(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		c := word[i]
		switch {
		case c == '\\' && i+3 < len(word) && word[i+1] == 'x' && isHex(word[i+2]) && isHex(word[i+3]):
		case c == '\\' || c == '\'' || c == '"':
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	if strings.Contains(word, " ") {
		return `"` + b.String() + `"`
	}
	return b.String()
}
