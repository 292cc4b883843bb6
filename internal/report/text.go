package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// TextOptions configures the text form.
type TextOptions struct {
	Color bool
	// All lists every finding; otherwise a group shows the first [shownPerGroup].
	All bool
	// Width is the terminal's width in cells: lines are folded to it, and the verdict is
	// repeated at the end. 0 means a file or a pipe.
	Width int
	// Height is the terminal's height in lines, 0 means 24: a report that does not fit is
	// shortened to the verdict and the paths.
	Height int
	// Long shows hashes, sizes and tiers on a terminal as well.
	Long bool
}

const (
	shownPerGroup = 20
	maxShown      = 400          // bytes of any one value
	maxDetail     = 4 * maxShown // bytes of a detail
)

// WriteText writes r for people: a verdict line, what was checked, the findings grouped
// by cause, and what to do next. On a terminal, unless the long form is wanted, each path
// takes one line and the verdict is repeated at the end.
func (r *Report) WriteText(w io.Writer, opts TextOptions) error {
	var b bytes.Buffer
	switch {
	case opts.Width == 0:
		fmt.Fprintf(&b, "%s\n\n", paint(opts, r.Verdict(), r.Headline()))
		r.writeLong(&b, opts)
	case opts.Long:
		var body bytes.Buffer
		r.writeLong(&body, opts)
		fmt.Fprintf(&b, "%s\n\n%s%s\n", paint(opts, r.Verdict(), folded(r.Headline(), opts.Width)), fold(body.String(), opts.Width), r.closing(r.ending(opts.Width), opts))
	default:
		r.writeScreen(&b, opts)
	}
	if opts.Width == 0 {
		for _, s := range r.closingLines() {
			fmt.Fprintln(&b, s)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Report) writeLong(w io.Writer, opts TextOptions) {
	r.writeRelease(w)
	r.writeTiers(w)
	r.writeCoverage(w)
	for group := range r.groups() {
		writeGroup(w, group, opts, func(f *Finding) { writeFinding(w, f) })
		fmt.Fprintln(w)
	}
}

// groups returns the findings that are shown together, in their order.
func (r *Report) groups() iter.Seq[[]Finding] {
	return func(yield func([]Finding) bool) {
		for i := 0; i < len(r.Findings); {
			n := i + 1
			for n < len(r.Findings) && sameGroup(&r.Findings[i], &r.Findings[n]) {
				n++
			}
			if !yield(r.Findings[i:n]) {
				return
			}
			i = n
		}
	}
}

// closingLines returns the lines that follow the verdict: what protects a candidate, and
// the machine's standing.
func (r *Report) closingLines() []string {
	return slices.DeleteFunc([]string{r.gcRootLine(), r.StandingLine()}, func(s string) bool { return s == "" })
}

// gcRootLine says in one line whether a candidate is protected from garbage collection; ""
// if there is nothing to say.
func (r *Report) gcRootLine() string {
	switch root := r.GCRoot; {
	case root == nil:
		return ""
	case root.Path == "":
		return "no GC root: a garbage collection may remove the candidate: " + Escape(root.Why)
	default:
		return "GC root: " + Escape(root.Path) + " protects the candidate until ec-verify switch activates it or the next candidate replaces it"
	}
}

// StandingLine says in one line what r's verdict does not: that the run changed no
// standing, or that the standing differs, or no longer has what earlier runs found; "" if
// there is nothing to add.
func (r *Report) StandingLine() string {
	s := r.Standing
	switch {
	case s == nil:
		return ""
	case s.Since.IsZero() && s.Look != "":
		return "look: the machine's standing did not change: " + Escape(s.Look)
	case s.Look != "":
		return fmt.Sprintf("look: the machine's standing did not change (%s since %s): %s", s.Verdict, s.Since.UTC().Format(time.RFC3339), Escape(s.Look))
	case s.Verdict != r.Verdict():
		return fmt.Sprintf("the machine's standing did not change (%s since %s): this run has not verified what earlier ones found, see ec-verify status", s.Verdict, s.Since.UTC().Format(time.RFC3339)) + s.dropped("; ")
	}
	return s.dropped("")
}

// dropped says, after before, that findings no longer count; "" for none.
func (s *Standing) dropped(before string) string {
	switch s.Dropped {
	case 0:
		return ""
	case 1:
		return before + "1 finding of earlier runs no longer counts, unverified: the policy no longer requests its tier or part"
	}
	return fmt.Sprintf("%s%d findings of earlier runs no longer count, unverified: the policy no longer requests their tiers or parts", before, s.Dropped)
}

// Headline returns the verdict and its subject in one line.
func (r *Report) Headline() string {
	counts, follow := r.primary()
	against := "release " + Escape(r.Against)
	if r.Release != nil {
		against = fmt.Sprintf("release %s (%s)", Escape(r.Release.Tag), Escape(r.Configuration))
	}
	subject := r.subject()
	var s string
	switch r.Verdict() {
	case Verified:
		s = fmt.Sprintf("verified: %s is %s", subject, against)
		if partial := r.leftOut(); partial != "" {
			s += ", within these limits: " + partial
		}
	case Drifted:
		s = r.driftedHeadline(subject, against, counts)
		if follow > 0 {
			s += fmt.Sprintf(", with %d more in consequence", follow)
		}
		if n := counts[Inconclusive]; n > 0 {
			s += fmt.Sprintf(", and %s could not be checked", Quantity(n, "thing"))
		}
	case Refused:
		if r.Release != nil {
			s = fmt.Sprintf("untrusted: a part of %s is not valid; the results below use only its other parts", against)
			break
		}
		s = fmt.Sprintf("untrusted: nothing was compared with %s", against)
	default:
		if r.isAbsent() {
			s = fmt.Sprintf("inconclusive: nothing was compared with %s: the candidate is not in the store", against)
			break
		}
		s = fmt.Sprintf("inconclusive: %s was not shown to be %s: %s could not be checked", subject, against, Quantity(max(counts[Inconclusive], 1), "thing"))
	}
	if r.Release != nil && r.Release.Unsigned {
		s += " (the signature was NOT CHECKED)"
	}
	return s
}

// isAbsent reports whether nothing was compared, because the candidate is not here.
func (r *Report) isAbsent() bool {
	return r.Verdict() == Unsettled && slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Cause == CandidateAbsent })
}

// isOfNextBoot reports whether all drift is in what the machine can boot next, and none in
// what it runs. own means that boot files of the running release are among it: the machine
// may have been booted with them.
func (r *Report) isOfNextBoot() (next, own bool) {
	const bootedSystem = "/run/booted-system"
	if r.Release == nil || r.Candidate != "" || r.StoreRoot != "" || r.More[Drift] > 0 {
		return false, false
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		switch {
		case f.Class() != Drift:
			continue
		case f.Cause == BootAltered:
			own = own || f.Release == ""
		case f.Cause == OtherProfile, f.Cause == OtherEntry, f.Cause == PendingAltered:
		case f.Cause == ReleaseRevoked && f.Tier == TierLive && f.Path != bootedSystem:
		case f.Tier == TierContents && f.Release != "": // no path of what runs
		default:
			return false, false
		}
		next = true
	}
	return next, own
}

// subject names what was checked.
func (r *Report) subject() string {
	subject := "this machine"
	if r.StoreRoot != "" {
		subject = "the disk at " + Escape(r.StoreRoot)
	}
	if r.Candidate == "" {
		return subject
	}
	candidate := "candidate " + escapeBounded(r.Candidate, maxShown)
	if r.StoreRoot != "" {
		return candidate + " on " + subject
	}
	return candidate
}

// driftedHeadline says how a drifted subject differs.
func (r *Report) driftedHeadline(subject, against string, counts map[Class]int) string {
	switch {
	case slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Cause == OtherRelease }):
		how := "as a whole"
		switch n := counts[Drift] - 1; {
		case n > 0:
			how = "with " + Quantity(n, "difference")
		case counts[Inconclusive] > 0 || r.leftOut() != "":
			how = "as far as it was checked"
		}
		return fmt.Sprintf("drifted: %s runs %s %s, not %s", subject, against, how, strings.ReplaceAll(Escape(r.Against), ", ", " or "))
	case r.isRevoked():
		return r.revokedHeadline(subject, against, counts)
	}
	differences := Quantity(counts[Drift], "difference")
	switch next, own := r.isOfNextBoot(); {
	case own:
		return fmt.Sprintf("drifted: what %s boots from is not %s: %s", subject, against, differences)
	case next:
		far := ""
		if counts[Inconclusive] > 0 || r.leftOut() != "" {
			far = " as far as it was checked"
		}
		return fmt.Sprintf("drifted: %s runs %s%s, but what it can boot next has %s", subject, against, far, differences)
	}
	return fmt.Sprintf("drifted: %s is not %s: %s", subject, against, differences)
}

// isRevoked reports whether the release that was compared with is revoked.
func (r *Report) isRevoked() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Cause == ReleaseRevoked && f.Tier == TierRelease })
}

// revokedHeadline is the headline if the release that was compared with is revoked, which
// counts as one of the differences.
func (r *Report) revokedHeadline(subject, against string, counts map[Class]int) string {
	n := counts[Drift] - 1
	switch {
	case r.Release == nil:
		return fmt.Sprintf("drifted: %s is revoked by its publisher, and nothing was compared with it", against)
	case n > 0:
		return fmt.Sprintf("drifted: %s is not %s, which its publisher has revoked: %s", subject, against, Quantity(n, "difference"))
	case counts[Inconclusive] > 0 || r.leftOut() != "":
		return fmt.Sprintf("drifted: %s is %s, which its publisher has revoked, as far as it was checked", subject, against)
	}
	return fmt.Sprintf("drifted: %s is %s, which its publisher has revoked", subject, against)
}

// primary counts the findings that are not consequences of others, and those that are.
func (r *Report) primary() (counts map[Class]int, follow int) {
	counts = make(map[Class]int)
	for i := range r.Findings {
		if r.Findings[i].ConsequenceOf != "" {
			follow++
			continue
		}
		counts[r.Findings[i].Class()]++
	}
	return counts, follow
}

// leftOut names the tiers that the policy asks for and that a verified run did not
// complete.
func (r *Report) leftOut() string {
	var b bytes.Buffer
	for _, t := range r.Tiers {
		if !r.isLeftOut(&t) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		if t.Status != Done {
			b.WriteString("no ")
		}
		fmt.Fprintf(&b, "%s (%s)", t.Name, Escape(t.Why))
	}
	return b.String()
}

func (r *Report) isLeftOut(t *Tier) bool {
	return (t.Status != Done || t.Why != "") && (t.Asked || r.skipped(t.Name))
}

// skipped reports whether a tier that the policy asks for was left out.
func (r *Report) skipped(name TierName) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return (f.Cause == CheckSkipped || f.Cause == MachineElsewhere || f.Cause == SourceElsewhere) && f.Tier == name
	})
}

func (r *Report) writeRelease(w io.Writer) {
	if rel := r.Release; rel != nil {
		fmt.Fprintf(w, "release   %s, %s, from %s\n", Escape(rel.Tag), Escape(rel.Signer), Escape(rel.Source))
		runs := ""
		if rel.Specialisation != "" {
			runs = fmt.Sprintf(", of which the specialisation %s runs", Escape(rel.Specialisation))
		}
		fmt.Fprintf(w, "system    %s (the release's%s)\n", rel.OutPath, runs)
	}
	if until := r.Release.Until(); until != "" {
		fmt.Fprintf(w, "valid     %s\n", until)
	}
	r.writeWeakened(w)
	if r.Release != nil || len(r.Unsafe) > 0 {
		fmt.Fprintln(w)
	}
}

// Until says in a line until when the release is accepted; "" if nothing ends it, or r is
// nil.
func (r *Release) Until() string {
	var parts []string
	if r == nil {
		return ""
	}
	day := func(what string, t time.Time) {
		if !t.IsZero() {
			parts = append(parts, what+" "+t.UTC().Format(time.RFC3339))
		}
	}
	day("best before", r.BestBefore)
	if !r.RefusedAfter.Equal(r.BestBefore) {
		day("with the grace until", r.RefusedAfter)
	}
	day("its key until", r.KeyNotAfter)
	return strings.Join(parts, ", ")
}

func (r *Report) writeTiers(w io.Writer) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"tier", "status", "checked", "findings", "took", ""})
	for _, tier := range r.Tiers {
		found := 0
		for i := range r.Findings {
			if r.Findings[i].Tier == tier.Name && r.Findings[i].Class() != Notice {
				found++
			}
		}
		t.AppendRow(table.Row{tier.Name, tier.Status, tier.Checked, found, tier.Took.Round(10 * time.Millisecond), escapeBounded(tier.Why, maxShown)})
	}
	right := func(n int) table.ColumnConfig {
		return table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs([]table.ColumnConfig{right(3), right(4), right(5)})
	// Rows without a reason are padded to the width of those with one.
	for row := range strings.Lines(t.Render()) {
		fmt.Fprintln(w, strings.TrimRight(row, " \n"))
	}
	fmt.Fprintln(w)
}

func (r *Report) writeCoverage(w io.Writer) {
	c := r.Coverage
	if c.Paths == 0 {
		if len(c.Origins) > 0 {
			c.writeOrigins(w)
			fmt.Fprintln(w)
		}
		return
	}
	how := "read through the page cache"
	if c.Read.String() == "disk" {
		how = "contents read from the disk"
		if c.FromCache > 0 {
			how += fmt.Sprintf(", except %s that only the page cache gave", Quantity(int(c.FromCache), "file"))
		}
		how += "; names, link targets, modes and the Nix database came through the page cache"
	}
	if c.Paused >= time.Second {
		how += fmt.Sprintf("; paused %s for other programs", c.Paused.Round(time.Second))
	}
	if c.Remembered > 0 {
		how += fmt.Sprintf("; %d by earlier runs", c.Remembered)
	}
	if c.Overdue > 0 {
		how += fmt.Sprintf("; %d are overdue", c.Overdue)
	}
	fmt.Fprintf(w, "%d of %s hashed, %s in %s, %s\n", c.Hashed, Quantity(c.Paths, "store path"),
		humanize.IBytes(uint64(max(c.Bytes, 0))), Quantity(int(c.Files), "file"), how)
	c.writeOrigins(w)
	fmt.Fprintln(w)
}

func sameGroup(a, b *Finding) bool {
	return a.Cause == b.Cause && a.Tier == b.Tier && a.ConsequenceOf == b.ConsequenceOf
}

// writeGroup writes findings of one cause under its title, each with one.
func writeGroup(w io.Writer, group []Finding, opts TextOptions, one func(f *Finding)) {
	first := &group[0]
	writeTitle(w, first)
	writeConsequence(w, first)
	shown := shownPerGroup
	if opts.All {
		shown = len(group)
	}
	writeEach(w, group, shown, one)
	writeAdvice(w, first)
}

func writeConsequence(w io.Writer, f *Finding) {
	if f.ConsequenceOf != "" {
		fmt.Fprintf(w, "  follows from: %s [%s]\n", Title(f.ConsequenceOf), f.ConsequenceOf)
	}
}

func writeAdvice(w io.Writer, f *Finding) {
	if next := f.Advice(); next != "" {
		fmt.Fprintf(w, "  → %s\n", next)
	}
}

func writeTitle(w io.Writer, f *Finding) {
	fmt.Fprintf(w, "%s: %s [%s, %s]\n", f.Class(), Title(f.Cause), f.Tier, f.Cause)
}

// writeEach writes the first shown findings of a group.
func writeEach(w io.Writer, group []Finding, shown int, one func(f *Finding)) {
	for i := range group {
		if i == shown {
			fmt.Fprintf(w, "  … and %d more (--all shows them)\n", len(group)-i)
			break
		}
		one(&group[i])
	}
}

func writeFinding(w io.Writer, f *Finding) {
	head := escapeBounded(f.Path, maxShown)
	if f.Field != "" {
		head += " " + escapeBounded(f.Field, maxShown)
	}
	if of := f.Of(); of != "" {
		head += " (" + of + ")"
	}
	if head != "" {
		fmt.Fprintf(w, "  %s\n", head)
	}
	if f.Detail != "" {
		fmt.Fprintf(w, "    %s\n", escapeBounded(f.Detail, maxDetail))
	}
	if len(f.Files) == 0 || f.Want != "" {
		line(w, "want", escapeBounded(f.Want, maxShown))
		line(w, "got ", escapeBounded(f.Got, maxShown))
	}
	for _, c := range f.Files {
		fmt.Fprintf(w, "    %s: %s\n", shownName(c.Path), changeWords[c.Kind])
		line(w, "  want", describe(c.Want, maxShown))
		line(w, "  got ", describe(c.Got, maxShown))
	}
	if f.MoreFiles > 0 {
		fmt.Fprintf(w, "    … and %s more\n", Quantity(f.MoreFiles, "file"))
	}
}

// shownName escapes the name of a file within a store path, "." for the path itself.
func shownName(name excerpt.Raw) string { return cmp.Or(escapeBounded(name, maxShown), ".") }

// Changed says in a few words how a file differs.
func Changed(kind closure.ChangeKind) string { return changeWords[kind] }

var changeWords = map[closure.ChangeKind]string{
	closure.FileAdded:      "added",
	closure.FileRemoved:    "removed",
	closure.FileContent:    "contents changed",
	closure.FileExecutable: "executable bit changed",
	closure.FileTarget:     "symlink leads elsewhere",
	closure.FileType:       "another type of file",
}

// line writes an escaped value, unless it is empty.
func line(w io.Writer, label, value string) {
	if value != "" {
		fmt.Fprintf(w, "    %s %s\n", label, value)
	}
}

func paint(opts TextOptions, v Verdict, s string) string {
	if !opts.Color {
		return s
	}
	color := map[Verdict]text.Colors{
		Verified: {text.FgGreen, text.Bold},
		Drifted:  {text.FgRed, text.Bold},
		Refused:  {text.FgRed, text.Bold},
	}[v]
	if color == nil {
		color = text.Colors{text.FgYellow, text.Bold}
	}
	return color.EscapeSeq() + s + text.Colors{text.Reset}.EscapeSeq()
}
