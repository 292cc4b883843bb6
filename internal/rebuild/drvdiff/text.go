package drvdiff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// text replaces store paths in the text of a derivation, so that two derivations with the
// same meaning have the same text.
type text struct {
	dir   string
	masks map[string]mask // by the digest
}

type mask struct {
	base string // with the digest
	name string // what it is replaced by
}

func newText(dir closure.StoreDir) *text {
	return &text{dir: string(dir) + "/", masks: make(map[string]mask)}
}

// mask replaces p by name from now on; an empty p is ignored.
func (t *text) mask(p closure.StorePath, name string) {
	if p != "" {
		t.masks[p.Digest()] = mask{base: p.Base(), name: name}
	}
}

const digestLength = 32

// masked returns s with all paths replaced.
func (t *text) masked(s string) string {
	if len(t.masks) == 0 || !strings.Contains(s, t.dir) {
		return s
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, t.dir)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		s = rest
		if len(rest) >= digestLength {
			if m, ok := t.masks[rest[:digestLength]]; ok && strings.HasPrefix(rest, m.base) {
				b.WriteString(m.name)
				s = rest[len(m.base):]
				continue
			}
		}
		b.WriteString(t.dir)
	}
}

// attributes returns the environment of d; if d has structured attributes, each of these
// by its name.
func attributes(d *nixstore.Derivation) map[string]string {
	structured, ok := d.Env["__json"]
	if !ok {
		return d.Env
	}
	var values map[string]jsontext.Value
	if json.Unmarshal([]byte(structured), &values) != nil {
		return d.Env
	}
	out := maps.Clone(d.Env)
	delete(out, "__json")
	for key, value := range values {
		out[key] = string(value)
	}
	return out
}

// describeOutputs returns the outputs of d without their paths, which are only a hash of
// everything else.
func describeOutputs(d *nixstore.Derivation) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(d.Outputs)) {
		out := d.Outputs[name]
		if out.Hash != "" || out.HashAlgo != "" {
			name += fmt.Sprintf(" (%s %s)", out.HashAlgo, out.Hash)
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

const maxExcerpt = 200

// aroundDifference returns excerpts of a and b that start shortly before their first
// difference, in whole characters.
func aroundDifference(a, b string) (string, string) {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	const before = 40
	if i = max(0, i-before); i > 0 {
		a, b = "…"+strings.ToValidUTF8(a[i:], ""), "…"+strings.ToValidUTF8(b[i:], "")
	}
	return clip(a), clip(b)
}

func clip(s string) string { return excerpt.Of(s, maxExcerpt) }

// names lists paths by their names.
func names(paths []closure.StorePath) string {
	list := make([]string, 0, len(paths))
	for _, p := range paths {
		list = append(list, p.Name())
	}
	return clip(strings.Join(list, ", "))
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}
