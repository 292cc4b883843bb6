package report

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every cause that the packages declare has its class and its words.
func TestCauses(t *testing.T) {
	declared := append(declaredCauses(t, "cause.go"), declaredCauses(t, "../../pkg/closure/cause.go")...)
	if len(declared) < 20 {
		t.Fatalf("found %d causes in the source, which cannot be all", len(declared))
	}
	known := Causes()
	for _, c := range declared {
		if !slices.Contains(known, c) {
			t.Errorf("%s has no class", c)
		}
	}
	for _, c := range known {
		if !slices.Contains(declared, c) {
			t.Errorf("%s has a class and no name in the source", c)
		}
		if class := ClassOf(c); !slices.Contains([]Class{Untrusted, Drift, Inconclusive, Notice}, class) {
			t.Errorf("%s: class %q is none", c, class)
		}
		title, next := Title(c), Next(c)
		if title == "" || title == string(c) || strings.ContainsAny(title, ".\n") || title[:1] != strings.ToLower(title[:1]) {
			t.Errorf("%s: title %q, want a few words that begin in lower case", c, title)
		}
		if len(next) < 10 || !strings.HasSuffix(next, ".") || strings.Contains(next, "\n") {
			t.Errorf("%s: next %q, want a sentence", c, next)
		}
		if strings.Trim(string(c), "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%q is not in the form of a cause", c)
		}
	}
}

func TestUnknownCause(t *testing.T) {
	const c Cause = "no-such-cause"
	if ClassOf(c) != Inconclusive || Title(c) != "no-such-cause" || Next(c) != "" {
		t.Errorf("an unknown cause is %s, %q, %q", ClassOf(c), Title(c), Next(c))
	}
}

// declaredCauses returns the constants of type Cause in a file.
func declaredCauses(t *testing.T, file string) []Cause {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []Cause
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec)
			if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Cause" {
				continue
			}
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, Cause(value))
		}
	}
	return out
}
