package nixstore

import (
	"fmt"
	"strings"
)

// written is a derivation as its file spells it, with nothing resolved.
type written struct {
	outputs   []writtenOutput
	inputs    []writtenInput
	sources   []string
	system    string
	builder   string
	args      []string
	variables [][2]string
}

type writtenOutput struct{ name, path, algo, hash string }

type writtenInput struct {
	path    string
	outputs []string
}

// parseATerm parses the one form in which Nix writes derivations: no blanks, and names in
// strictly ascending order wherever Nix sorts them.
func parseATerm(data []byte) (*written, error) {
	p := &aterm{rest: string(data)}
	w := new(written)
	p.expect("Derive(")
	p.list(func() {
		p.expect("(")
		o := writtenOutput{name: p.text()}
		for _, field := range []*string{&o.path, &o.algo, &o.hash} {
			p.expect(",")
			*field = p.text()
		}
		p.expect(")")
		if n := len(w.outputs); n > 0 {
			p.ascending("outputs", w.outputs[n-1].name, o.name)
		}
		w.outputs = append(w.outputs, o)
	})
	p.expect(",")
	p.list(func() {
		p.expect("(")
		in := writtenInput{path: p.text()}
		p.expect(",")
		in.outputs = p.texts("outputs of an input")
		p.expect(")")
		if n := len(w.inputs); n > 0 {
			p.ascending("inputs", w.inputs[n-1].path, in.path)
		}
		w.inputs = append(w.inputs, in)
	})
	p.expect(",")
	w.sources = p.texts("sources")
	p.expect(",")
	w.system = p.text()
	p.expect(",")
	w.builder = p.text()
	p.expect(",")
	p.list(func() { w.args = append(w.args, p.text()) })
	p.expect(",")
	p.list(func() {
		p.expect("(")
		v := [2]string{p.text()}
		p.expect(",")
		v[1] = p.text()
		p.expect(")")
		if n := len(w.variables); n > 0 {
			p.ascending("variables", w.variables[n-1][0], v[0])
		}
		w.variables = append(w.variables, v)
	})
	p.expect(")")
	if p.rest != "" {
		p.fail("something follows the derivation")
	}
	if p.err != nil {
		return nil, p.err
	}
	return w, nil
}

// aterm is the unread rest of a derivation. After the first error it is empty.
type aterm struct {
	rest string
	read int // bytes before rest
	err  error
}

func (p *aterm) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("byte %d: %s", p.read, fmt.Sprintf(format, args...))
	}
	p.rest = ""
}

func (p *aterm) skip(n int) { p.rest, p.read = p.rest[n:], p.read+n }

func (p *aterm) expect(token string) {
	if !strings.HasPrefix(p.rest, token) {
		p.fail("want %s, got %q", token, p.rest[:min(len(p.rest), len(token))])
		return
	}
	p.skip(len(token))
}

// list parses items separated by commas.
func (p *aterm) list(item func()) {
	p.expect("[")
	for first := true; p.err == nil && !strings.HasPrefix(p.rest, "]"); first = false {
		if !first {
			p.expect(",")
		}
		item()
	}
	p.expect("]")
}

// texts parses a list of strings that Nix sorts.
func (p *aterm) texts(what string) []string {
	var list []string
	p.list(func() {
		s := p.text()
		if n := len(list); n > 0 {
			p.ascending(what, list[n-1], s)
		}
		list = append(list, s)
	})
	return list
}

func (p *aterm) ascending(what, before, after string) {
	if before >= after {
		p.fail("%s: %q comes before %q", what, clip(before), clip(after))
	}
}

// text parses a quoted string. A backslash before n, r or t makes the control character,
// before anything else that character itself.
func (p *aterm) text() string {
	p.expect(`"`)
	end := strings.IndexAny(p.rest, `"\`)
	if end >= 0 && p.rest[end] == '"' {
		s := p.rest[:end]
		p.skip(end + 1)
		return s
	}
	var b strings.Builder
	for end >= 0 && p.rest[end] == '\\' && end+1 < len(p.rest) {
		b.WriteString(p.rest[:end])
		switch c := p.rest[end+1]; c {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		default:
			b.WriteByte(c)
		}
		p.skip(end + 2)
		end = strings.IndexAny(p.rest, `"\`)
	}
	if end < 0 || p.rest[end] != '"' {
		p.fail("a string does not end")
		return ""
	}
	b.WriteString(p.rest[:end])
	p.skip(end + 1)
	return b.String()
}
