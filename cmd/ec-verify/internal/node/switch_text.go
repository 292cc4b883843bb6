package node

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/activate"
	"every.channel/ec-verify/internal/report"
)

// words says in one line what was done.
func (g *gate) words() string {
	var does []string
	if g.action.Runs() {
		does = append(does, "runs now")
	}
	if g.action.Boots() {
		does = append(does, "is booted from now on")
	}
	what := strings.Join(does, " and ")
	switch {
	case g.onlyPlanned():
		return fmt.Sprintf("not switched (--dry-run): not judged, because %s are not here but at %s; without --dry-run they are imported, and if the system is then verified, it %s", g.imports, g.imports.From, what)
	case g.report.Verdict() != report.Verified && g.outcome == activate.Outcome{}:
		return "not switched: nothing was changed"
	case g.dryRun && g.err != nil:
		return "not switched (--dry-run): the changes are unknown: " + g.err.Error()
	case g.dryRun:
		return "not switched (--dry-run): without --dry-run the system " + what
	case g.outcome.Activated:
		words := "switched: the system " + what
		if g.action.Runs() {
			words += "; ec-verify verifies the machine with it"
		}
		return words
	case g.outcome.Generation > 0:
		return fmt.Sprintf("switched in part: the system profile leads to the system, as generation %d, but %v", g.outcome.Generation, g.err)
	}
	return fmt.Sprintf("not switched: %v", g.err)
}

// String says how much is fetched.
func (i *imports) String() string {
	return fmt.Sprintf("%d of %d paths (%s)", i.Paths, i.Paths+i.Here, humanize.IBytes(uint64(i.Size))) //nolint:gosec // it is positive
}

// imported says in one line what became of --from, "" where the last line does.
func (g *gate) imported() string {
	switch {
	case g.imports == nil || g.onlyPlanned():
		return ""
	case g.imports.Paths == 0:
		return fmt.Sprintf("imported: nothing, because every path is here; %s was not asked", g.imports.From)
	}
	return fmt.Sprintf("imported: %s from %s", g.imports, g.imports.From)
}

// switchKind is the kind of the JSON that a switch prints.
const switchKind = "ec-verify-switch"

// switchResult is the output of --output json; docs/operating.md documents each member.
type switchResult struct {
	SchemaVersion int                      `json:"schemaVersion"`
	Kind          string                   `json:"kind"`
	Verdict       report.Verdict           `json:"verdict"`
	Action        activate.Action          `json:"action"`
	DryRun        bool                     `json:"dryRun"`
	Activated     bool                     `json:"activated"`
	Generation    int                      `json:"generation"`
	Detail        string                   `json:"detail"`
	Imports       *imports                 `json:"imports"`
	Changes       []activate.PackageChange `json:"changes"`
	Report        jsontext.Value           `json:"report"`
}

// render prints the report and what was done.
func (g *gate) render(t textFlags) error {
	if t.quiet {
		return nil
	}
	return g.app.Show(&switched{g, t})
}

// switched is a switch as it is shown.
type switched struct {
	*gate
	flags textFlags
}

// WriteJSON writes the result with the report in it, as that writes itself.
func (s *switched) WriteJSON(w io.Writer) error {
	var out bytes.Buffer
	if err := s.report.WriteJSON(&out); err != nil {
		return err
	}
	return terminal.WriteJSON(w, &switchResult{
		SchemaVersion: 1, Kind: switchKind, Verdict: s.report.Verdict(), Action: s.action, DryRun: s.dryRun,
		Activated: s.outcome.Activated, Generation: s.outcome.Generation, Detail: s.words(),
		Imports: s.imports, Changes: s.changes, Report: jsontext.Value(out.Bytes()),
	}, jsontext.WithIndent("  "), jsontext.AllowInvalidUTF8(true), json.FormatNilSliceAsNull(true))
}

// Text implements [terminal.Result].
func (s *switched) Text(screen terminal.Screen) string {
	var out strings.Builder
	judged := *s.report
	judged.Standing = nil // which a switch leaves alone; its last line says what it did
	if !s.onlyPlanned() || len(s.report.Findings) > 0 {
		out.WriteString((&shownReport{&judged, s.flags}).Text(screen))
		if !s.flags.brief {
			out.WriteByte('\n')
		}
	}
	var done strings.Builder
	if !s.flags.brief {
		s.writeChanges(&done, s.flags.all)
	}
	if line := s.imported(); line != "" {
		done.WriteString(report.Escape(line) + "\n")
	}
	done.WriteString(report.Escape(s.words()) + "\n")
	return out.String() + screen.Fold(done.String())
}

// maxChanges is how many packages are shown without --all.
const maxChanges = 100

func (g *gate) writeChanges(out *strings.Builder, all bool) {
	for i, c := range g.changes {
		if i == maxChanges && !all {
			fmt.Fprintf(out, "  and %d more (--all shows them)\n", len(g.changes)-i)
			break
		}
		fmt.Fprintf(out, "  %s: %s, %s\n", report.Escape(c.Name), changed(c), signed(c.Size))
	}
}

// changed words how the versions of a package change; those that stay are left out.
func changed(c activate.PackageChange) string {
	less := func(list, other []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(v string) bool { return slices.Contains(other, v) })
	}
	gone, added := less(c.Before, c.After), less(c.After, c.Before)
	switch {
	case len(gone)+len(added) == 0:
		return "the same versions"
	case len(gone) == 0 && len(c.Before) > 0:
		return versions(added) + " more"
	case len(added) == 0 && len(c.After) > 0:
		return versions(gone) + " less"
	}
	return versions(gone) + " → " + versions(added)
}

// versions lists versions for people.
func versions(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, v := range list {
		if v == "" {
			v = "no version"
		}
		out = append(out, report.Escape(v))
	}
	return strings.Join(out, ", ")
}

// signed words by how much something grows.
func signed(n int64) string {
	sign := "+"
	if n < 0 {
		sign, n = "-", -n
	}
	return sign + humanize.IBytes(uint64(n)) //nolint:gosec // it is positive
}

// maxRelayed is how much of a script's output is shown, in bytes.
const maxRelayed = 1 << 20

// relay returns a function that writes the output of a system's script to standard error,
// line by line, up to a sensible size; the script's log has all of it.
func (a *app) relay() func([]byte) {
	left := maxRelayed
	var line []byte
	return func(piece []byte) {
		for len(piece) > 0 && left > 0 {
			end := bytes.IndexByte(piece, '\n')
			part := piece
			if end >= 0 {
				part = piece[:end]
			}
			part = part[:min(len(part), left)]
			line = append(line, part...)
			left -= len(part) + 1
			if end < 0 {
				return
			}
			fmt.Fprintf(a.Stderr, "  %s\n", report.Escape(string(line)))
			line, piece = line[:0], piece[end+1:]
			if left <= 0 {
				fmt.Fprintln(a.Stderr, "  … the rest is in switch.log")
			}
		}
	}
}
