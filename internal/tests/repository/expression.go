package repository

import (
	"errors"
	"fmt"
	"strings"
)

// Evaluate returns the value of an expression of a workflow, without ${{ and }}, in
// the given contexts: a string, a bool or nil, which is what a name stands for that
// is not there. It knows what the workflows here use: names with dots, strings,
// true, false, null, ! == != && || and parentheses, format with one argument, and
// the functions of a job's state, of which all before it have succeeded.
func Evaluate(expression string, contexts map[string]any) (any, error) {
	e := &expr{rest: expression, contexts: contexts}
	v := e.or()
	if e.blank(); e.err == nil && e.rest != "" {
		e.fail("%q is left over", e.rest)
	}
	if e.err != nil {
		return nil, fmt.Errorf("%q: %w", expression, e.err)
	}
	return v, nil
}

// Interpolate returns text with each ${{ expression }} in it evaluated. If the text is
// only one expression, its value is returned unchanged.
func Interpolate(text string, contexts map[string]any) (any, error) {
	var out strings.Builder
	for rest := text; ; {
		before, after, ok := strings.Cut(rest, "${{")
		out.WriteString(before)
		if !ok {
			return out.String(), nil
		}
		expression, tail, ok := strings.Cut(after, "}}")
		if !ok {
			return nil, fmt.Errorf("%q: an expression does not end", text)
		}
		v, err := Evaluate(expression, contexts)
		if err != nil {
			return nil, err
		}
		if before == "" && tail == "" && rest == text {
			return v, nil
		}
		out.WriteString(asText(v))
		rest = tail
	}
}

// Truthy reports whether v counts as true.
func Truthy(v any) bool { return v != nil && v != false && v != "" }

func asText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

type expr struct {
	rest     string
	contexts map[string]any
	err      error
}

func (e *expr) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *expr) blank() { e.rest = strings.TrimLeft(e.rest, " \n") }

func (e *expr) take(token string) bool {
	e.blank()
	rest, ok := strings.CutPrefix(e.rest, token)
	if ok {
		e.rest = rest
	}
	return ok
}

func (e *expr) or() any {
	v := e.and()
	for e.take("||") {
		if w := e.and(); !Truthy(v) {
			v = w
		}
	}
	return v
}

func (e *expr) and() any {
	v := e.comparison()
	for e.take("&&") {
		if w := e.comparison(); Truthy(v) {
			v = w
		}
	}
	return v
}

func (e *expr) comparison() any {
	v := e.unary()
	for {
		switch {
		case e.take("=="):
			v = equal(v, e.unary())
		case e.take("!="):
			v = !equal(v, e.unary())
		default:
			return v
		}
	}
}

// equal compares as a forge does: texts without regard to case, and what is of two
// kinds as numbers, which no text here is.
func equal(v, w any) bool {
	a, isText := v.(string)
	b, alsoText := w.(string)
	if isText && alsoText {
		return strings.EqualFold(a, b)
	}
	number := func(v any) (int, bool) {
		switch v {
		case nil, false, "":
			return 0, true
		case true:
			return 1, true
		}
		return 0, false
	}
	x, ok := number(v)
	y, also := number(w)
	return ok && also && x == y
}

func (e *expr) unary() any {
	switch {
	case e.err != nil:
		return nil
	case !strings.HasPrefix(strings.TrimLeft(e.rest, " \n"), "!=") && e.take("!"):
		return !Truthy(e.unary())
	case e.take("("):
		v := e.or()
		if !e.take(")") {
			e.fail("a parenthesis is not closed")
		}
		return v
	case e.take("'"):
		return e.text()
	}
	return e.name()
}

// text is a string whose first quote was read. A quote in it is written twice.
func (e *expr) text() any {
	var b strings.Builder
	for {
		part, rest, ok := strings.Cut(e.rest, "'")
		if !ok {
			e.fail("a string is not closed")
			return nil
		}
		b.WriteString(part)
		if e.rest = rest; !strings.HasPrefix(rest, "'") {
			return b.String()
		}
		b.WriteByte('\'')
		e.rest = rest[1:]
	}
}

var errNoName = errors.New("neither a value nor a name")

func (e *expr) name() any {
	e.blank()
	end := strings.IndexFunc(e.rest, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", r)
	})
	if end < 0 {
		end = len(e.rest)
	}
	name := e.rest[:end]
	e.rest = e.rest[end:]
	switch {
	case name == "":
		e.err = errNoName
		return nil
	case e.take("("):
		return e.call(name)
	case name == "true" || name == "false":
		return name == "true"
	case name == "null":
		return nil
	}
	path := strings.Split(name, ".")
	if _, ok := e.contexts[path[0]]; !ok {
		e.fail("there is no context %s here", path[0])
	}
	var v any = e.contexts
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (e *expr) call(name string) any {
	var args []any
	for !e.take(")") {
		if len(args) > 0 && !e.take(",") || e.err != nil {
			e.fail("the arguments of %s do not end", name)
			return nil
		}
		args = append(args, e.or())
	}
	switch {
	case name == "format" && len(args) == 2:
		return strings.ReplaceAll(asText(args[0]), "{0}", asText(args[1]))
	case (name == "always" || name == "success") && args == nil:
		return true
	case (name == "failure" || name == "cancelled") && args == nil:
		return false
	}
	e.fail("%s with %d arguments is not known", name, len(args))
	return nil
}
