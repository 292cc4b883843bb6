package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A Position is a place in a configuration file. Line and Column count from 1, in
// characters; both are 0 for the whole file.
type Position struct {
	File         string
	Line, Column int
}

// String returns p in the form of compilers: FILE:LINE:COLUMN.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	place := fmt.Sprintf("%d:%d", p.Line, p.Column)
	if p.File == "" {
		return place
	}
	return p.File + ":" + place
}

// node is a JSON value with its place.
type node struct {
	kind jsontext.Kind
	key  string // the path to it, "trust.keys[0].file"; empty for the whole
	at   Position
	raw  jsontext.Value // of a string, a number, a word, and a value that is nested too deeply
	// members are those of an object, in the order of the file.
	members  []member
	elements []*node
}

type member struct {
	name  string
	at    Position // of the name
	value *node
}

func (n *node) member(name string) int {
	return slices.IndexFunc(n.members, func(m member) bool { return m.name == name })
}

// maxDepth limits the nesting of values; keys nest four deep at most.
const maxDepth = 8

// document reads one file.
type document struct {
	file     string
	data     []byte
	decoder  *jsontext.Decoder
	mistakes *Mistakes
	// last is the position of the byte lastOffset, from which later positions are counted.
	last       Position
	lastOffset int
}

// parse parses the JSON object in data. It returns nil if the JSON is malformed; a
// duplicate key is a mistake, and the rest is read.
func parse(file string, data []byte, mistakes *Mistakes) *node {
	d := &document{
		file: file, data: data, mistakes: mistakes, last: Position{File: file, Line: 1, Column: 1},
		decoder: jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true)),
	}
	root, err := d.value("")
	if err == nil {
		if _, end := d.decoder.ReadToken(); !errors.Is(end, io.EOF) {
			d.mistake(d.next(), "", "there is something behind the closing brace; a configuration is one JSON object")
			return nil
		}
	}
	switch {
	case err != nil:
		at, text := d.malformed(err)
		d.mistake(at, "", text)
		return nil
	case root.kind != '{':
		d.mistake(root.at, "", "want one JSON object, not "+jsonWord(root.kind))
		return nil
	}
	return root
}

func (d *document) mistake(at Position, key, text string) {
	d.mistakes.add(Mistake{At: at, Key: key, Text: text})
}

// next returns the place of the next token.
func (d *document) next() Position {
	at := int(d.decoder.InputOffset())
	for at < len(d.data) && strings.IndexByte(" \t\r\n,:", d.data[at]) >= 0 {
		at++
	}
	return d.position(at)
}

// position returns the place of a byte. Most calls are in ascending order.
func (d *document) position(offset int) Position {
	offset = min(max(offset, 0), len(d.data))
	if offset < d.lastOffset {
		d.last, d.lastOffset = Position{File: d.file, Line: 1, Column: 1}, 0
	}
	passed := d.data[d.lastOffset:offset]
	if n := bytes.LastIndexByte(passed, '\n'); n >= 0 {
		d.last.Line, d.last.Column = d.last.Line+bytes.Count(passed, []byte("\n")), 1
		passed = passed[n+1:]
	}
	d.last.Column += utf8.RuneCount(passed)
	d.lastOffset = offset
	return d.last
}

func (d *document) value(key string) (*node, error) {
	n := &node{key: key, at: d.next(), kind: d.decoder.PeekKind()}
	if d.decoder.StackDepth() < maxDepth {
		switch n.kind {
		case '{':
			return n, d.object(n)
		case '[':
			return n, d.list(n)
		}
	}
	raw, err := d.decoder.ReadValue()
	n.raw = raw.Clone()
	return n, err
}

func (d *document) object(n *node) error {
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	lines := make(map[string]int)
	for d.decoder.PeekKind() != '}' {
		m := member{at: d.next()}
		name, err := d.decoder.ReadToken()
		if err != nil {
			return err
		}
		m.name = name.String()
		if m.value, err = d.value(join(n.key, m.name)); err != nil {
			return err
		}
		if line, twice := lines[m.name]; twice {
			d.mistake(m.at, m.value.key, fmt.Sprintf("key %q is given twice, first in line %d", m.value.key, line))
			continue
		}
		lines[m.name] = m.at.Line
		n.members = append(n.members, m)
	}
	_, err := d.decoder.ReadToken()
	return err
}

func (d *document) list(n *node) error {
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	for d.decoder.PeekKind() != ']' {
		e, err := d.value(fmt.Sprintf("%s[%d]", n.key, len(n.elements)))
		if err != nil {
			return err
		}
		n.elements = append(n.elements, e)
	}
	_, err := d.decoder.ReadToken()
	return err
}

func join(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// malformed says where the JSON is malformed, and how.
func (d *document) malformed(err error) (Position, string) {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		if errors.Is(err, io.EOF) {
			return d.position(len(d.data)), tooShort
		}
		return Position{File: d.file}, err.Error()
	}
	offset := int(syntactic.ByteOffset)
	if errors.Is(err, io.ErrUnexpectedEOF) || offset >= len(d.data) {
		return d.position(len(d.data)), tooShort
	}
	at, rest := d.position(offset), d.data[offset:]
	before := bytes.TrimRight(d.data[:offset], " \t\r\n")
	after := bytes.TrimLeft(rest[1:], " \t\r\n")
	inString := bytes.HasPrefix(bytes.TrimRight(before, `0123456789abcdefABCDEFu\`), []byte(`"`)) && rest[0] < ' '
	first, size := utf8.DecodeRune(rest)
	switch {
	case first == utf8.RuneError && size <= 1:
		return at, "a byte that is not UTF-8"
	case first == '\ufeff':
		return at, "the file begins with a byte order mark: save it without"
	case first == '#' || first == '/':
		return at, "JSON has no comments"
	case first == '\'':
		return at, "strings are in double quotes"
	case (first == '}' || first == ']') && bytes.HasSuffix(before, []byte(",")):
		return at, "there is a comma before the closing " + string(first)
	case first == ',' && len(after) > 0 && (after[0] == '}' || after[0] == ']'):
		return at, "there is a comma before the closing " + string(after[:1])
	case inString || rest[0] < ' ':
		return at, "a control character in a string: write it as \\n, \\t or \\u00XX"
	}
	return at, fmt.Sprintf("%q does not belong here: want %s", first, d.wanted(before))
}

const tooShort = "the file ends too early; a configuration is one JSON object, at least {}"

// wanted says what may follow before.
func (d *document) wanted(before []byte) string {
	kind, length := d.decoder.StackIndex(d.decoder.StackDepth())
	switch {
	case bytes.HasSuffix(before, []byte(":")):
		return "a value"
	case kind == '{' && length%2 == 1:
		return "a colon and a value"
	case kind == '{' && length == 0:
		return "a key in double quotes, or a closing brace"
	case kind == '{' && bytes.HasSuffix(before, []byte(",")):
		return "a key in double quotes"
	case kind == '{':
		return "a comma and a key in double quotes, or a closing brace"
	case kind == '[':
		return "a value, a comma or a closing bracket"
	}
	return "one JSON object"
}

// lay merges over into n by the rules of docs/configuration.md: objects are merged key by
// key, null removes earlier values, and everything else, lists included, is replaced.
func (n *node) lay(over *node) {
	for _, m := range over.members {
		i := n.member(m.name)
		switch {
		case i < 0:
			n.members = append(n.members, m)
		case n.members[i].value.kind == '{' && m.value.kind == '{':
			n.members[i].value.lay(m.value)
		default:
			n.members[i] = m
		}
	}
}

// dropNulls removes the keys whose value is null: they have their defaults.
func (n *node) dropNulls() {
	n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.value.kind == 'n' })
	for _, m := range n.members {
		if m.value.kind == '{' {
			m.value.dropNulls()
		}
	}
}

// text writes n as JSON.
func (n *node) text(b *bytes.Buffer) {
	switch {
	case n.raw != nil:
		b.Write(n.raw)
	case n.kind == '{':
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			name, _ := jsontext.AppendQuote(nil, m.name) // which was read as a string
			b.Write(name)
			b.WriteByte(':')
			m.value.text(b)
		}
		b.WriteByte('}')
	default:
		b.WriteByte('[')
		for i, e := range n.elements {
			if i > 0 {
				b.WriteByte(',')
			}
			e.text(b)
		}
		b.WriteByte(']')
	}
}

// follow follows p as far as it exists, and returns the value there with the object or
// list around it.
func (n *node) follow(p jsontext.Pointer) (found, parent *node) {
	found = n
	for token := range p.Tokens() {
		var next *node
		if i := found.member(token); i >= 0 {
			next = found.members[i].value
		}
		for i, e := range found.elements {
			if fmt.Sprint(i) == token {
				next = e
			}
		}
		if next == nil {
			return found, parent
		}
		found, parent = next, found
	}
	return found, parent
}

// remove removes child from n.
func (n *node) remove(child *node) {
	n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.value == child })
	n.elements = slices.DeleteFunc(n.elements, func(e *node) bool { return e == child })
}

// find returns the value of key, or the innermost value around it; nil for the whole.
func (n *node) find(key string) *node {
	for _, m := range n.members {
		if within := m.value.around(key); within != nil {
			return within
		}
	}
	return nil
}

func (n *node) around(key string) *node {
	rest, ok := strings.CutPrefix(key, n.key)
	if !ok || rest != "" && rest[0] != '.' && rest[0] != '[' {
		return nil
	}
	for _, m := range n.members {
		if inner := m.value.around(key); inner != nil {
			return inner
		}
	}
	for _, e := range n.elements {
		if inner := e.around(key); inner != nil {
			return inner
		}
	}
	return n
}
