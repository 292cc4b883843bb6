package repository

import (
	"fmt"
	"slices"
	"strings"
)

// Finding is something in a Nix file that should not be there.
type Finding struct {
	Line int
	What string
}

func (f Finding) String() string { return fmt.Sprintf("line %d: %s", f.Line, f.What) }

// keywords are words that name nothing.
var keywords = []string{"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"}

func isName(t Token) bool { return t.Kind == Word && !slices.Contains(keywords, t.Text) }

// Style holds a file to what can be said of its layout by lines alone: no tabs,
// no white space at the end of a line, one line feed at the end of the file and
// no two empty lines in a row. That nixfmt would leave it as it is, the flake's
// check "formatting" says, where there is nixpkgs.
func Style(src string) []Finding {
	var found []Finding
	add := func(line int, what string) { found = append(found, Finding{line, what}) }
	if strings.HasPrefix(src, "\n") || !strings.HasSuffix(src, "\n") || strings.HasSuffix(src, "\n\n") {
		add(1, "wants text in its first and its last line, and a line feed after that")
	}
	lines := strings.Split(strings.TrimRight(src, "\n"), "\n")
	for i, line := range lines {
		switch {
		case strings.ContainsAny(line, "\t\r"):
			add(i+1, "a tab or a carriage return")
		case strings.TrimRight(line, " ") != line:
			add(i+1, "white space at the end")
		case line == "" && i > 0 && lines[i-1] == "":
			add(i+1, "a second empty line")
		}
	}
	return found
}

// ofTheRepository are the attributes of a flake's self that are facts of the
// checkout, not of the files: the copy inside an image has others, or none.
var ofTheRepository = []string{
	"dirtyRev", "dirtyShortRev", "lastModified", "lastModifiedDate", "rev", "revCount", "shortRev",
}

// Impurities finds expressions that make a system depend on the place of its source: the
// attributes of self that are not functions of the files, the environment and the time.
func Impurities(src string) []Finding {
	var found []Finding
	tokens := Tokens(src)
	for i, t := range tokens {
		switch {
		case i >= 2 && slices.Contains(ofTheRepository, t.Text) && tokens[i-1].Text == "." && tokens[i-2].Text == "self",
			slices.Contains([]string{"currentTime", "currentSystem", "getEnv"}, t.Text) && i > 0 && tokens[i-1].Text == ".":
			found = append(found, Finding{t.Line, fmt.Sprintf("%s.%s is not a function of the files", tokens[max(0, i-2)].Text, t.Text)})
		}
	}
	return found
}

// DeadBindings finds names that let or a function's parameters bind and that
// are not mentioned where the binding holds. It knows no inner bindings of the
// same name, so it may be silent; where it speaks, the name is dead. Names that
// begin with an underscore say themselves that they are not used.
func DeadBindings(src string) []Finding {
	d := newScopes(Tokens(src))
	var found []Finding
	for _, b := range d.bindings() {
		if strings.HasPrefix(d.tokens[b.at].Text, "_") || d.mentioned(b) {
			continue
		}
		found = append(found, Finding{d.tokens[b.at].Line, fmt.Sprintf("%s is bound and never used", d.tokens[b.at].Text)})
	}
	return found
}

// scopes knows how tokens nest.
type scopes struct {
	tokens []Token
	// depth of each token; brackets and let…in nest. A bracket has the depth
	// of what is around it.
	depth []int
}

// binding is a name, and the tokens [from, to) in which it holds.
type binding struct{ at, from, to int }

func newScopes(tokens []Token) *scopes {
	d := &scopes{tokens: tokens, depth: make([]int, len(tokens))}
	depth := 0
	for i := range tokens {
		switch {
		case d.is(i, "(", "[", "{", "${", "let"):
			d.depth[i] = depth
			depth++
		case d.is(i, ")", "]", "}", "in"):
			depth--
			d.depth[i] = depth
		default:
			d.depth[i] = depth
		}
	}
	return d
}

// is reports whether token i is one of these, and no text.
func (d *scopes) is(i int, texts ...string) bool {
	return i >= 0 && i < len(d.tokens) && d.tokens[i].Kind != Text && slices.Contains(texts, d.tokens[i].Text)
}

// end returns where what surrounds token i ends.
func (d *scopes) end(i int) int {
	for j := i + 1; j < len(d.tokens); j++ {
		if d.depth[j] < d.depth[i] {
			return j
		}
	}
	return len(d.tokens)
}

// close returns the token that closes the bracket, or the let, at i.
func (d *scopes) close(i int) int {
	for j := i + 1; j < len(d.tokens); j++ {
		if d.depth[j] == d.depth[i] {
			return j
		}
	}
	return len(d.tokens)
}

func (d *scopes) bindings() []binding {
	var all []binding
	for i, t := range d.tokens {
		switch {
		case d.is(i, "let"):
			for _, at := range d.ofLet(i) {
				all = append(all, binding{at, i, d.end(i)})
			}
		case d.is(i, "{") && d.is(d.close(i)+1, ":", "@"):
			for _, at := range d.ofPattern(i) {
				all = append(all, binding{at, i, d.end(i)})
			}
		case isName(t) && d.is(i+1, ":", "@"), isName(t) && d.is(i-1, "@"):
			all = append(all, binding{i, i, d.end(i)})
		}
	}
	return all
}

// ofLet returns the names that the let at i binds.
func (d *scopes) ofLet(i int) []int {
	var names []int
	inner := d.depth[i] + 1
	begins, inherits, skip := true, false, 0
	for j := i + 1; j < d.close(i); j++ {
		t := d.tokens[j]
		if d.depth[j] != inner {
			continue
		}
		switch {
		case d.is(j, ";") && skip > 0: // of with or assert, within a value
			skip--
		case d.is(j, ";"):
			begins, inherits = true, false
		case begins && d.is(j, "inherit"):
			begins, inherits = false, true
		case begins && isName(t):
			names = append(names, j)
			begins = false
		case inherits && isName(t):
			names = append(names, j)
		case d.is(j, "with", "assert"):
			skip++
		default:
			begins = false
		}
	}
	return names
}

// ofPattern returns the names of the parameters in the braces at i.
func (d *scopes) ofPattern(i int) []int {
	var names []int
	for j := i + 1; j < d.close(i); j++ {
		if d.depth[j] == d.depth[i]+1 && isName(d.tokens[j]) && d.is(j-1, "{", ",") {
			names = append(names, j)
		}
	}
	return names
}

// mentioned reports whether b's name is used in its scope: not as the name of
// an attribute, be it selected or defined.
func (d *scopes) mentioned(b binding) bool {
	for j := b.from; j < b.to; j++ {
		t := d.tokens[j]
		if j == b.at || t.Kind != Word || t.Text != d.tokens[b.at].Text || d.is(j-1, ".") || d.is(j+1, "=") {
			continue
		}
		return true
	}
	return false
}
