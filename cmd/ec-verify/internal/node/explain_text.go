package node

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/explain"
	"every.channel/ec-verify/internal/node/filediff"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// explained is the result of explain, and what --output json prints of it;
// docs/report.md describes it.
type explained struct {
	SchemaVersion int           `json:"schemaVersion"`
	Kind          string        `json:"kind"`
	Tool          string        `json:"tool"`
	Tag           string        `json:"tag"`
	Configuration string        `json:"configuration"`
	State         explain.State `json:"state"`
	WantHash      nar.Hash      `json:"want,omitzero"`
	GotHash       nar.Hash      `json:"got,omitzero"`
	OriginalState explain.State `json:"original,omitzero"`
	*explain.Explanation

	finding *report.Finding
	from    string // where the original is
	others  []otherRelease
}

func newExplained(x *explain.Explainer, e *explain.Explanation) *explained {
	return &explained{
		SchemaVersion: 1, Kind: "ec-explanation", Tool: terminal.ToolVersion(), Tag: string(x.Release.Tag()), Configuration: x.Configuration,
		State: e.Disk.State, WantHash: e.Want.NarHash, GotHash: e.Disk.Sum.Hash, OriginalState: e.Original.State, Explanation: e,
	}
}

// Text implements [terminal.Result]. The contents of files are not folded.
func (e *explained) Text(screen terminal.Screen) string {
	var head, files, rest strings.Builder
	e.writeHead(&head)
	e.writeFiles(&files, screen.Width)
	e.writeOrigin(&rest)
	for _, n := range e.Notes {
		fmt.Fprintf(&rest, "\nnote: %s\n", report.Escape(terminal.Clipped(n)))
	}
	return screen.Fold(head.String()) + files.String() + screen.Fold(rest.String())
}

func (e *explained) writeHead(w io.Writer) {
	fmt.Fprintf(w, "%s\n  %s\n", e.Path, e.headline())
	for i, o := range e.others {
		label, does := "", "has it too"
		if i == 0 {
			label = "accepted"
		}
		if !o.has {
			does = "does not have it"
		}
		fmt.Fprintf(w, "  %-8s  %s %s: --against %[2]s\n", label, report.Escape(o.tag), does)
	}
	if e.finding != nil {
		fmt.Fprintf(w, "  finding   %s\n", e.finding.Line())
	}
	if e.Want.Path != "" {
		fmt.Fprintf(w, "  release   %s, a NAR of %d bytes\n", e.Want.NarHash, e.Want.NarSize)
	}
	if e.Disk.Sum.Size > 0 && e.Disk.State != explain.Same {
		fmt.Fprintf(w, "  found     %s, a NAR of %d bytes\n", e.Disk.Sum.Hash, e.Disk.Sum.Size)
	}
	if e.from != "" {
		fmt.Fprintf(w, "  original  %s: %s\n", report.Escape(e.from), originalWords(e.Original))
	}
}

func (e *explained) headline() string {
	of := fmt.Sprintf("release %s (%s)", e.Tag, e.Configuration)
	switch e.Disk.State {
	case explain.Same:
		return "the same bytes as " + of
	case explain.Absent:
		return "missing; " + of + " has it"
	case explain.Unreadable:
		return "could not be read, so nothing is known of its bytes: " + report.Escape(terminal.Clipped(e.Disk.Why))
	case explain.Foreign:
		return "no path of " + of
	}
	return "other bytes than " + of
}

func originalWords(t explain.Tree) string {
	switch t.State {
	case explain.Same:
		return "the release's bytes, by their hash"
	case explain.Absent:
		return "does not have the path"
	case explain.Unreadable:
		return "could not be read: " + report.Escape(terminal.Clipped(t.Why))
	case explain.Foreign:
		return "has the path, which the release does not have"
	}
	return "differs from the release, so it is no original"
}

func (e *explained) writeFiles(w io.Writer, width int) {
	compared := false
	if n := len(e.Files) + e.MoreFiles; n > 0 {
		where := ""
		if e.OfOriginal {
			where = " in the original"
		}
		fmt.Fprintf(w, "\nWhat differs%s: %s\n", where, report.Quantity(n, "file"))
	}
	for i := range e.Files {
		f := &e.Files[i]
		fmt.Fprintf(w, "  %s: %s\n", cmp.Or(report.Escape(terminal.Clipped(f.Path)), "."), report.Changed(f.Kind))
		for _, side := range []struct{ label, what string }{{"want", f.Want}, {"got ", f.Got}} {
			if side.what != "" {
				fmt.Fprint(w, report.Fold(fmt.Sprintf("    %s  %s\n", side.label, side.what), width))
			}
		}
		if f.Within != nil {
			compared = true
			writeWithin(w, f.Within, "    ")
		}
		if f.Diffoscope == nil {
			continue
		}
		for line := range strings.Lines(string(*f.Diffoscope)) {
			fmt.Fprintf(w, "    diffoscope  %s\n", report.Escape(terminal.Clipped(strings.TrimSuffix(line, "\n"))))
		}
	}
	if e.MoreFiles > 0 {
		fmt.Fprintf(w, "  … and %d more\n", e.MoreFiles)
	}
	if !compared && (e.Disk.State == explain.Different || e.Disk.State == explain.Absent) {
		var how strings.Builder
		e.writeHow(&how)
		fmt.Fprint(w, report.Fold(how.String(), width))
	}
}

// writeHow says how to obtain an original.
func (e *explained) writeHow(w io.Writer) {
	fmt.Fprintf(w, "\nNo original is available, so the bytes were not compared. To obtain one:\n")
	if e.Want.Deriver != "" {
		fmt.Fprintf(w, "  - rebuild the path on this machine, if it has the build inputs: --rebuild\n")
	}
	fmt.Fprintf(w, "  - mount a machine, disk or medium of release %s, and give its root with --from DIR\n", e.Tag)
	if d := e.Want.Deriver; d != "" {
		fmt.Fprintf(w, "  - or rebuild it on a machine that has the derivation:\n      nix build --eval-store auto --store /var/tmp/original \\\n        '%s^*'\n      ec-verify explain --from /var/tmp/original \\\n        %s\n", d, e.Path)
	}
}

func (e *explained) writeOrigin(w io.Writer) {
	fmt.Fprintf(w, "\nWhy it is in the system\n")
	if len(e.Chain) == 0 {
		fmt.Fprintf(w, "  the release does not have it: nothing in it refers to it\n")
	}
	for i, p := range e.Chain {
		fmt.Fprintf(w, "  %s%s\n", strings.Repeat("  ", min(i, 10)), p)
	}
	if e.Want.Path == "" {
		return
	}
	o := &e.Origin
	fmt.Fprintf(w, "\nWhere it comes from\n")
	if o.Commit != "" {
		fmt.Fprintf(w, "  commit      %s\n", report.Escape(o.Commit))
	}
	if o.Deriver != "" {
		fmt.Fprintf(w, "  derivation  %s\n", o.Deriver)
	} else {
		fmt.Fprintf(w, "  derivation  none: it is a source\n")
	}
	if len(o.Builder) > 0 {
		var words []string
		for _, word := range o.Builder {
			words = append(words, string(word))
		}
		fmt.Fprintf(w, "  builder     %s\n", report.Escape(terminal.Clipped(strings.Join(words, " "))))
	}
	for _, url := range o.Fetched {
		fmt.Fprintf(w, "  fetched     %s\n", report.Escape(terminal.Clipped(url)))
	}
	var sources []string
	for _, p := range o.Sources {
		sources = append(sources, string(p))
	}
	writeFirst(w, "  source      ", sources)
	if o.FlakeSource {
		fmt.Fprintf(w, "  flake       its own source is in it\n")
	}
	for _, in := range o.Inputs {
		fmt.Fprintf(w, "  input       %s: %s\n", report.Escape(terminal.Clipped(in.Name)), report.Escape(in.Ref))
	}
	if len(o.Inputs) == 0 && !o.FlakeSource && len(o.All) > 0 {
		fmt.Fprintf(w, "  input       none of its own; the flake of this release created its derivation with:\n")
		var all []string
		for _, in := range o.All {
			all = append(all, report.Escape(terminal.Clipped(in.Name))+": "+report.Escape(in.Ref))
		}
		writeFirst(w, "              ", all)
	}
}

// writeFirst writes a line for each of the first values, and how many more there are.
func writeFirst(w io.Writer, label string, values []string) {
	const shown = 20
	for _, v := range values[:min(shown, len(values))] {
		fmt.Fprintf(w, "%s%s\n", label, v)
	}
	if more := len(values) - shown; more > 0 {
		fmt.Fprintf(w, "%s… and %d more\n", label, more)
	}
}

// causeWords describe the causes.
var causeWords = map[filediff.CauseName]string{
	filediff.Date: "a date or time", filediff.HostName: "a host name", filediff.BuildDir: "the directory of the build",
	filediff.CoreCount: "a number of cores", filediff.Order: "an order", filediff.RandomID: "a random id", filediff.Owner: "an owner",
	filediff.Dependency: "another store path of the same name", filediff.Compression: "the compression", filediff.ContentHash: "a hash of the rest",
}

// writeWithin writes what differs in a file, and below it in its parts.
func writeWithin(w io.Writer, r *filediff.Result, indent string) {
	fmt.Fprintf(w, "%s%s: %s, the first at %d; %d and %d bytes\n", indent, r.Format, differing(r.Count), r.First, r.SizeA, r.SizeB)
	for _, c := range r.Causes {
		line := causeWords[c.Name]
		if c.Where != "" {
			line += " in " + report.Escape(terminal.Clipped(c.Where))
		}
		if c.A != "" || c.B != "" {
			line += fmt.Sprintf(": %s, %s", report.Escape(terminal.Clipped(c.A)), report.Escape(terminal.Clipped(c.B)))
		}
		if c.Count > 1 {
			line += fmt.Sprintf(" (%d times)", c.Count)
		}
		fmt.Fprintf(w, "%s  looks like %s\n", indent, line)
	}
	if len(r.Causes) > 0 {
		if r.Explained {
			fmt.Fprintf(w, "%s  which accounts for everything that differs; the bytes are not the release's all the same\n", indent)
		} else {
			fmt.Fprintf(w, "%s  which does not account for everything that differs\n", indent)
		}
	}
	for _, p := range r.Parts {
		fmt.Fprintf(w, "%s  %s %s: %s", indent, p.Kind, report.Escape(terminal.Clipped(p.Name)), p.Change)
		if p.A != "" || p.B != "" {
			fmt.Fprintf(w, " (%s, %s)", terminal.Value(p.A), terminal.Value(p.B))
		}
		fmt.Fprintln(w)
		if p.Within != nil {
			writeWithin(w, p.Within, indent+"    ")
		}
	}
	if r.MoreParts > 0 {
		fmt.Fprintf(w, "%s  … and %d more\n", indent, r.MoreParts)
	}
	for _, line := range r.Diff {
		fmt.Fprintf(w, "%s  %s\n", indent, report.Escape(terminal.Clipped(line)))
	}
	if r.MoreDiff > 0 {
		fmt.Fprintf(w, "%s  … and %d more lines\n", indent, r.MoreDiff)
	}
	if r.Window != nil {
		writeWindow(w, r.Window, indent+"  ")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "%s  note: %s\n", indent, report.Escape(terminal.Clipped(n)))
	}
}

func differing(n int64) string {
	if n == 1 {
		return "one byte differs"
	}
	return fmt.Sprintf("%d bytes differ", n)
}

// writeWindow writes the bytes of both sides, 16 in a line; lines that are equal once.
func writeWindow(w io.Writer, win *filediff.Window, indent string) {
	line := func(side string, at int64, data []byte) {
		text := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '.'
			}
			return r
		}, string(latin1(data)))
		fmt.Fprintf(w, "%s%s %08x  %-47s  %s\n", indent, side, at, fmt.Sprintf("% x", data), text)
	}
	part := func(data []byte, from int) []byte {
		if from >= len(data) {
			return nil
		}
		return data[from:min(from+16, len(data))]
	}
	for from := 0; from < max(len(win.A), len(win.B)); from += 16 {
		a, b := part(win.A, from), part(win.B, from)
		if bytes.Equal(a, b) {
			line(" ", win.At+int64(from), a)
			continue
		}
		for _, side := range []struct {
			sign string
			data []byte
		}{{"-", a}, {"+", b}} {
			if len(side.data) > 0 {
				line(side.sign, win.At+int64(from), side.data)
			}
		}
	}
}

// latin1 makes a character of each byte.
func latin1(data []byte) []rune {
	out := make([]rune, len(data))
	for i, c := range data {
		out[i] = rune(c)
	}
	return out
}
