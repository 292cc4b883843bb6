package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
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
	switch n := counts[Inconclusive]; {
	case r.isAbsent():
		s += ", not in the store, so nothing was compared"
	case n > 0:
		s += ", " + Quantity(n, "thing") + " not checked"
	}
	if r.Verdict() == Verified {
		for _, t := range r.Tiers {
			if r.isLeftOut(&t) {
				s += ", not all of " + string(t.Name)
			}
		}
	}
	if r.Candidate != "" && r.Release != nil && !r.isAbsent() {
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

// shortForm is how much of a report a screen shows.
type shortForm struct {
	// head shows release, validity and what was checked, and the advice on notices.
	head bool
	// advised is the number of groups, without notices, whose advice is shown.
	advised int
	// whole folds the lines of findings that are too wide, instead of cutting them.
	whole bool
	// shown is the number of findings that a group shows.
	shown int
}

// shortForms are tried until one fits the screen. What differs and what to do about it
// count more than what was checked, and the remedy more than the tenth path.
var shortForms = []shortForm{
	{head: true, advised: math.MaxInt, whole: true, shown: shownPerGroup},
	{advised: math.MaxInt, whole: true, shown: shownPerGroup},
	{head: true, advised: math.MaxInt, shown: shownPerGroup},
	{advised: math.MaxInt, shown: shownPerGroup},
	{advised: math.MaxInt, shown: shownPerGroup / 2},
	{advised: math.MaxInt, shown: 5},
	{advised: math.MaxInt, shown: 3},
	{advised: 1, shown: shownPerGroup / 2},
	{advised: 1, shown: 3}, // scrolls if it does not fit
}

// writeScreen writes r for a terminal: the verdict, a line for each path, what to do, and
// the verdict again. What was checked is included if everything fits the screen.
func (r *Report) writeScreen(w *bytes.Buffer, opts TextOptions) {
	const usual, others = 24, 4 // lines: the command, two prompts, and something to spare
	height := cmp.Or(opts.Height, usual) - others
	short := r.hashes()
	// A line names only the first file.
	files := slices.ContainsFunc(r.Findings, func(f Finding) bool { return len(f.Files) > 1 })
	screen := ""
	for _, form := range shortForms {
		if opts.All {
			form.shown = len(r.Findings)
		}
		if form.head {
			body := func(w io.Writer, opts TextOptions) { r.writeShort(w, form, short, opts) }
			screen = r.screen(r.Headline(), body, r.ending(opts.Width), files, opts)
		} else {
			screen = r.crowded(form, short, opts)
		}
		if strings.Count(screen, "\n") <= height {
			break
		}
	}
	w.WriteString(screen)
}

// hashes returns the hashes that tell the store paths of r's findings apart.
func (r *Report) hashes() hashes {
	var b strings.Builder
	for i := range r.Findings {
		f := &r.Findings[i]
		fmt.Fprintln(&b, f.Path, f.Detail, f.Got, f.Want)
	}
	return hashesIn(b.String())
}

// screen joins the first, middle and last part of a screen. Where something is left out or
// cut it says how to see that: behind the last verdict, or on a line of its own.
func (r *Report) screen(first string, body func(io.Writer, TextOptions), last string, leftOut bool, opts TextOptions) string {
	const more = "more: --long"
	var shown, whole bytes.Buffer
	body(&shown, opts)
	plain, unlimited := opts, opts
	plain.Color, unlimited.Width = false, 0
	body(&whole, unlimited)
	top, middle, end := folded(first, opts.Width), fold(shown.String(), opts.Width), r.closing(last, plain)
	rest := " " + strings.Join(r.closingLines(), " ")
	cut := isCut(top, first) || isCut(middle, whole.String()) || isCut(end, last+rest) && isCut(end, r.Brief()+rest)
	head, closing := paint(opts, r.Verdict(), top)+"\n"+middle, r.closing(last, opts)
	if !leftOut && !cut {
		return head + closing + "\n"
	}
	if with := r.closing(last+" ("+more+")", opts); strings.Contains(with, "("+more+")") && strings.Count(with, "\n") == strings.Count(closing, "\n") {
		return head + with + "\n"
	}
	return head + more + "\n" + closing + "\n"
}

// isCut reports whether shown is not all of whole, but for blanks and line ends.
func isCut(shown, whole string) bool {
	return !slices.Equal(strings.Fields(shown), strings.Fields(whole))
}

// closing returns the end of a screen: the verdict, what protects a candidate, and the
// standing where it differs. Each has at most two lines, so that the verdict is visible
// above a prompt; the full text is written to a file or pipe.
func (r *Report) closing(verdict string, opts TextOptions) string {
	const most = 2 // lines of each
	rest := ""
	for _, s := range r.closingLines() {
		rest += "\n" + foldedTo(s, opts.Width, most)
	}
	if strings.Count(folded(verdict, opts.Width)+rest, "\n") > most {
		verdict = r.Brief()
	}
	return paint(opts, r.Verdict(), foldedTo(verdict, opts.Width, most)) + rest
}

// crowded returns the body of a screen that is too small for everything: for a drifted
// machine only what was not checked.
func (r *Report) crowded(form shortForm, short hashes, opts TextOptions) string {
	first, last := r.Brief(), r.Brief()
	if r.StoreRoot != "" {
		first = r.Headline() // it names the disk
	}
	groups := slices.Collect(r.groups())
	cause := ""
	if len(groups) == 1 && groups[0][0].Class() == Drift {
		cause = fmt.Sprintf(" [%s]", groups[0][0].Cause)
	}
	titled := cause == "" || cells(first+cause) > opts.Width
	if !titled {
		first += cause
	}
	body := func(w io.Writer, opts TextOptions) {
		r.writeWeakened(w)
		if r.Verdict() != Drifted {
			r.writeChecked(w)
		}
		r.writeUnchecked(w)
		for i, group := range groups {
			if titled {
				writeTitle(w, &group[0])
			}
			form.writeGroup(w, group, i < form.advised, short, opts)
		}
	}
	return r.screen(first, body, last, true, opts)
}

// writeShort writes the part between the two verdict lines of a screen: a line for what
// was checked, and a line for each path.
func (r *Report) writeShort(w io.Writer, form shortForm, short hashes, opts TextOptions) {
	if rel := r.Release; rel != nil {
		fmt.Fprintf(w, "release   %s, %s, from %s\n", Escape(rel.Tag), Escape(rel.Signer), Escape(rel.Source))
	}
	if until := r.Release.Until(); until != "" {
		fmt.Fprintln(w, "valid     "+until)
	}
	r.writeWeakened(w)
	r.writeChecked(w)
	r.writeUnchecked(w)
	for group := range r.groups() {
		fmt.Fprintln(w)
		writeTitle(w, &group[0])
		writeConsequence(w, &group[0])
		form.writeGroup(w, group, true, short, opts)
	}
	fmt.Fprintln(w)
}

// writeGroup writes the findings of one cause without their title. Many notices, which
// are no alarm, are only counted where there is no room, and uses of exceptions anywhere.
func (form shortForm) writeGroup(w io.Writer, group []Finding, advise bool, short hashes, opts TextOptions) {
	first := &group[0]
	notice := first.Class() == Notice && !IsPending(first.Cause)
	switch {
	case len(group) > 1 && !opts.All && first.Cause == ExceptionUsed:
		fmt.Fprintf(w, "  %s (--all shows them)\n", allowed(group))
	case len(group) > 1 && !opts.All && notice && !form.head:
		fmt.Fprintf(w, "  %d of them (--all shows them)\n", len(group))
	default:
		width := opts.Width
		if form.whole {
			width = 0
		}
		writeEach(w, group, form.shown, func(f *Finding) { writeShortFinding(w, f, short, width) })
	}
	if form.head || advise && !notice {
		writeAdvice(w, first)
	}
}

// allowed counts what the exceptions of the policy allowed.
func allowed(used []Finding) string {
	differences := 0
	for i := range used {
		if used[i].Allowed == 0 { // in a report of an earlier program
			return Quantity(len(used), "exception")
		}
		differences += used[i].Allowed
	}
	return fmt.Sprintf("%s, by %s", Quantity(differences, "difference"), Quantity(len(used), "exception"))
}

func (r *Report) writeWeakened(w io.Writer) {
	for _, u := range r.Unsafe {
		fmt.Fprintf(w, "weakened  by %s\n", Escape(u))
	}
}

// writeShortFinding writes f in one line, which is cut to the width where there may be
// many. What says which system runs, boots or is judged is folded instead: there are few, and
// the end, where a place leads, counts as much.
func writeShortFinding(w io.Writer, f *Finding, short hashes, width int) {
	s := f.short()
	if s == "" {
		return // of the run, or its release: the title says it
	}
	if width > 0 && cells(s) > width-2 && strings.HasPrefix(f.Path, "/") && f.Tier != TierLive && f.Tier != TierRelease {
		s = f.fit(short, width-2)
	}
	fmt.Fprintln(w, "  "+s)
}

// fit returns f in one line of at most width cells. Where got and want are shortened, it
// shows where they differ.
func (f *Finding) fit(short hashes, width int) string {
	s := short.drop(f.short())
	got, want := f.gotWant()
	if cells(s) <= width || got == "" || want == "" {
		return short.fit(f.short(), width)
	}
	const between = ", want "
	head, cut := CutMiddle(short.drop(f.head()), width/2)+": got ", ""
	if f.Detail != "" {
		cut = " …"
	}
	got, want = pair(short.drop(got), short.drop(want), width-cells(head+between+cut))
	return head + got + between + want + cut
}

// writeChecked lists in a line what was checked completely.
func (r *Report) writeChecked(w io.Writer) {
	var done []string
	for _, t := range r.Tiers {
		switch {
		case t.Name == TierRelease || t.Status != Done:
		case t.Name == TierContents && r.Coverage.Paths > 0:
			c := r.Coverage
			how := fmt.Sprintf("%d of %s", c.Hashed, Quantity(c.Paths, "store path"))
			if c.Remembered > 0 {
				how += fmt.Sprintf(" hashed, %d by earlier runs", c.Remembered)
			}
			done = append(done, fmt.Sprintf("%s (%s)", t.Name, how))
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

// head names what f concerns.
func (f *Finding) head() string {
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
	return head
}

// short returns f in one line, without hashes and sizes.
func (f *Finding) short() string {
	head := f.head()
	var about []string
	if n := len(f.Files); n > 0 {
		about = append(about, shownName(f.Files[0].Path)+" "+changeWords[f.Files[0].Kind])
		if more := n - 1 + f.MoreFiles; more > 0 {
			about = append(about, "and "+Quantity(more, "more file"))
		}
	}
	if f.Detail != "" {
		about = append(about, escapeBounded(f.Detail, maxDetail))
	}
	got, want := f.gotWant()
	for _, side := range []struct{ label, value string }{{"got", got}, {"want", want}} {
		if side.value != "" {
			about = append(about, side.label+" "+side.value)
		}
	}
	return strings.TrimPrefix(strings.TrimSuffix(head+": "+strings.Join(about, ", "), ": "), ": ")
}

// gotWant returns the values that the short form shows.
func (f *Finding) gotWant() (got, want string) {
	shown := func(value string) string {
		if len(f.Files) > 0 || strings.Contains(value, "sha256") {
			return ""
		}
		return escapeBounded(value, maxShown)
	}
	return shown(f.Got), shown(f.Want)
}
