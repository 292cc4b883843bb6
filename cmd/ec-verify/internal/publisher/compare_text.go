package publisher

import (
	"fmt"
	"io"
	"strings"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/publisher/compare"
	"every.channel/ec-verify/internal/report"
)

// compareShown is how many differences of one file people are shown.
const compareShown = 20

// comparisonKind is the kind of the object that compare --output json prints.
const comparisonKind = "ec-compare"

// comparison is the result of compare, and what --output json prints of it;
// docs/releasing.md describes it.
type comparison struct {
	SchemaVersion int             `json:"schemaVersion"`
	Kind          string          `json:"kind"`
	Tool          string          `json:"tool"`
	Verdict       compare.Verdict `json:"verdict"`
	Primary       int             `json:"primary"`
	compare.Result

	all bool // the text lists all differences
}

func newComparison(r *compare.Result, all bool) *comparison {
	return &comparison{
		SchemaVersion: 1, Kind: comparisonKind, Tool: terminal.ToolVersion(), Verdict: r.Verdict(), Primary: r.Primary(), Result: *r, all: all,
	}
}

// Text implements [terminal.Result]: the result, then by file what differs, what could
// not be compared, and what counts as equal.
func (r *comparison) Text(terminal.Screen) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.headline())
	for i := 0; i < len(r.Differences); {
		asset := r.Differences[i].Asset
		fmt.Fprintf(&b, "\n%s\n", report.Escape(string(asset)))
		n := 0
		for ; i < len(r.Differences) && r.Differences[i].Asset == asset; i++ {
			if n++; n <= compareShown || r.all {
				writeDifference(&b, &r.Differences[i])
			}
		}
		if n > compareShown && !r.all {
			fmt.Fprintf(&b, "  and %d more (--all lists them)\n", n-compareShown)
		}
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "\n%d more differences were counted and not kept\n", r.More)
	}
	for _, f := range r.Failures {
		side := ""
		if f.Side != "" {
			side = " of " + f.Side
		}
		fmt.Fprintf(&b, "\nnot compared: %s%s: %s\n", report.Escape(string(f.Asset)), side, report.Escape(f.Detail))
	}
	if r.MoreFailures > 0 {
		fmt.Fprintf(&b, "\nnot compared and not listed: %d more\n", r.MoreFailures)
	}
	if len(r.Notes)+r.MoreNotes > 0 {
		fmt.Fprintln(&b)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", report.Escape(n))
	}
	if r.MoreNotes > 0 {
		fmt.Fprintf(&b, "note: %d more notes are not listed\n", r.MoreNotes)
	}
	return b.String()
}

func (r *comparison) headline() string {
	pair := fmt.Sprintf("%s and %s", report.Escape(string(r.A)), report.Escape(string(r.B)))
	failed := ""
	failures := len(r.Failures) + r.MoreFailures
	if failures > 0 {
		failed = fmt.Sprintf(", and %s could not be compared", report.Quantity(failures, "thing"))
	}
	switch r.Verdict {
	case compare.Equal:
		return fmt.Sprintf("equal: %s: %s, byte for byte", pair, report.Quantity(len(r.Compared), "file"))
	case compare.Different:
		s := fmt.Sprintf("different: %s: %s", pair, report.Quantity(r.Primary, "difference"))
		if follow := len(r.Differences) + r.More - r.Primary; follow > 0 {
			s += fmt.Sprintf(", with %d more in consequence", follow)
		}
		return s + failed
	}
	if len(r.Compared) == 0 && failures == 0 {
		return fmt.Sprintf("inconclusive: %s: there is nothing to compare", pair)
	}
	return fmt.Sprintf("inconclusive: %s: no difference in %s%s", pair, report.Quantity(len(r.Compared), "file"), failed)
}

// writeDifference writes one difference: its place, its kind, and the two sides.
func writeDifference(w io.Writer, d *compare.Difference) {
	var where []string
	for _, in := range d.Inside {
		where = append(where, report.Escape(string(in)))
	}
	switch {
	case d.Path != "" && d.File != nil && *d.File != "":
		where = append(where, string(d.Path)+"/"+report.Escape(string(*d.File)))
	case d.Path != "":
		where = append(where, string(d.Path))
	case d.File != nil:
		where = append(where, report.Escape(string(*d.File)))
	}
	line := strings.Join(where, " › ")
	if line != "" {
		line += ": "
	}
	line += kindText(d)
	if d.Bytes != nil {
		line += ": " + bytesText(d.Bytes)
	}
	if d.Follows {
		line += " (in consequence)"
	}
	fmt.Fprintf(w, "  %s\n", line)
	if d.A != "" || d.B != "" {
		fmt.Fprintf(w, "    A  %s\n    B  %s\n", terminal.Value(d.A), terminal.Value(d.B))
	}
}

func kindText(d *compare.Difference) string {
	switch d.Kind {
	case compare.OnlyA:
		return "only A has it"
	case compare.OnlyB:
		return "only B has it"
	case compare.Contents:
		if d.Field != "" {
			return "other bytes (" + report.Escape(d.Field) + ")"
		}
		return "other bytes"
	case compare.Type:
		return "not the same type of file"
	case compare.Executable:
		return "executable or not"
	case compare.Target:
		return "the link leads elsewhere"
	case compare.Metadata:
		return "other attributes"
	case compare.Checksum:
		return "the checksum differs"
	case compare.FalseChecksum:
		return "the checksum in " + d.Field + " is not that of its file"
	case compare.Derivation:
		return "the derivation differs by itself in " + report.Escape(d.Field)
	}
	return report.Escape(d.Field)
}

func bytesText(b *compare.Bytes) string {
	s := fmt.Sprintf("the first at byte %d, %s differ", b.First, report.Quantity(b.Count, "byte"))
	if b.Count == 1 {
		s = fmt.Sprintf("one byte differs, at %d", b.First)
	}
	if b.SizeA != b.SizeB {
		s += fmt.Sprintf("; %d and %d bytes", b.SizeA, b.SizeB)
	}
	return s
}
