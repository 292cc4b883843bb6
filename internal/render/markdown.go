package render

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"every.channel/ec-verify/internal/report"
)

// Markdown writes d for a forge. All untrusted text is in code spans, where nothing is a
// link, a mention, or HTML.
func Markdown(w io.Writer, d *Document) error {
	var b bytes.Buffer
	sign := map[Tone]string{Good: "✅", Bad: "❌", Unknown: "❔"}[d.Tone]
	fmt.Fprintf(&b, "## %s %s\n\n%s\n\n", sign, d.Verdict, code(d.Headline))
	if len(d.Facts) > 0 {
		fmt.Fprintf(&b, "| | |\n|---|---|\n")
		for _, f := range d.Facts {
			fmt.Fprintf(&b, "| %s | %s |\n", f.Name, cell(f.Value))
		}
		fmt.Fprintln(&b)
	}
	for _, g := range d.Groups {
		g.markdown(&b)
	}
	if len(d.Groups) == 0 {
		fmt.Fprint(&b, "No findings.\n\n")
	}
	for _, text := range d.Unlisted() {
		fmt.Fprintf(&b, "Not all findings are listed: %s.\n\n", text)
	}
	if len(d.Steps) > 0 {
		fmt.Fprintf(&b, "| tier | status | checked | findings | took | |\n|---|---|--:|--:|--:|---|\n")
		for _, s := range d.Steps {
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %s | %s |\n", cell(s.Name), cell(s.Status), s.Checked, s.Found, s.Took.Round(10*time.Millisecond), cell(s.Why))
		}
		fmt.Fprintln(&b)
	}
	for _, f := range d.Coverage {
		fmt.Fprintf(&b, "- %s: %s\n", f.Name, code(f.Value))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (g *Group) markdown(w io.Writer) {
	fmt.Fprintf(w, "### %s: %s\n\n%s, %s", g.Class, code(g.Title), report.Quantity(g.Count(), "finding"), code(g.ID))
	if g.Follows != "" {
		fmt.Fprintf(w, ", follows from: %s", code(g.Follows))
	}
	fmt.Fprint(w, "\n\n")
	for i, it := range g.Items {
		if i == shownPerGroup {
			fmt.Fprintf(w, "- … and %d more\n", g.Count()-i)
			break
		}
		fmt.Fprintf(w, "- %s\n", code(it.Name))
		for j, line := range it.Lines {
			if j == shownPerGroup {
				fmt.Fprintf(w, "  - … and %s more\n", report.Quantity(len(it.Lines)-j, "line"))
				break
			}
			fmt.Fprintf(w, "  - %s\n", code(line))
		}
	}
	if g.Next != "" {
		fmt.Fprintf(w, "\n→ %s\n", g.Next)
	}
	fmt.Fprintln(w)
}

// code returns s, which has no line ends, as a code span.
func code(s string) string {
	if s == "" {
		return ""
	}
	longest, run := 0, 0
	for _, c := range s {
		if c == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 || strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

// cell is code for a table, where a bar would end the cell even in a code span.
func cell(s string) string { return strings.ReplaceAll(code(s), "|", "¦") }
