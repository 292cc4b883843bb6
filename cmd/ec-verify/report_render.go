package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/publisher/compare"
	"every.channel/ec-verify/internal/render"
)

// renderers are the formats of report render.
var renderers = map[string]func(io.Writer, *render.Document) error{
	"html": render.HTML, "markdown": render.Markdown, "junit": render.JUnit, "sarif": render.SARIF,
}

func newReportRenderCommand(a *app) *cobra.Command {
	var format string
	var keys []string
	formats := slices.Sorted(maps.Keys(renderers))
	cmd := &cobra.Command{
		Use:   "render [FILE]",
		Short: "render a JSON report as a page or in a forge's format",
		Long: `Render a JSON report for people or forges: as an HTML page, Markdown for a comment,
JUnit XML, or SARIF 2.1.0. FILE is the output of ec-verify or ec-verify compare with
--output json, or a signed report; without FILE, standard input is read. --key
checks the signature, and the page says whether that was done.

The page is one file without scripts or external resources; it has a light, a dark
and a print layout. What the report says is shown, not checked.

The exit code says whether the report was rendered; it does not reflect the verdict.
It is 3 where a signature is not valid.`,
		Example: `  ec-verify --output json >report.json; ec-verify report render --format html report.json >report.html
  ec-verify compare a/ b/ --output json | ec-verify report render --format junit`,
		Args: argCount(0, 1, "one file, or none"),
		RunE: func(_ *cobra.Command, args []string) error {
			if renderers[format] == nil {
				return usageError{fmt.Errorf("--format %q: want %s", format, strings.Join(formats, ", "))}
			}
			if a.output == "json" {
				return usageError{fmt.Errorf("--output json: --format says what is written")}
			}
			file := "-"
			if len(args) == 1 {
				file = args[0]
			}
			d, err := a.readDocument(file, keys)
			if err != nil {
				return err
			}
			return renderers[format](a.stdout, d)
		},
	}
	cmd.Flags().StringVar(&format, "format", "html", "write `FORMAT`: "+strings.Join(formats, ", "))
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the report is signed by the public key in `FILE`; may be repeated")
	complete(cmd, "format", formats...)
	return cmd
}

// readInput returns the contents of the file name, "-" for standard input.
func readInput(name string) ([]byte, error) {
	if name != "-" {
		return hostfile.ReadSmall(name, maxReport)
	}
	data, err := io.ReadAll(io.LimitReader(os.Stdin, maxReport+1))
	if err == nil && len(data) > maxReport {
		err = fmt.Errorf("standard input: larger than %d bytes", maxReport)
	}
	return data, err
}

// readDocument reads a report, signed by one of keys if there are any, or a comparison,
// to be rendered.
func (a *app) readDocument(name string, keys []string) (*render.Document, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(data, &kind); err == nil && kind.Kind == comparisonKind && len(keys) == 0 {
		c := new(comparison)
		if err := json.Unmarshal(data, c); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return c.document(name)
	}
	r, by, err := openReport(name, data, keys)
	if err != nil {
		return nil, err
	}
	d := render.FromReport(r)
	if by == unchecked {
		a.notChecked()
	}
	if by != unsigned {
		d.Facts = append(d.Facts, render.Fact{Name: "signature", Value: render.Text(string(by))})
	}
	return d, nil
}

func (n *name) text() string {
	switch {
	case n == nil:
		return ""
	case n.Text != nil:
		return render.Text(*n.Text)
	case n.Base64 != nil:
		return render.Text(n.raw())
	}
	return ""
}

// document makes of a comparison what is rendered.
func (c *comparison) document(file string) (*render.Document, error) {
	tones := map[compare.Verdict]render.Tone{compare.Equal: render.Good, compare.Different: render.Bad, compare.Inconclusive: render.Unknown}
	tone, ok := tones[c.Verdict]
	if !ok || c.SchemaVersion != 1 {
		return nil, fmt.Errorf("%s: it is no comparison that this program reads", file)
	}
	if want := c.judge(); want != c.Verdict {
		return nil, fmt.Errorf("%s: it says %s, but what it lists makes %s", file, c.Verdict, want)
	}
	d := &render.Document{
		Title: "ec-verify compare: " + string(c.Verdict), Verdict: string(c.Verdict), Tone: tone, Tool: render.Text(c.Tool), More: c.More,
		Headline: fmt.Sprintf("%s and %s: %s", c.A.text(), c.B.text(), map[compare.Verdict]string{
			compare.Equal:     "equal, byte for byte",
			compare.Different: count(c.Primary, "difference"),
		}[c.Verdict]),
		Facts: []render.Fact{
			{Name: "A", Value: c.A.text()}, {Name: "B", Value: c.B.text()}, {Name: "files compared", Value: fmt.Sprint(len(c.Compared))},
			{Name: "members of images", Value: fmt.Sprint(c.Members)}, {Name: "made by", Value: "ec-verify " + render.Text(c.Tool)},
		},
	}
	if c.Verdict == compare.Inconclusive {
		d.Headline += fmt.Sprintf("no difference seen, and %s could not be compared", count(max(len(c.Failures), 1), "thing"))
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
				add(x.item())
			}
		}
	}
	for _, f := range c.Failures {
		add(render.Group{Tone: render.Unknown, Class: "not compared", ID: "not-compared", Title: "could not be compared"},
			render.Item{Name: f.Asset.text(), Lines: []string{render.Text(strings.TrimSpace(f.Side + " " + f.Detail))}})
	}
	d.Bound()
	return d, nil
}

// judge returns the verdict that what c lists makes.
func (c *comparison) judge() compare.Verdict {
	switch {
	case len(c.Differences) > 0 || c.More > 0:
		return compare.Different
	case len(c.Failures) > 0 || len(c.Compared) == 0:
		return compare.Inconclusive
	}
	return compare.Equal
}

func (x *comparisonDifference) item() (render.Group, render.Item) {
	kind := &compare.Difference{Kind: x.Kind, Field: render.Text(x.Field)}
	g := render.Group{Tone: render.Bad, Class: "different", ID: render.Text(string(x.Kind)), Title: sayKind(kind)}
	if x.Kind == compare.Field || x.Kind == compare.Derivation || x.Kind == compare.FalseChecksum {
		g.Title = render.Text(strings.ReplaceAll(string(x.Kind), "-", " "))
	}
	if x.Follows {
		g.Follows = "another difference"
	}
	where := []string{x.Asset.text()}
	for i := range x.Inside {
		where = append(where, x.Inside[i].text())
	}
	if x.Path != "" {
		where = append(where, string(x.Path))
	}
	if file := x.File.text(); file != "" {
		where = append(where, file)
	}
	it := render.Item{Name: strings.Join(where, " › ")}
	if x.Field != "" {
		it.Lines = append(it.Lines, render.Text(x.Field))
	}
	if x.Bytes != nil {
		it.Lines = append(it.Lines, sayBytes(&compare.Bytes{First: x.Bytes.First, Count: x.Bytes.Count, SizeA: x.Bytes.SizeA, SizeB: x.Bytes.SizeB}))
	}
	if x.A != nil || x.B != nil {
		it.Lines = append(it.Lines, "A  "+x.A.text(), "B  "+x.B.text())
	}
	return g, it
}
