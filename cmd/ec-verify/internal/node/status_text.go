package node

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/report"
)

const (
	// statusShown is how many items of a list people are shown.
	statusShown = 3
	// statusWidth is the width of the text, in columns, and statusLabel that of the
	// labels at its top.
	statusWidth = 80
	statusLabel = 10
)

// Text implements [terminal.Result]: the standing and its basis, what was covered at each
// tier, what drifted, and what comes next.
func (s *status) Text(screen terminal.Screen) string {
	var b bytes.Buffer
	s.writeRun(&b, screen.Color)
	s.writeTiers(&b, screen.Color)
	for _, t := range s.Tiers {
		if t.Future > 0 {
			words := "bear a time to come, and count"
			if t.Future == 1 {
				words = "bears a time to come, and counts"
			}
			fmt.Fprintf(&b, "%s\n\n", wrap(fmt.Sprintf("%s: %s %s as overdue: the clock was wrong then, or is now", t.Name, report.Quantity(t.Future, "check"), words), 0))
		}
	}
	listed := s.writeFindings(&b)
	s.writeItems(&b, "drifted", listed, func(t *statusTier) ([]statusItem, int) { return t.DriftedItems, t.Drifted })
	s.writeItems(&b, "next", listed, func(t *statusTier) ([]statusItem, int) { return t.Next, t.Pending })
	if n := len(s.SetAside); n > 0 {
		fmt.Fprintf(&b, "damaged ledgers kept beside this one as evidence: %d; their contents\nare lost:\n  %s\n\n",
			n, report.Escape(s.SetAside[n-1]))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// wrap breaks text between words, so that no line has more than [statusWidth] columns but
// for a longer word. The text begins at column, and the other lines are indented to it.
func wrap(text string, column int) string {
	var b strings.Builder
	at := column
	for n, word := range strings.Fields(text) {
		width := utf8.RuneCountInString(word)
		switch {
		case n == 0:
		case at+1+width > statusWidth:
			b.WriteString("\n" + strings.Repeat(" ", column))
			at = column
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += width
	}
	return b.String()
}

// field writes a line of the head.
func field(w io.Writer, label, words string) {
	fmt.Fprintf(w, "%-*s%s\n", statusLabel, label, wrap(words, statusLabel))
}

// shortened escapes a path and shortens it to width columns. It keeps the end, where a
// store path has its name and version.
func shortened(path string, width int) string {
	return report.CutMiddle(report.Escape(path), width)
}

// unknown says why there is no standing.
func (s *status) unknown() string {
	if s.lost != "" {
		return fmt.Sprintf("the findings of earlier runs are lost, with %s", report.Escape(s.lost))
	}
	return "no run of the policy has ended"
}

// headline returns the standing in one line.
func (s *status) headline() string {
	r := s.LastRun
	if r == nil {
		return "no verdict yet: " + s.unknown() + "; systemctl start ec-verify, or ec-verify without options, makes one"
	}
	line := fmt.Sprintf("%s %s", s.Standing.Verdict, s.ago(r.Finished))
	if s.Standing.Verdict != r.Verdict || s.Standing.Since.Before(r.Finished) {
		line = fmt.Sprintf("%s %s", s.Standing.Verdict, s.lasting(s.Standing.Since))
	}
	if r.Release != nil {
		line += fmt.Sprintf(": release %s (%s)", report.Escape(r.Release.Tag), report.Escape(r.Configuration))
	}
	if s.Switched != nil {
		line += ", before the machine switched to another system"
	}
	return line
}

func (s *status) writeRun(w io.Writer, color bool) {
	verdict := report.Unsettled
	if s.Standing != nil {
		verdict = s.Standing.Verdict
	}
	for line := range strings.Lines(wrap(s.headline(), 0)) {
		fmt.Fprintln(w, paint(strings.TrimSuffix(line, "\n"), verdictColor(verdict), color))
	}
	if r := s.LastRun; r != nil {
		fmt.Fprintln(w)
		field(w, "last run", fmt.Sprintf("%s %s, %s, after %s, run %d, ec-verify %s", r.Verdict, s.ago(r.Finished),
			r.Finished.Format(time.RFC3339), r.Finished.Sub(r.Started).Round(10*time.Millisecond), r.ID, report.Escape(r.Tool)))
		if found := findingsOf(r.Findings); found != "" {
			field(w, "findings", found)
		}
		valid := report.Release{BestBefore: r.BestBefore, RefusedAfter: r.RefusedAfter, KeyNotAfter: r.KeyNotAfter}
		if until := valid.Until(); until != "" {
			field(w, "valid", until)
		}
		if r.Unsafe != "" {
			field(w, "weakened", "by "+report.Escape(r.Unsafe))
		}
	}
	if o := s.OpenRun; o != nil && s.UnderWay == nil && s.Died == nil {
		field(w, "another", fmt.Sprintf("run began %s and has not ended: it is running or was killed", s.ago(o.Started)))
	}
	s.writeMachine(w, s)
	fmt.Fprintln(w)
}

func findingsOf(counts map[report.Class]int) string {
	var parts []string
	for _, c := range []report.Class{report.Untrusted, report.Drift, report.Inconclusive, report.Notice} {
		if counts[c] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", c, counts[c]))
		}
	}
	return strings.Join(parts, ", ")
}

func (s *status) writeTiers(w io.Writer, color bool) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"tier", "items", "covered", "overdue", "drifted", "oldest", "complete", "every"})
	age := func(at *time.Time, none string) string {
		if at == nil {
			return none
		}
		return strings.TrimSuffix(s.ago(*at), " ago")
	}
	for _, tier := range s.Tiers {
		if tier.Release == nil {
			t.AppendRow(table.Row{tier.Name, "-", "-", "-", "-", "-", "-", "off"})
			continue
		}
		overdue, drifted := fmt.Sprint(tier.Overdue), fmt.Sprint(tier.Drifted)
		if tier.Overdue > 0 {
			overdue = paint(overdue, text.FgYellow, color)
		}
		if tier.Drifted > 0 {
			drifted = paint(drifted, text.FgRed, color)
		}
		every := time.Duration(tier.Every)
		t.AppendRow(table.Row{tier.Name, tier.Items, tier.Covered, overdue, drifted, age(tier.Oldest, "-"), age(tier.CompleteSince, "none yet"), span(every)})
	}
	var columns []table.ColumnConfig
	for n := 2; n <= 5; n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for row := range strings.Lines(t.Render()) {
		fmt.Fprintln(w, strings.TrimRight(row, " \n"))
	}
	fmt.Fprintln(w)
}

// writeFindings writes the findings that count, each path once, and returns their
// paths.
func (s *status) writeFindings(w io.Writer) map[string]bool {
	listed := map[string]bool{}
	if s.Standing == nil || len(s.Standing.Findings) == 0 {
		return listed
	}
	fmt.Fprintln(w, "found")
	// What adjacent paths have in common is written once, below the last of them.
	var common string
	var cause report.Cause
	advised := map[report.Cause]bool{}
	advise := func(cause report.Cause, column int) {
		if next := report.Next(cause); next != "" && !advised[cause] {
			fmt.Fprintf(w, "%*s%s\n", column, "", wrap("→ "+next, column))
		}
		advised[cause] = true
	}
	explain := func() {
		if common != "" {
			fmt.Fprintf(w, "    %s\n", wrap(common, 4))
			advise(cause, 4)
		}
	}
	for i, f := range s.Standing.Findings {
		if f.Path != "" && listed[f.Path] {
			continue
		}
		var why []string
		for _, same := range s.Standing.Findings[i:] {
			if same.Path == f.Path && (same.Path != "" || same == f) {
				why = append(why, fmt.Sprintf("%s [%s, %s]", report.Title(same.Cause), same.Tier, same.Cause))
			}
		}
		text := fmt.Sprintf("%s, %s", report.Escape(strings.Join(why, "; ")), s.lasting(f.Since))
		if text != common || f.Path == "" {
			explain()
			common = ""
		}
		if f.Path == "" {
			fmt.Fprintf(w, "  %s\n", wrap(text, 2))
			advise(f.Cause, 2)
			continue
		}
		fmt.Fprintf(w, "  %s\n", shortened(f.Path, statusWidth-2))
		listed[f.Path], common, cause = true, text, f.Cause
	}
	explain()
	if s.Standing.More > 0 {
		fmt.Fprintf(w, "  … and %d more\n", s.Standing.More)
	}
	for _, line := range s.wayOut() {
		fmt.Fprintf(w, "  %s\n", wrap("→ "+line, 2))
	}
	fmt.Fprintln(w)
	return listed
}

// wayOut says what ends findings that the last run did not find.
func (s *status) wayOut() []string {
	var dropped []string
	others := false
	for _, f := range s.Standing.Findings {
		if s.owed == nil || s.owed(f.Tier, f.Part) {
			others = true
			continue
		}
		name := string(f.Tier)
		if s.owed(f.Tier, "") {
			name += " (" + f.Part + ")"
		}
		if !slices.Contains(dropped, name) {
			dropped = append(dropped, name)
		}
	}
	var out []string
	if len(dropped) > 0 {
		out = append(out, fmt.Sprintf("The policy no longer requests %s: the next run of the policy drops these findings, unverified (systemctl start ec-verify).", strings.Join(dropped, " and ")))
	}
	if last := s.LastRun; others && last != nil && last.Verdict != s.Standing.Verdict && standing.Worse(last.Verdict, s.Standing.Verdict) == s.Standing.Verdict {
		out = append(out, "Not all of this was found by the last run: it counts until a run completes the same tier and verifies the machine.")
	}
	return out
}

// writeItems writes the items of each tier, of which there may be more than are known
// here, without those that were listed.
func (s *status) writeItems(w io.Writer, heading string, listed map[string]bool, of func(*statusTier) (known []statusItem, all int)) {
	written := false
	for i := range s.Tiers {
		t := &s.Tiers[i]
		known, all := of(t)
		shown := 0
		for _, item := range known {
			if listed[item.Path] {
				all--
				continue
			}
			if !written {
				fmt.Fprintln(w, heading)
				written = true
			}
			if shown == statusShown {
				fmt.Fprintf(w, "  … and %d more, %s\n", all-shown, t.Name)
				break
			}
			shown++
			listed[item.Path] = true
			fmt.Fprintf(w, "  %s\n    %s, %s\n", shortened(item.Path, statusWidth-2), t.Name, s.history(item))
		}
	}
	if written {
		fmt.Fprintln(w)
	}
}

// history says when an item was checked last, and what came of it.
func (s *status) history(item statusItem) string {
	if item.At == nil {
		return "never checked"
	}
	h := fmt.Sprintf("%s %s", item.Result, s.ago(*item.At))
	if item.Cause != "" {
		h += fmt.Sprintf(" [%s]", report.Escape(item.Cause))
	}
	return h
}

// ago words a time as seen from that of the status.
func (s *status) ago(t time.Time) string {
	if d := s.Now.Sub(t); d > -ledger.Skew && d < time.Second {
		return "just now"
	}
	return humanize.RelTime(t, s.Now, "ago", "in the future")
}

// lasting says for how long something that began at t has lasted.
func (s *status) lasting(t time.Time) string {
	if ago := s.ago(t); t.After(s.Now) || ago == "just now" {
		return ago
	}
	return "for " + humanize.RelTime(t, s.Now, "", "")
}

// span formats a duration in days if it is long enough.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return report.Quantity(int(d/day), "day")
	}
	return d.String()
}

// verdictColor is green for verified, and yellow for an unknown verdict.
func verdictColor(verdict report.Verdict) text.Color {
	switch verdict {
	case report.Verified:
		return text.FgGreen
	case report.Drifted, report.Refused:
		return text.FgRed
	}
	return text.FgYellow
}

func paint(s string, color text.Color, on bool) string {
	if !on {
		return s
	}
	return text.Colors{color, text.Bold}.EscapeSeq() + s + text.Colors{text.Reset}.EscapeSeq()
}
