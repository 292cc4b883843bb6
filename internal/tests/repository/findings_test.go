package repository

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDeadBindings(t *testing.T) {
	for name, tc := range map[string]struct {
		src  string
		dead []string
	}{
		"let":              {`let a = 1; b = 2; in b`, []string{"line 1: a is bound and never used"}},
		"let, used":        {`let a = 1; b = a; in b`, nil},
		"let, nested":      {"let a = let c = 1; in 2; in a", []string{"line 1: c is bound and never used"}},
		"let, with":        {`let a = with x; y; b = 1; in a`, []string{"line 1: b is bound and never used"}},
		"inherit":          {"let inherit (lib) a b; in a", []string{"line 1: b is bound and never used"}},
		"inherited":        {`let a = 1; in { inherit a; }`, nil},
		"interpolated":     {`let a = 1; in "x ${a} y"`, nil},
		"in a block":       {"let a = 1; in ''\n  ${a}\n''", nil},
		"escaped":          {`let a = 1; in "\${a}"`, []string{"line 1: a is bound and never used"}},
		"escaped in block": {"let a = 1; in '' ''${a} ''", []string{"line 1: a is bound and never used"}},
		"a shell's $$":     {"let a = 1; in '' $${a} ''", []string{"line 1: a is bound and never used"}},
		"comment":          {"let a = 1; in # a\n /* a */ 2", []string{"line 1: a is bound and never used"}},
		"an attribute":     {`let a = 1; in { a = 2; b = c.a; }`, []string{"line 1: a is bound and never used"}},
		"pattern":          {"{ a, b ? 1, ... }: a", []string{"line 1: b is bound and never used"}},
		"default's use":    {`{ a, b ? a }: b`, nil},
		"a set":            {`{ a = 1; }`, nil},
		"whole pattern":    {`all@{ a, ... }: a`, []string{"line 1: all is bound and never used"}},
		"parameter":        {`x: y: y`, []string{"line 1: x is bound and never used"}},
		"underscore":       {`_: _x: 1`, nil},
		"paths":            {`let a = 1; in ./a/b.nix`, []string{"line 1: a is bound and never used"}},
		"update":           {`let a = { }; in { }//a`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range DeadBindings(tc.src) {
				got = append(got, f.String())
			}
			if diff := cmp.Diff(tc.dead, got); diff != "" {
				t.Errorf("%s:\n%s", tc.src, diff)
			}
		})
	}
}

func TestImpurities(t *testing.T) {
	for src, want := range map[string]int{
		`self.rev or "none"`:         1,
		`"${self.lastModifiedDate}"`: 1,
		`builtins.getEnv "HOME"`:     1,
		`self.narHash`:               0,
		`"self.rev" # self.rev`:      0,
		`input.rev`:                  0,
	} {
		if got := Impurities(src); len(got) != want {
			t.Errorf("Impurities(%s) = %v, want %d", src, got, want)
		}
	}
}

func TestStyle(t *testing.T) {
	for src, want := range map[string]int{
		"{ }\n":         0,
		"{ }":           1,
		"{ }\n\n":       1,
		"{\n\tx\n}\n":   1,
		"{ \n}\n":       1,
		"{\n\n\n}\n":    1,
		"\n{ }\n":       1,
		"{\r\n}\n":      1,
		"{\n\n  x\n}\n": 0,
	} {
		if got := Style(src); len(got) != want {
			t.Errorf("Style(%q) = %v, want %d", src, got, want)
		}
	}
}
