package drvdiff

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

// summary is differences as the cases write them: "name field want got count".
func summary(differences []Difference) []string {
	out := make([]string, 0, len(differences))
	for _, d := range differences {
		want, got := d.WantValue, d.GotValue
		if strings.HasPrefix(d.Field, "source ") {
			want, got = "", "" // hashes
		}
		out = append(out, fmt.Sprintf("%s %s %q %q %d", strings.TrimSuffix(d.Want.Name(), ".drv"), d.Field, want, got, d.Derivations))
	}
	return out
}

func expect(t *testing.T, got []Difference, want ...string) {
	t.Helper()
	if g, w := strings.Join(summary(got), "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("differences:\ngot:\n%s\nwant:\n%s", g, w)
	}
}

// One attribute of one of 1,000 derivations, on which all others depend, is
// named as that, and each of them is compared once. What that allocates is
// bounded, which stands for time as well: a clock would measure the machine.
func TestCompareLarge(t *testing.T) {
	b := newBuilder(t)
	const n = 1000
	wantRoot := b.generate(n, nil)
	gotRoot := b.generate(n, func(i int, env map[string]string) {
		if i == 3 {
			env["version"] = "1.1"
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	differences, derivations := Compare(b.graph(wantRoot), b.graph(gotRoot), wantRoot, gotRoot)
	runtime.ReadMemStats(&after)
	// All that was ever allocated, so that it never took more at a time.
	allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("%d derivations read and compared in %d MiB", 2*n, allocated)
	expect(t, differences, `package-0003-1.0 env.version "1.0" "1.1" 1`)
	if derivations != n-3 {
		t.Errorf("%d derivations differ in all, want %d", derivations, n-3)
	}
	if allocated > 200 {
		t.Errorf("it took %d MiB, may take 200 MiB", allocated)
	}
}

func TestCompare(t *testing.T) {
	root := func(m made) closure.StorePath { return closure.StorePath(m.drv) }
	cases := []struct {
		name string
		make func(b *builder) (want, got made)
		want []string
	}{
		{"the same", func(b *builder) (made, made) {
			m := b.make("a", nil, nil)
			return m, m
		}, nil},
		{"two of them, and one that follows", func(b *builder) (made, made) {
			build := func(x, y string) made {
				a := b.make("a", map[string]string{"x": x}, nil)
				c := b.make("c", map[string]string{"y": y}, nil)
				return b.make("top", nil, []made{a, b.make("follows", nil, []made{a, c}), c})
			}
			return build("1", "1"), build("2", "2")
		}, []string{`a env.x "1" "2" 1`, `c env.y "1" "2" 1`}},
		{"one that differs and is built from one that differs", func(b *builder) (made, made) {
			build := func(x string) made {
				a := b.make("a", map[string]string{"x": x}, nil)
				return b.make("top", map[string]string{"own": x}, []made{a})
			}
			return build("1"), build("2")
		}, []string{`a env.x "1" "2" 1`, `top env.own "1" "2" 1`}},
		{"another version in the name", func(b *builder) (made, made) {
			build := func(v string) made {
				return b.make("top", nil, []made{b.make("lib-"+v, nil, nil), b.make("tool", nil, nil)})
			}
			return build("1.0"), build("1.1")
		}, []string{`lib-1.0 env.name "lib-1.0" "lib-1.1" 1`}},
		{"several of one name", func(b *builder) (made, made) {
			build := func(url string) made {
				return b.make("top", nil, []made{
					b.make("source", map[string]string{"url": "x", "kind": "one"}, nil),
					b.make("source", map[string]string{"url": url, "kind": "two"}, nil),
					b.make("source", map[string]string{"url": "z", "kind": "three"}, nil),
				})
			}
			return build("y"), build("changed")
		}, []string{`source env.url "y" "changed" 1`}},
		{"copies of one change", func(b *builder) (made, made) {
			build := func(x string) made {
				var all []made
				for _, kind := range []string{"one", "two", "three", "four", "five", "six"} {
					all = append(all, b.make("lib", map[string]string{"x": x, "kind": kind}, nil))
				}
				return b.make("top", nil, append(all, b.make("tool", map[string]string{"x": x}, nil)))
			}
			return build("1"), build("2")
		}, []string{`lib env.x "1" "2" 6`, `tool env.x "1" "2" 1`}},
		{"two changes of one field", func(b *builder) (made, made) {
			long := strings.Repeat("the same ", 50)
			build := func(x string) made {
				return b.make("top", nil, []made{
					b.make("lib", map[string]string{"x": x + long + "a", "kind": "one"}, nil),
					b.make("lib", map[string]string{"x": x + long + "b", "kind": "two"}, nil),
				})
			}
			return build("1"), build("2")
		}, []string{`lib env.x "1` + strings.Repeat("the same ", 22) + `t…" "2` + strings.Repeat("the same ", 22) + `t…" 1`, `lib env.x "1` + strings.Repeat("the same ", 22) + `t…" "2` + strings.Repeat("the same ", 22) + `t…" 1`}},
		{"an input more", func(b *builder) (made, made) {
			a, c := b.make("a", nil, nil), b.make("c", nil, nil)
			return b.make("top", nil, []made{a}), b.make("top", nil, []made{a, c})
		}, []string{`top env.input1 "" "` + "C" + `" 1`, `top inputs "" "c.drv" 1`}},
		{"a source of many", func(b *builder) (made, made) {
			build := func(content string) made {
				s := source("setup.sh", content)
				var all []made
				for i := range 5 {
					all = append(all, b.make(fmt.Sprintf("part-%c", 'a'+i), nil, nil, s))
				}
				return b.make("top", nil, all)
			}
			return build("1"), build("2")
		}, []string{`part-a source setup.sh "" "" 5`}},
		{"another source", func(b *builder) (made, made) {
			return b.make("top", nil, nil, source("one", "")), b.make("top", nil, nil, source("two", ""))
		}, []string{`top env.source0 "S" "S" 1`, `top sources "one" "two" 1`}},
		{"structured attributes", func(b *builder) (made, made) {
			build := func(v string) made {
				return b.make("top", map[string]string{"__json": `{"name":"top","flags":["a","` + v + `"],"same":1}`}, nil)
			}
			return build("b"), build("c")
		}, []string{`top env.flags "[\"a\",\"b\"]" "[\"a\",\"c\"]" 1`}},
		{"an attribute that only one has", func(b *builder) (made, made) {
			return b.make("top", map[string]string{"doCheck": "1"}, nil), b.make("top", nil, nil)
		}, []string{`top env.doCheck "1" "" 1`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(t)
			want, got := c.make(b)
			differences, _ := Compare(b.graph(root(want)), b.graph(root(got)), root(want), root(got))
			for i := range differences {
				// Store paths are not written out in the cases.
				d := &differences[i]
				if strings.HasPrefix(d.GotValue, "/nix/store/") && d.WantValue == "" {
					d.GotValue = "C"
				} else if strings.Contains(d.GotValue, "-two") && d.Field == "env.source0" {
					d.WantValue, d.GotValue = "S", "S"
				}
			}
			expect(t, differences, c.want...)
		})
	}
}
