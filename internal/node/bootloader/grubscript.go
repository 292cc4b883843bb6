package bootloader

import (
	"iter"
	"slices"
	"strings"
)

// grubCommand is one simple command of a GRUB script.
type grubCommand struct {
	// words are its words as GRUB has them without their quotes, the keywords of
	// conditions and loops before the command left out.
	words []string
	// text is what was written after the first word.
	text string
	// opens says that a block follows, closes that the block around it ends here.
	opens, closes bool
	// computed says that the first word is the value of a variable.
	computed bool
}

// grubKeywords may stand before a command.
var grubKeywords = []string{"if", "then", "else", "elif", "while", "until", "do", "time", "!"}

// grubCommands splits a script into its commands, as GRUB's lexer does: quotes and
// backslashes hide what ends a word or a command, and a line may go on in the next.
func grubCommands(script string) iter.Seq[grubCommand] {
	return func(yield func(grubCommand) bool) { splitGrub(grubLines(script), yield) }
}

func splitGrub(rest string, yield func(grubCommand) bool) {
	var (
		more    = true
		c       grubCommand
		word    strings.Builder
		inWord  bool
		assigns bool // the word is "name=value"
		text    = -1 // where the text of c begins
		put     = func(b byte) {
			inWord, assigns = true, assigns || b == '='
			word.WriteByte(b)
		}
		// A variable in the first word is a part of the command's name.
		variable = func() { c.computed = c.computed || len(c.words) == 0 && !assigns }
		endWord  = func(at int) {
			if !inWord {
				return
			}
			w := word.String()
			word.Reset()
			inWord, assigns = false, false
			if len(c.words) == 0 && !c.computed && slices.Contains(grubKeywords, w) {
				return
			}
			if c.words = append(c.words, w); len(c.words) == 1 {
				text = at
			}
		}
		endCommand = func(at int) {
			endWord(at)
			if text >= 0 {
				c.text = strings.TrimSpace(rest[text:at])
			}
			if len(c.words) > 0 || c.opens || c.closes {
				more = more && yield(c)
			}
			c, text = grubCommand{}, -1
		}
	)
	for i := 0; i < len(rest) && more; i++ {
		switch b := rest[i]; {
		case b == '\n' || b == ';' || b == '&' || b == '|':
			endCommand(i)
		case b == '{':
			c.opens = true
			endCommand(i)
		case b == '}':
			endCommand(i)
			c.closes = true
			endCommand(i)
		case b == ' ' || b == '\t':
			endWord(i)
		case b == '#' && !inWord:
			endCommand(i)
			for i+1 < len(rest) && rest[i+1] != '\n' {
				i++
			}
		case b == '\\' && i+1 < len(rest):
			if i++; rest[i] != '\n' {
				put(rest[i])
			}
		case b == '\'' || b == '"':
			inWord = true
			for i++; i < len(rest) && rest[i] != b; i++ {
				if b == '"' && rest[i] == '\\' && i+1 < len(rest) {
					if i++; rest[i] == '\n' {
						continue
					}
				} else if b == '"' && rest[i] == '$' {
					variable()
				}
				put(rest[i])
			}
		case b == '$':
			variable()
			put(b)
			if i+1 < len(rest) && rest[i+1] == '{' {
				for i++; i < len(rest) && rest[i] != '}' && rest[i] != '\n'; i++ {
					put(rest[i])
				}
				put('}')
			}
		default:
			put(b)
		}
	}
	endCommand(len(rest))
}

// grubLines returns the lines that GRUB's lexer is given: those that begin with a
// "#" are left out even between quotes, and so are carriage returns.
func grubLines(script string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(script, "\r", "")) {
		if line[0] != '#' {
			b.WriteString(line)
		}
	}
	return b.String()
}
