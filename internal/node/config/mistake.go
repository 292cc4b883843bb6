package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxMistakes limits how many mistakes of a configuration are reported.
const maxMistakes = 100

// A Mistake is one error in a configuration.
type Mistake struct {
	// At is its place; the zero value if it is not in a file, as for a default or a flag.
	At Position
	// Key is the key, such as "trust.keys[0].file"; empty for the whole configuration.
	Key string
	// Text describes the error, with Key.
	Text string
	// Known are the keys that are valid instead of an unknown one.
	Known []string
}

// Error returns the position and the text.
func (m *Mistake) Error() string {
	if m.At == (Position{}) {
		return m.Text
	}
	return m.At.String() + ": " + m.Text
}

// Parent splits Key before its last name: parent ends with the full stop.
func (m *Mistake) Parent() (parent, own string) {
	at := strings.LastIndexByte(m.Key, '.') + 1
	return m.Key[:at], m.Key[at:]
}

// Mistakes are all errors in a configuration; at least one.
type Mistakes struct {
	All []Mistake
	// More means that the limit of a hundred was reached, and the search ended.
	More bool
}

// Error returns the first mistake in one line, and the number of the others.
func (m *Mistakes) Error() string {
	text := m.All[0].Error()
	switch n := len(m.All) - 1; {
	case m.More:
		text += fmt.Sprintf(" (and at least %d more mistakes: ec-verify config check lists them)", n)
	case n == 1:
		text += " (and 1 more mistake: ec-verify config check lists both)"
	case n > 1:
		text += fmt.Sprintf(" (and %d more mistakes: ec-verify config check lists all)", n)
	}
	return text
}

func (m *Mistakes) add(one Mistake) {
	if m.full() {
		m.More = true
		return
	}
	m.All = append(m.All, one)
}

func (m *Mistakes) full() bool { return len(m.All) == maxMistakes }

// err returns m, or nil if it is empty.
func (m *Mistakes) err() error {
	if len(m.All) == 0 {
		return nil
	}
	slices.SortStableFunc(m.All, func(a, b Mistake) int {
		if a.At.File != b.At.File {
			return 0
		}
		return cmp.Or(a.At.Line-b.At.Line, a.At.Column-b.At.Column)
	})
	return m
}

// Covers reports whether a mistake concerns key, a part of it, or something that it is
// part of, as a mistake without a key always does.
func (m *Mistakes) Covers(key string) bool {
	return slices.ContainsFunc(m.All, func(one Mistake) bool { return part(key, one.Key) || part(one.Key, key) })
}

// part reports whether key is whole, or below it.
func part(key, whole string) bool {
	rest, ok := strings.CutPrefix(key, whole)
	return ok && (rest == "" || whole == "" || rest[0] == '.' || rest[0] == '[')
}

// complain records a mistake in a section's key.
type complain func(key, format string, args ...any)

// keysOf returns the keys of a struct in a configuration.
func keysOf(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for f := range t.Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// elsewhere returns the key with that last name in another section; "" for none or
// several.
func elsewhere(own string) string {
	found := ""
	t := reflect.TypeFor[Config]()
	for f := range t.Fields() {
		section, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !slices.Contains(keysOf(f.Type), own) {
			continue
		}
		if found != "" {
			return ""
		}
		found = section + "." + own
	}
	return found
}

// unknownKey describes the mistake of an unknown key.
func unknownKey(key string, known []string) Mistake {
	m := Mistake{Key: key, Text: fmt.Sprintf("unknown key %q", key), Known: known}
	_, own := m.Parent()
	if dotted := dottedName(key, known); dotted != "" {
		m.Text, m.Known = fmt.Sprintf("unknown key %q: write %s", key, dotted), nil
	} else if other := elsewhere(own); other != "" && !slices.Contains(known, own) {
		m.Text, m.Known = fmt.Sprintf("unknown key %q: want %s", key, other), nil
	}
	return m
}

// dottedName shows how to write a key with a full stop in its name in JSON; "" if the
// part before the full stop is not a section.
func dottedName(key string, known []string) string {
	section, name, dotted := strings.Cut(key, ".")
	if !dotted || !slices.Contains(known, section) {
		return ""
	}
	f, _ := reflect.TypeFor[Config]().FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, section) })
	if !slices.Contains(keysOf(f.Type), name) {
		return ""
	}
	return fmt.Sprintf(`{ %q: { %q: … } }`, section, name)
}

// describe describes the mistake in a value, whose key is n's.
func describe(n *node, e *json.SemanticError) string {
	switch {
	case n.key == "":
		return "want one JSON object, not " + jsonWord(e.JSONKind)
	case errors.As(e.Err, new(*time.ParseError)), e.Err != nil && e.GoType == reflect.TypeFor[time.Time]():
		return fmt.Sprintf("%s: %s is not a time such as \"2027-01-31T00:00:00Z\"", n.key, n.raw)
	case errors.Is(e.Err, strconv.ErrSyntax), errors.Is(e.Err, strconv.ErrRange):
		return fmt.Sprintf("%s: %s is not %s", n.key, n.raw, goWord(e))
	case e.Err != nil && (n.kind == '"' || !isText(e.GoType)):
		return fmt.Sprintf("%s: %s", n.key, e.Err)
	}
	return fmt.Sprintf("%s: want %s, not %s", n.key, goWord(e), jsonWord(n.kind))
}

// isText reports whether JSON represents values of type t as strings.
func isText(t reflect.Type) bool {
	return t != nil && reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func jsonWord(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "a list"
	}
	return "something else"
}

// goWord returns the expected type in JSON's words.
func goWord(e *json.SemanticError) string {
	if e.GoType == nil {
		return "something else"
	}
	switch {
	case e.GoType == reflect.TypeFor[Duration]():
		return `a duration such as "15m" or "7d"`
	case e.GoType == reflect.TypeFor[time.Time]():
		return `a time such as "2027-01-31T00:00:00Z"`
	case isText(e.GoType):
		return "a string"
	}
	switch e.GoType.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number of a reasonable size"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "an object"
	}
	return "something else"
}
