package repository

import (
	"regexp"
	"strings"
)

// Token is a word of a Nix file: an identifier, a keyword, an operator, a
// number, or a piece of a string's or path's text. Comments and white space are
// not tokens. The tokens of an interpolation are between "${" and "}".
type Token struct {
	Text string
	// Kind is one of the constants below.
	Kind Kind
	// Line counts from 1.
	Line int
}

// Kind tells tokens apart that may look alike.
type Kind int

// Kinds of tokens.
const (
	Word   Kind = iota // an identifier or a keyword
	Symbol             // an operator, a bracket, a number
	Text               // of a string or a path
)

var (
	wordPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_'-]*`)
	// A path has a slash in it; what follows ${ is again a path's piece.
	pathPattern   = regexp.MustCompile(`^(<[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*>|[A-Za-z0-9._+~-]*(/[A-Za-z0-9._+-]+)+/?)`)
	numberPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?`)
	symbolPattern = regexp.MustCompile(`^(\.\.\.|\$\{|//|\+\+|->|==|!=|<=|>=|&&|\|\||.)`)
)

// Tokens splits a Nix file. A file that Nix does not parse gives some tokens
// all the same.
func Tokens(src string) []Token {
	s := &scanner{src: src, line: 1}
	s.code("")
	return s.tokens
}

type scanner struct {
	src    string
	at     int
	line   int
	tokens []Token
}

func (s *scanner) rest() string { return s.src[s.at:] }

// take moves on by n bytes.
func (s *scanner) take(n int) string {
	text := s.src[s.at : s.at+n]
	s.at += n
	s.line += strings.Count(text, "\n")
	return text
}

func (s *scanner) emit(kind Kind, n int) {
	line := s.line
	s.tokens = append(s.tokens, Token{Text: s.take(n), Kind: kind, Line: line})
}

// code reads until the bracket that closes it, and that too; "" is the end of
// the file.
func (s *scanner) code(closing string) {
	for s.at < len(s.src) {
		rest := s.rest()
		switch {
		case strings.HasPrefix(rest, "#"):
			s.take(len(firstLine(rest)))
		case strings.HasPrefix(rest, "/*"):
			s.take(until(rest, "*/"))
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			s.take(1)
		case rest[0] == '"':
			s.text(1, `"`)
		case strings.HasPrefix(rest, "''"):
			s.text(2, "''")
		case pathPattern.MatchString(rest) && !strings.HasPrefix(rest, "//"):
			s.emit(Text, len(pathPattern.FindString(rest)))
		case wordPattern.MatchString(rest):
			s.emit(Word, len(wordPattern.FindString(rest)))
		case numberPattern.MatchString(rest):
			s.emit(Symbol, len(numberPattern.FindString(rest)))
		default:
			symbol := symbolPattern.FindString(rest)
			s.emit(Symbol, max(1, len(symbol)))
			if symbol == closing {
				return
			}
			if symbol == "{" || symbol == "${" {
				s.code("}")
			}
		}
	}
}

// text reads a string that a quote of n bytes opens.
func (s *scanner) text(n int, quote string) {
	s.take(n)
	start, line := s.at, s.line
	flush := func() {
		if s.at > start {
			s.tokens = append(s.tokens, Token{Text: s.src[start:s.at], Kind: Text, Line: line})
		}
	}
	for s.at < len(s.src) {
		rest := s.rest()
		switch {
		// What is no quote and no interpolation, though it looks like one.
		case quote == `"` && rest[0] == '\\' && len(rest) > 1:
			s.take(2)
		case quote == "''" && (strings.HasPrefix(rest, "'''") || strings.HasPrefix(rest, "''$")):
			s.take(3)
		case quote == "''" && strings.HasPrefix(rest, `''\`) && len(rest) > 3:
			s.take(4)
		case strings.HasPrefix(rest, "$${"):
			s.take(3)
		case strings.HasPrefix(rest, quote):
			flush()
			s.take(n)
			return
		case strings.HasPrefix(rest, "${"):
			flush()
			s.emit(Symbol, 2)
			s.code("}")
			start, line = s.at, s.line
		default:
			s.take(1)
		}
	}
	flush()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// until returns how many bytes of text there are up to the end of end.
func until(text, end string) int {
	if i := strings.Index(text, end); i >= 0 {
		return i + len(end)
	}
	return len(text)
}
