package bootloader

import (
	"iter"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	// before are the keywords before the command. hidden says that the first word is none,
	// whatever it says.
	before []string
	hidden bool
	// odd says that GRUB finds no command there, and leaves out what it belongs to.
	odd bool
}

// grubKeywords may stand before a command.
var grubKeywords = []string{"if", "then", "else", "elif", "while", "until", "do", "time", "!"}

// isGrubPrefix reports whether a word is a command that runs the one that follows.
func isGrubPrefix(word string) bool { return word == "time" || word == "!" }

// grubCommands splits a script into its commands, as GRUB's lexer does: quotes and
// backslashes hide what ends a word or a command, and a line may go on in the next.
func grubCommands(script string) iter.Seq[grubCommand] {
	return func(yield func(grubCommand) bool) {
		l := &grubLexer{script: grubLines(script), text: -1, yield: yield}
		for ; l.at < len(l.script) && !l.stopped; l.at++ {
			l.step(l.script[l.at])
		}
		l.at = len(l.script)
		l.endCommand()
	}
}

// endsBadly ends a command, and notes that GRUB finds none there.
func (l *grubLexer) endsBadly() {
	l.command.odd = true
	l.endCommand()
}

// grubLexer is the reading of a script.
type grubLexer struct {
	script  string
	at      int // the byte that is read
	yield   func(grubCommand) bool
	stopped bool // yield wants no more

	command grubCommand
	text    int // where the text of the command begins, -1 before that
	word    strings.Builder
	inWord  bool
	assigns bool // the word is "name=value"
	hidden  bool // a part of the word has quotes
	some    bool // a command has come since what separates it from others
}

// step reads b, the byte at l.at, and what belongs to it.
func (l *grubLexer) step(b byte) {
	switch {
	case b == '\n':
		l.endCommand()
		l.some = false
	case b == ';':
		if l.endWord(); l.some {
			l.endCommand()
		} else {
			l.endsBadly()
		}
		l.some = false
	case strings.IndexByte("&|<>", b) >= 0:
		l.endsBadly()
	case b == '{':
		l.command.opens = true
		l.endCommand()
		l.some = false
	case b == '}':
		l.endCommand()
		l.command.closes = true
		l.endCommand()
		l.some = true
	case b == ' ' || b == '\t':
		l.endWord()
	case b == '#' && !l.inWord:
		l.endCommand()
		for l.at+1 < len(l.script) && l.script[l.at+1] != '\n' {
			l.at++
		}
	case b == '\\' && l.at+1 < len(l.script):
		if l.at++; l.script[l.at] != '\n' {
			l.put(l.script[l.at])
		} else if !l.inWord && len(l.command.words) == 0 {
			l.command.odd = true // to GRUB it is the command, and has no name
		}
		l.hidden = l.inWord
	case b == '\'' || b == '"':
		l.quoted(b)
	case b == '$':
		l.expansion()
	default:
		l.put(b)
	}
}

// grubVariable is what follows "$".
var grubVariable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[A-Za-z_0-9?#*@]|\{(?:[A-Za-z_][A-Za-z_0-9]*|[0-9]+|[?#*@])\})`)
})

// expansion reads "$" and the name in braces after it, if there is one.
func (l *grubLexer) expansion() {
	l.variable()
	l.put('$')
	after := l.script[l.at+1:]
	l.command.odd = l.command.odd || !strings.HasPrefix(after, `"`) && !grubVariable().MatchString(after)
	if l.at+1 < len(l.script) && l.script[l.at+1] == '{' {
		for l.at++; l.at < len(l.script) && l.script[l.at] != '}' && l.script[l.at] != '\n'; l.at++ {
			l.put(l.script[l.at])
		}
		l.put('}')
	}
}

// quoted reads up to the quote that ends what began with one.
func (l *grubLexer) quoted(quote byte) {
	l.inWord, l.hidden = true, true
	for l.at++; l.at < len(l.script) && l.script[l.at] != quote; l.at++ {
		switch b := l.script[l.at]; {
		case quote == '"' && b == '\\' && l.at+1 < len(l.script):
			// It is left before all that needs none.
			if l.at++; l.script[l.at] == '\n' {
				continue
			} else if strings.IndexByte(`$\"`, l.script[l.at]) < 0 {
				l.put('\\')
			}
		case quote == '"' && b == '$':
			l.variable()
			l.command.odd = l.command.odd || !grubVariable().MatchString(l.script[l.at+1:])
		}
		l.put(l.script[l.at])
	}
	l.command.odd = l.command.odd || l.at >= len(l.script)
}

func (l *grubLexer) put(b byte) {
	l.inWord, l.assigns = true, l.assigns || b == '='
	l.word.WriteByte(b)
}

// variable notes a variable, which in the first word is a part of the command's name.
func (l *grubLexer) variable() {
	l.command.computed = l.command.computed || len(l.command.words) == 0 && !l.assigns
}

func (l *grubLexer) endWord() {
	if !l.inWord {
		return
	}
	w, hidden := l.word.String(), l.hidden
	l.word.Reset()
	l.inWord, l.assigns, l.hidden = false, false, false
	c := &l.command
	c.hidden = c.hidden || len(c.words) == 0 && (hidden || slices.ContainsFunc(c.before, isGrubPrefix))
	if !c.hidden && !c.computed && len(c.words) == 0 && slices.Contains(grubKeywords, w) || len(c.words) == 0 && isGrubPrefix(w) {
		c.before = append(c.before, w)
		l.some = isGrubPrefix(w)
		return
	}
	l.some = true
	c.odd = c.odd || !hidden && (w == "[[" || w == "]]" || len(c.words) == 0 && slices.Contains([]string{"case", "esac", "in", "select"}, w))
	if c.words = append(c.words, w); len(c.words) == 1 {
		l.text = l.at
	}
}

func (l *grubLexer) endCommand() {
	l.endWord()
	c := l.command
	if l.text >= 0 {
		c.text = strings.TrimSpace(l.script[l.text:l.at])
	}
	if len(c.words) > 0 || len(c.before) > 0 || c.opens || c.closes || c.odd {
		l.stopped = l.stopped || !l.yield(c)
	}
	l.command, l.text = grubCommand{}, -1
}

// grubLines returns the lines that GRUB's lexer is given: those that begin with a
// "#" are left out even between quotes, and so are carriage returns, and what follows a
// zero byte.
func grubLines(script string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(script, "\r", "")) {
		if line[0] == '#' {
			continue
		}
		before, _, cut := strings.Cut(line, "\x00")
		if b.WriteString(before); cut {
			b.WriteByte('\n')
		}
	}
	return b.String()
}
