package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Brief returns the verdict and the number of differences, in a few words.
func (r *Report) Brief() string {
	against := Escape(r.Against)
	if r.Release != nil {
		against = fmt.Sprintf("%s (%s)", Escape(r.Release.Tag), Escape(r.Configuration))
	}
	counts, _ := r.primary()
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Cause == OtherRelease }) {
		// Release is then the one that the machine runs.
		against = fmt.Sprintf("runs %s, not %s", against, strings.ReplaceAll(Escape(r.Against), ", ", " or "))
	}
	if r.isRevoked() {
		against += ", revoked"
	}
	if r.Candidate != "" {
		against = "candidate for " + against
	}
	s := fmt.Sprintf("%s: %s", r.Verdict(), against)
	if n := counts[Drift]; n > 0 {
		s += ", " + Quantity(n, "difference")
		switch next, own := r.isOfNextBoot(); {
		case own:
			s += " in what it boots from"
		case next:
			s += " in what it can boot"
		}
	}
	if n := counts[Inconclusive]; n > 0 {
		s += ", " + Quantity(n, "thing") + " not checked"
	}
	if r.Verdict() == Verified {
		for _, t := range r.Tiers {
			if r.isLeftOut(&t) {
				s += ", not all of " + string(t.Name)
			}
		}
	}
	if r.Candidate != "" && r.Release != nil {
		s += ", its boot files left out"
	}
	if r.Release != nil && r.Release.Unsigned {
		s += ", UNSIGNED"
	}
	return s
}

// ending returns the last line for a terminal: the headline, or a shorter verdict if that
// takes more than one line.
func (r *Report) ending(width int) string {
	if cells(r.Headline()) <= width {
		return r.Headline()
	}
	return folded(r.Brief(), width)
}

// writeScreen writes r for a terminal: the verdict, a line for each path, and the verdict
// again. What was checked and what to do is included if everything fits the screen.
func (r *Report) writeScreen(w *bytes.Buffer, opts TextOptions) {
	const usual, others = 24, 4 // lines: the command, two prompts, and something to spare
	height := cmp.Or(opts.Height, usual) - others
	var body bytes.Buffer
	r.writeShort(&body, opts)
	whole := r.screen(r.Headline(), &body, r.ending(opts.Width), false, opts)
	if strings.Count(whole, "\n") > height {
		whole = r.crowded(opts)
	}
	w.WriteString(whole)
}

// screen joins the first, middle and last part of a screen. Where something is left out or
// cut it says how to see that: behind the last verdict, or on a line of its own.
func (r *Report) screen(first string, body *bytes.Buffer, last string, leftOut bool, opts TextOptions) string {
	const more = "more: --long"
	head := paint(opts, r.Verdict(), folded(first, opts.Width)) + "\n" + fold(body.String(), opts.Width)
	closing := r.closing(last, opts)
	if !leftOut && !isCut(head+closing) {
		return head + closing + "\n"
	}
	if with := r.closing(last+" ("+more+")", opts); strings.Contains(with, "("+more+")") && strings.Count(with, "\n") == strings.Count(closing, "\n") {
		return head + with + "\n"
	}
	return head + more + "\n" + closing + "\n"
}

// isCut reports whether lines were cut to the width. What --all shows is not meant.
func isCut(text string) bool {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "…") && !strings.Contains(line, "(--all ") {
			return true
		}
	}
	return false
}

// closing returns the end of a screen: the verdict, and the standing where it differs. It
// has at most three lines, so that the verdict is visible above a prompt; the full text
// is written to a file or pipe.
func (r *Report) closing(verdict string, opts TextOptions) string {
	const most = 3
	verdict, rest := folded(verdict, opts.Width), ""
	if s := r.StandingLine(); s != "" {
		rest = "\n" + folded(s, opts.Width)
	}
	if strings.Count(verdict+rest, "\n") >= most {
		verdict = fit(r.Brief(), opts.Width)
		if lines := strings.SplitN(rest, "\n", most+1); len(lines) > most {
			last := lines[most-1] + " " + strings.Join(strings.Fields(lines[most]), " ")
			rest = strings.Join(lines[:most-1], "\n") + "\n" + fit(last, opts.Width)
		}
	}
	return paint(opts, r.Verdict(), verdict) + rest
}

// crowded returns the body of a screen that is too small: no advice, and for a drifted
// machine only what was not checked.
func (r *Report) crowded(opts TextOptions) string {
	first, last := r.Brief(), r.Brief()
	if r.StoreRoot != "" {
		first = r.Headline() // it names the disk
	}
	var body bytes.Buffer
	r.writeWeakened(&body)
	if r.Verdict() != Drifted {
		r.writeChecked(&body)
	}
	r.writeUnchecked(&body)
	groups := slices.Collect(r.groups())
	cause := ""
	if len(groups) == 1 && groups[0][0].Class() == Drift {
		cause = fmt.Sprintf(" [%s]", groups[0][0].Cause)
	}
	titled := cause == "" || cells(first+cause) > opts.Width
	if !titled {
		first += cause
	}
	for _, group := range groups {
		if titled {
			writeTitle(&body, &group[0])
		}
		writeEach(&body, group, opts, func(f *Finding) { writeShortFinding(&body, f, opts.Width) })
	}
	return r.screen(first, &body, last, true, opts)
}

// writeShort writes the part between the two verdict lines of a screen: a line for what
// was checked, and a line for each path.
func (r *Report) writeShort(w io.Writer, opts TextOptions) {
	if rel := r.Release; rel != nil {
		fmt.Fprintf(w, "release   %s, %s, from %s\n", Escape(rel.Tag), Escape(rel.Signer), Escape(rel.Source))
	}
	if until := r.Release.Until(); until != "" {
		fmt.Fprintln(w, fit("valid     "+until, opts.Width))
	}
	r.writeWeakened(w)
	r.writeChecked(w)
	r.writeUnchecked(w)
	for group := range r.groups() {
		fmt.Fprintln(w)
		writeGroup(w, group, opts, func(f *Finding) { writeShortFinding(w, f, opts.Width) })
	}
	fmt.Fprintln(w)
}

func (r *Report) writeWeakened(w io.Writer) {
	for _, u := range r.Unsafe {
		fmt.Fprintf(w, "weakened  by %s\n", Escape(u))
	}
}

// writeShortFinding writes f in one line, which is cut to the width where there may be
// many. What says which system runs, boots or is judged is folded instead: there are few, and
// the end, where a place leads, counts as much.
func writeShortFinding(w io.Writer, f *Finding, width int) {
	s := f.short()
	if s == "" {
		return // of the run, or its release: the title says it
	}
	s = "  " + s
	if strings.HasPrefix(f.Path, "/") && f.Tier != TierLive && f.Tier != TierRelease {
		s = fit(s, width)
	}
	fmt.Fprintln(w, s)
}

// writeChecked lists in a line what was checked completely.
func (r *Report) writeChecked(w io.Writer) {
	var done []string
	for _, t := range r.Tiers {
		switch {
		case t.Name == TierRelease || t.Status != Done:
		case t.Name == TierContents && r.Coverage.Paths > 0:
			c := r.Coverage
			done = append(done, fmt.Sprintf("%s (%d of %s)", t.Name, c.Hashed, Quantity(c.Paths, "store path")))
		default:
			done = append(done, string(t.Name))
		}
	}
	if len(done) > 0 {
		fmt.Fprintf(w, "checked   %s\n", strings.Join(done, ", "))
	}
}

// writeUnchecked says for each incomplete tier, in a line, why.
func (r *Report) writeUnchecked(w io.Writer) {
	for _, t := range r.Tiers {
		// Before a switch to a candidate, people must know what was not checked.
		about := t.Asked || r.skipped(t.Name) || r.Candidate != "" && t.Name == TierLive
		if t.Why != "" && about && (t.Status != Skipped || r.Release != nil) {
			label := string(t.Status)
			if t.Status == Done {
				label = "in part"
			}
			fmt.Fprintf(w, "%-9s %s: %s\n", label, t.Name, escapeBounded(t.Why, maxShown))
		}
	}
}

// short returns f in one line, without hashes and sizes.
func (f *Finding) short() string {
	head := escapeBounded(f.Path, maxShown)
	if f.Field != "" {
		head = strings.TrimSpace(head + " " + escapeBounded(f.Field, maxShown))
	}
	switch of := f.Of(); {
	case len(f.Releases) == 2:
		head += " (both releases)"
	case len(f.Releases) > 2:
		head += fmt.Sprintf(" (%d releases)", len(f.Releases))
	case of != "":
		head += " (" + of + ")"
	}
	var about []string
	if n := len(f.Files); n > 0 {
		name := escapeBounded(f.Files[0].Path, maxShown)
		if name == "" {
			name = "."
		}
		about = append(about, name+" "+changeWords[f.Files[0].Kind])
		if more := n - 1 + f.MoreFiles; more > 0 {
			about = append(about, "and "+Quantity(more, "more file"))
		}
	}
	if f.Detail != "" {
		about = append(about, escapeBounded(f.Detail, maxShown))
	}
	if len(f.Files) == 0 {
		for _, side := range []struct{ label, value string }{{"got", f.Got}, {"want", f.Want}} {
			if side.value != "" && !strings.Contains(side.value, "sha256") {
				about = append(about, side.label+" "+escapeBounded(side.value, maxShown))
			}
		}
	}
	return strings.TrimPrefix(strings.TrimSuffix(head+": "+strings.Join(about, ", "), ": "), ": ")
}
