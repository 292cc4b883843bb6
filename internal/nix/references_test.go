package nix

import (
	"fmt"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

// TestReferences: each version prints them in its own way.
func TestReferences(t *testing.T) {
	a := closure.StorePath("/nix/store/" + strings.Repeat("a", 32) + "-a")
	b := closure.StorePath("/nix/store/" + strings.Repeat("b", 32) + "-b")
	c := closure.StorePath("/nix/store/" + strings.Repeat("c", 32) + "-c")
	want := fmt.Sprint(map[closure.StorePath][]closure.StorePath{a: {a, b}, b: {}})
	for _, test := range []struct{ version, out, args string }{
		{"2.18.0", `[{"path":"$a","valid":true,"references":["$a","$b"]},{"path":"$b","valid":true,"references":[]},{"path":"$c","valid":false}]`, ""},
		{"2.26.3", `{"$a":{"references":["$a","$b"],"narSize":1},"$b":{"references":[]},"$c":null}`, ""},
		{"2.34.8", `{"$a":{"references":["$a","$b"],"version":1},"$b":{"references":[],"storeDir":"/nix/store"},"$c":null}`, "--json-format 1"},
	} {
		t.Run(test.version, func(t *testing.T) {
			out := strings.NewReplacer("$a", string(a), "$b", string(b), "$c", string(c)).Replace(test.out)
			f := newFake(t, Config{}, "nix (Nix) "+test.version+"\n", fake{Stdout: out})
			got, err := f.References(t.Context(), ReferencesRequest{Store: "https://cache.example.org", Paths: []closure.StorePath{a, b, c}, Temp: t.TempDir()})
			if err != nil || fmt.Sprint(got) != want {
				t.Errorf("%v, %v", got, err)
			}
			if args := strings.Join(f.call().Args, " "); strings.Contains(args, "--json-format 1") != (test.args != "") || !strings.Contains(args, "--store https://cache.example.org ") {
				t.Error(args)
			}
		})
	}
	for _, out := range []string{"", "{", "[{}]", `{"$a":{"references":["../x"]}}`, `{"x":{"references":[]}}`, `{"$a":{"references":"$b"}}`} {
		f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stdout: strings.ReplaceAll(out, "$a", string(a))})
		if got, err := f.References(t.Context(), ReferencesRequest{Store: "file:///none", Paths: []closure.StorePath{a}, Temp: t.TempDir()}); err == nil {
			t.Errorf("%s: %v", out, got)
		}
	}
}
