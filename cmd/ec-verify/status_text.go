package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"every.channel/ec-verify/internal/ledger"
	"every.channel/ec-verify/internal/report"
)

// statusShown is how many items of a list people are shown.
const statusShown = 3

// writeText writes s for people: the last verdict, what was covered at each
// tier, what drifted, and what comes next.
func (s *status) writeText(w io.Writer, color bool) error {
	var b bytes.Buffer
	s.writeRun(&b, color)
	s.writeTiers(&b, color)
	for _, t := range s.Tiers {
		if t.Future > 0 {
			words := "bear a time to come, and count"
			if t.Future == 1 {
				words = "bears a time to come, and counts"
			}
			fmt.Fprintf(&b, "%s: %s %s as overdue: the clock was wrong then, or is now\n\n", t.Name, count(t.Future, "check"), words)
		}
	}
	s.writeItems(&b, "drifted", func(t *statusTier) ([]statusItem, int) { return t.DriftedItems, t.Drifted })
	s.writeItems(&b, "next", func(t *statusTier) ([]statusItem, int) { return t.Next, t.Pending })
	if n := len(s.SetAside); n > 0 {
		fmt.Fprintf(&b, "damaged ledgers lie beside this one as evidence, %d of them; what they remembered is lost:\n  %s\n\n",
			n, report.Escape(s.SetAside[n-1]))
	}
	_, err := w.Write(append(bytes.TrimRight(b.Bytes(), "\n"), '\n'))
	return err
}

func (s *status) writeRun(w io.Writer, color bool) {
	if r := s.LastRun; r == nil {
		fmt.Fprintln(w, paint("no verdict yet: no run has ended", text.FgYellow, color))
	} else {
		headline := fmt.Sprintf("%s %s", report.Escape(r.Verdict), s.ago(r.Finished))
		if r.Release != nil {
			headline += fmt.Sprintf(": release %s (%s)", report.Escape(r.Release.Tag), report.Escape(r.Configuration))
		}
		fmt.Fprintf(w, "%s\n\n", paint(headline, verdictColor(r.Verdict), color))
		fmt.Fprintf(w, "ended     %s, after %s, ec-verify %s, run %d\n", r.Finished.Format(time.RFC3339), r.Finished.Sub(r.Started).Round(10*time.Millisecond), report.Escape(r.Tool), r.ID)
		if found := findingsOf(r.Findings); found != "" {
			fmt.Fprintf(w, "findings  %s\n", found)
		}
		if r.Unsafe != "" {
			fmt.Fprintf(w, "weakened  by %s\n", report.Escape(r.Unsafe))
		}
	}
	if o := s.OpenRun; o != nil && s.UnderWay == nil {
		fmt.Fprintf(w, "another   run began %s and has no end yet: it is under way, or was killed\n", s.ago(o.Started))
	}
	s.writeMachine(w, s, color)
	fmt.Fprintln(w)
}

func findingsOf(f ledger.Findings) string {
	var parts []string
	for _, c := range []struct {
		n    int
		what report.Class
	}{{f.Untrusted, report.Untrusted}, {f.Drift, report.Drift}, {f.Inconclusive, report.Inconclusive}, {f.Notice, report.Notice}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
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
	t.AppendHeader(table.Row{"tier", "items", "covered", "overdue", "drifted", "oldest", "complete pass", "asked for"})
	for _, tier := range s.Tiers {
		if tier.Release == nil {
			t.AppendRow(table.Row{tier.Name, "-", "-", "-", "-", "-", "-", "nothing was ever asked for"})
			continue
		}
		overdue, drifted, complete := fmt.Sprint(tier.Overdue), fmt.Sprint(tier.Drifted), "none yet"
		if tier.Overdue > 0 {
			overdue = paint(overdue, text.FgYellow, color)
		}
		if tier.Drifted > 0 {
			drifted = paint(drifted, text.FgRed, color)
		}
		if tier.CompleteSince != nil {
			complete = s.ago(*tier.CompleteSince)
		}
		oldest := "-"
		if tier.Oldest != nil {
			oldest = s.ago(*tier.Oldest)
		}
		every := time.Duration(tier.EverySeconds * float64(time.Second))
		t.AppendRow(table.Row{tier.Name, tier.Items, tier.Covered, overdue, drifted, oldest, complete, "every " + span(every)})
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

// writeItems writes a list of items of each tier, of which there are more than
// are known here.
func (s *status) writeItems(w io.Writer, heading string, of func(*statusTier) (listed []statusItem, all int)) {
	written := false
	for i := range s.Tiers {
		t := &s.Tiers[i]
		listed, all := of(t)
		for n, item := range listed {
			if !written {
				fmt.Fprintln(w, heading)
				written = true
			}
			if n == statusShown {
				fmt.Fprintf(w, "  %-9s … and %d more\n", t.Name, all-n)
				break
			}
			fmt.Fprintf(w, "  %-9s %s, %s\n", t.Name, report.Escape(item.Path), s.history(item))
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

// span words a duration in days where it is some.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return count(int(d/day), "day")
	}
	return d.String()
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// verdictColor is green for verified, and yellow for what is no known verdict.
func verdictColor(verdict string) text.Color {
	switch verdict {
	case report.Verified.String():
		return text.FgGreen
	case report.Drifted.String(), report.Refused.String():
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
