package publisher

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/publisher/compare"
	"every.channel/ec-verify/internal/render"
	"every.channel/ec-verify/internal/report"
)

// Document reads the comparison in the data of the file name, to be rendered; nil for
// anything else.
func Document(name string, data []byte) (*render.Document, error) {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(data, &kind); err != nil || kind.Kind != comparisonKind {
		return nil, nil //nolint:nilerr // it is for others to say what is wrong with it
	}
	c := new(comparison)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c.document(name)
}

// document converts a comparison into the form that package render writes.
func (c *comparison) document(file string) (*render.Document, error) {
	tones := map[compare.Verdict]render.Tone{compare.Equal: render.Good, compare.Different: render.Bad, compare.Inconclusive: render.Unknown}
	tone, ok := tones[c.Verdict]
	if !ok || c.SchemaVersion != 1 {
		return nil, fmt.Errorf("%s: it is no comparison that this program reads", file)
	}
	if want := c.Result.Verdict(); want != c.Verdict {
		return nil, fmt.Errorf("%s: it says %s, but its contents make %s", file, c.Verdict, want)
	}
	d := &render.Document{
		Title: "ec-verify compare: " + string(c.Verdict), Verdict: string(c.Verdict), Tone: tone, Tool: render.Text(c.Tool), More: c.More,
		Headline: fmt.Sprintf("%s and %s: %s", render.Text(c.A), render.Text(c.B), map[compare.Verdict]string{
			compare.Equal:     "equal, byte for byte",
			compare.Different: report.Quantity(c.Primary, "difference"),
		}[c.Verdict]),
		Facts: []render.Fact{
			{Name: "A", Value: render.Text(c.A)}, {Name: "B", Value: render.Text(c.B)}, {Name: "files compared", Value: fmt.Sprint(len(c.Compared))},
			{Name: "members of images", Value: fmt.Sprint(c.Members)}, {Name: "made by", Value: "ec-verify " + render.Text(c.Tool)},
		},
	}
	if c.Verdict == compare.Inconclusive {
		d.Headline += fmt.Sprintf("no difference seen, and %s could not be compared", report.Quantity(max(len(c.Failures), 1), "thing"))
	}
	for _, n := range c.Notes {
		d.Notes = append(d.Notes, render.Text(n))
	}
	groups := make(map[string]int)
	number := 0
	add := func(g render.Group, it render.Item) {
		key := g.ID + "\x00" + g.Follows
		at, ok := groups[key]
		if !ok {
			at = len(d.Groups)
			groups[key] = at
			d.Groups = append(d.Groups, g)
		}
		number++
		it.Number = number
		d.Groups[at].Items = append(d.Groups[at].Items, it)
	}
	for _, follows := range []bool{false, true} {
		for i := range c.Differences {
			if x := &c.Differences[i]; x.Follows == follows {
				add(item(x))
			}
		}
	}
	for _, f := range c.Failures {
		add(render.Group{Tone: render.Unknown, Class: "not compared", ID: "not-compared", Title: "could not be compared"},
			render.Item{Name: render.Text(f.Asset), Lines: []string{render.Text(strings.TrimSpace(f.Side + " " + f.Detail))}})
	}
	d.Bound()
	return d, nil
}

// item is a difference as it is rendered, and its group.
func item(x *compare.Difference) (render.Group, render.Item) {
	g := render.Group{Tone: render.Bad, Class: "different", ID: render.Text(string(x.Kind)), Title: render.Text(kindText(x))}
	if x.Kind == compare.Field || x.Kind == compare.Derivation || x.Kind == compare.FalseChecksum {
		g.Title = render.Text(strings.ReplaceAll(string(x.Kind), "-", " "))
	}
	if x.Follows {
		g.Follows = "another difference"
	}
	where := []string{render.Text(x.Asset)}
	for _, in := range x.Inside {
		where = append(where, render.Text(in))
	}
	if x.Path != "" {
		where = append(where, string(x.Path))
	}
	if x.File != nil && *x.File != "" {
		where = append(where, render.Text(*x.File))
	}
	it := render.Item{Name: strings.Join(where, " › ")}
	if x.Field != "" {
		it.Lines = append(it.Lines, render.Text(x.Field))
	}
	if x.Bytes != nil {
		it.Lines = append(it.Lines, bytesText(x.Bytes))
	}
	if x.A != "" || x.B != "" {
		it.Lines = append(it.Lines, "A  "+render.Text(x.A), "B  "+render.Text(x.B))
	}
	return g, it
}
