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
	return func(yield func(grubCommand) bool) {
		l := &grubLexer{script: grubLines(script), text: -1, yield: yield}
		for ; l.at < len(l.script) && !l.stopped; l.at++ {
			l.step(l.script[l.at])
		}
		l.at = len(l.script)
		l.endCommand()
	}
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
}

// step reads b, the byte at l.at, and what belongs to it.
func (l *grubLexer) step(b byte) {
	switch {
	case strings.IndexByte("\n;&|", b) >= 0:
		l.endCommand()
	case b == '{':
		l.command.opens = true
		l.endCommand()
	case b == '}':
		l.endCommand()
		l.command.closes = true
		l.endCommand()
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
		}
	case b == '\'' || b == '"':
		l.quoted(b)
	case b == '$':
		l.expansion()
	default:
		l.put(b)
	}
}

// expansion reads "$" and the name in braces after it, if there is one.
func (l *grubLexer) expansion() {
	l.variable()
	l.put('$')
	if l.at+1 < len(l.script) && l.script[l.at+1] == '{' {
		for l.at++; l.at < len(l.script) && l.script[l.at] != '}' && l.script[l.at] != '\n'; l.at++ {
			l.put(l.script[l.at])
		}
		l.put('}')
	}
}

// quoted reads up to the quote that ends what began with one.
func (l *grubLexer) quoted(quote byte) {
	l.inWord = true
	for l.at++; l.at < len(l.script) && l.script[l.at] != quote; l.at++ {
		switch b := l.script[l.at]; {
		case quote == '"' && b == '\\' && l.at+1 < len(l.script):
			if l.at++; l.script[l.at] == '\n' {
				continue
			}
		case quote == '"' && b == '$':
			l.variable()
		}
		l.put(l.script[l.at])
	}
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
	w := l.word.String()
	l.word.Reset()
	l.inWord, l.assigns = false, false
	c := &l.command
	if len(c.words) == 0 && !c.computed && slices.Contains(grubKeywords, w) {
		return
	}
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
	if len(c.words) > 0 || c.opens || c.closes {
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
