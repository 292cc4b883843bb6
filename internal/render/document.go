package render

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// Tone says how good or bad something is, in a stable word.
type Tone string

// The tones.
const (
	Good    Tone = "good"
	Bad     Tone = "bad"
	Unknown Tone = "unknown"
	Note    Tone = "note"
)

// Document is what is rendered. All its strings are printable: [Text] makes them so.
type Document struct {
	// Title is the page's title; Verdict is one word, and Headline the verdict in a
	// sentence.
	Title, Verdict, Headline string
	Host                     string // "" where it is not known
	Tone                     Tone
	// Tool is the program that wrote the report, and Finished when it did.
	Tool     string
	Finished time.Time
	Took     time.Duration
	Facts    []Fact
	Steps    []Step
	// Coverage says what was checked, and when.
	Coverage []Fact
	// Notes are the limits of Coverage.
	Notes  []string
	Groups []Group
	// More counts the findings that the report does not list, Left those that it lists
	// and [Document.Bound] removed from Groups.
	More, Left int
	// Paths are the parts of a map by size; empty for no map.
	Paths []Path
}

// Fact is one line of a table.
type Fact struct{ Name, Value string }

// Step is one tier of a run, or one part of a comparison.
type Step struct {
	Name    string
	Status  string // "done", "skipped" or "failed"
	Why     string
	Checked int
	Found   int // findings in it that are no notices
	Took    time.Duration
}

// Group is the findings of one cause.
type Group struct {
	Tone  Tone
	Class string
	// ID is a stable word for the cause, Title its meaning, Next what to do.
	ID, Title, Next string
	Step            string
	Follows         string // the title of the cause that explains it
	Items           []Item
	Left            int // of its findings, left out of Items
}

// Count returns the number of g's findings, listed or not.
func (g Group) Count() int { return len(g.Items) + g.Left }

// Item is one finding.
type Item struct {
	Number int // in the report, from 1
	Name   string
	Lines  []string
}

// Path is one part of the map.
type Path struct {
	Name string
	// Label is a short name; "" for none.
	Label string
	Size  int64
	Tone  Tone
	Says  string
}

// maxText limits each value that is shown, in bytes before escaping.
const maxText = 400

// Text returns s ready to be shown: escaped and clipped.
func Text[S ~string](s S) string { return report.EscapeBounded(string(s), maxText) }

// cut clips printable text.
func cut(s string) string { return excerpt.Of(s, maxText) }

var tones = map[report.Class]Tone{report.Untrusted: Bad, report.Drift: Bad, report.Inconclusive: Unknown, report.Notice: Note}

// FromReport creates a document from a run's report.
func FromReport(r *report.Report) *Document {
	d := &Document{
		Title: "ec-verify: " + r.Verdict().String(), Verdict: r.Verdict().String(), Headline: cut(r.Headline()),
		Tone: map[report.Verdict]Tone{report.Verified: Good, report.Drifted: Bad, report.Refused: Bad}[r.Verdict()],
		Host: Text(r.Host), Tool: Text(r.Tool), Finished: r.Finished.UTC(), Took: r.Finished.Sub(r.Started),
	}
	if d.Tone == "" {
		d.Tone = Unknown
	}
	if r.Host != "" {
		d.Title += " · " + Text(r.Host)
	}
	d.facts(r)
	for _, t := range r.Tiers {
		s := Step{Name: Text(string(t.Name)), Status: Text(string(t.Status)), Why: Text(t.Why), Checked: t.Checked, Took: t.Took}
		for i := range r.Findings {
			if r.Findings[i].Tier == t.Name && r.Findings[i].Class() != report.Notice {
				s.Found++
			}
		}
		d.Steps = append(d.Steps, s)
	}
	d.coverage(r)
	d.groups(r)
	d.paths(r)
	return d
}

func (d *Document) fact(name, value string) {
	if value != "" {
		d.Facts = append(d.Facts, Fact{name, Text(value)})
	}
}

func (d *Document) facts(r *report.Report) {
	d.fact("machine", r.Host)
	if r.StoreRoot != "" {
		d.fact("disk", r.StoreRoot+", a mounted disk: the running machine was not examined")
	}
	if rel := r.Release; rel != nil {
		d.fact("release", rel.Tag)
		d.fact("signed by", rel.Signer)
		d.fact("from", rel.Source)
		d.fact("commit", rel.Commit)
		d.fact("created", day(rel.Created))
		d.fact("best before", day(rel.BestBefore))
		d.fact("system", string(rel.OutPath))
	} else {
		d.fact("compared with", r.Against+": no release of it was accepted")
	}
	d.fact("configuration", r.Configuration)
	for _, u := range r.Unsafe {
		d.fact("weakened by", u)
	}
	if root := r.GCRoot; root != nil {
		d.fact("GC root", cmp.Or(root.Path, "none: a garbage collection may remove the candidate: "+root.Why))
	}
	if s := r.Standing; s != nil {
		standing := s.Verdict.String()
		switch {
		case s.Since.IsZero():
			standing = "not known: no run of the policy is"
		default:
			standing += " since " + s.Since.UTC().Format(time.RFC3339)
		}
		if s.Look != "" {
			standing += "; this run is a look and did not change that: " + s.Look
		}
		d.fact("standing", standing)
	}
	d.fact("ended", r.Finished.UTC().Format(time.RFC3339)+", after "+r.Finished.Sub(r.Started).Round(time.Second).String())
	d.fact("made by", "ec-verify "+r.Tool)
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// ages are the limits of the ages that the page counts, youngest first.
var ages = []struct {
	words string
	most  time.Duration
}{
	{"within an hour", time.Hour}, {"within a day", 24 * time.Hour}, {"within 7 days", 7 * 24 * time.Hour}, {"within 30 days", 30 * 24 * time.Hour},
}

func (d *Document) coverage(r *report.Report) {
	c := r.Coverage
	if c.Paths == 0 {
		return
	}
	add := func(name, value string) { d.Coverage = append(d.Coverage, Fact{name, value}) }
	add("hashed by this run", fmt.Sprintf("%d of %s, %s in %s", c.Hashed, report.Quantity(c.Paths, "store path"), humanize.IBytes(uint64(max(c.Bytes, 0))), report.Quantity(c.Files, "file")))
	if c.Remembered > 0 {
		add("by earlier runs", report.Quantity(c.Remembered, "store path"))
	}
	if c.Overdue > 0 {
		add("overdue", report.Quantity(c.Overdue, "store path"))
	}
	counts := make([]int, len(ages)+2)
	for _, p := range r.Closure {
		counts[ageOf(p.Checked, r.Finished)]++
	}
	for i, n := range counts {
		switch {
		case n == 0:
		case i < len(ages):
			add("last hashed "+ages[i].words, report.Quantity(n, "store path"))
		case i == len(ages):
			add("last hashed longer ago", report.Quantity(n, "store path"))
		default:
			add("never hashed, as far as this report says", report.Quantity(n, "store path"))
		}
	}
	how := "contents of files were read through the page cache"
	if c.Read.String() == "disk" {
		how = "contents of files were read from the disk"
		if c.FromCache > 0 {
			how += fmt.Sprintf(", except %s that only the page cache gave", report.Quantity(c.FromCache, "file"))
		}
	}
	d.Notes = append(d.Notes, how+"; names, targets of links, modes and the Nix database through the page cache")
	for _, o := range c.Origins {
		d.Notes = append(d.Notes, Text(fmt.Sprintf("%s from %s %s (device %s), mounted at %s", o.Dir, o.Type, o.Source, o.Device, o.Point)))
	}
}

// ageOf returns the index of an age; len(ages) for older ones, and one more if unknown.
func ageOf(checked, now time.Time) int {
	if checked.IsZero() {
		return len(ages) + 1
	}
	for i, a := range ages {
		if now.Sub(checked) <= a.most {
			return i
		}
	}
	return len(ages)
}

func (d *Document) groups(r *report.Report) {
	type key struct {
		cause, follows report.Cause
		tier           report.TierName
	}
	at := make(map[key]int)
	for i := range r.Findings {
		f := &r.Findings[i]
		k := key{f.Cause, f.ConsequenceOf, f.Tier}
		n, ok := at[k]
		if !ok {
			n = len(d.Groups)
			at[k] = n
			g := Group{
				Tone: tones[f.Class()], Class: string(f.Class()), ID: Text(string(f.Cause)), Title: Text(report.Title(f.Cause)), Next: f.Advice(), Step: Text(string(f.Tier)),
			}
			if f.ConsequenceOf != "" {
				g.Follows = Text(report.Title(f.ConsequenceOf))
			}
			d.Groups = append(d.Groups, g)
		}
		d.Groups[n].Items = append(d.Groups[n].Items, item(i+1, f))
	}
	for _, n := range r.More {
		d.More += n
	}
	d.Bound()
}

func item(number int, f *report.Finding) Item {
	it := Item{Number: number, Name: Text(strings.TrimSpace(f.Path + " " + f.Field))}
	if it.Name == "" {
		it.Name = "the run as a whole"
	}
	line := func(label, value string) {
		if value != "" {
			it.Lines = append(it.Lines, label+Text(value))
		}
	}
	line("", f.Of())
	line("", f.Detail)
	if len(f.Files) == 0 || f.Want != "" {
		line("want ", f.Want)
		line("got  ", f.Got)
	}
	for _, c := range f.Files {
		it.Lines = append(it.Lines, cmp.Or(Text(c.Path), ".")+": "+Text(report.Changed(c.Kind)))
		for _, side := range []struct{ label, what string }{{"  want ", report.Describe(c.Want)}, {"  got  ", report.Describe(c.Got)}} {
			if side.what != "" { // which is printable
				it.Lines = append(it.Lines, side.label+side.what)
			}
		}
	}
	if f.MoreFiles > 0 {
		it.Lines = append(it.Lines, fmt.Sprintf("… and %s more", report.Quantity(f.MoreFiles, "file")))
	}
	return it
}

// paths adds the release's paths, with their findings, to the map.
func (d *Document) paths(r *report.Report) {
	if len(r.Closure) == 0 {
		return
	}
	found := make(map[closure.StorePath]*report.Finding)
	for i := range r.Findings {
		f := &r.Findings[i]
		p, _, err := r.Closure[0].Path.Dir().Within(f.Path)
		if err != nil {
			continue
		}
		if was := found[p]; was == nil || rank(f.Class()) > rank(was.Class()) {
			found[p] = f
		}
	}
	for _, p := range r.Closure {
		part := Path{Name: Text(p.Path.Base()), Label: Text(p.Path.Name()), Size: p.Size, Tone: Good, Says: "the release's bytes, hashed by this run"}
		switch p.State {
		case report.Hashed:
		case report.Remembered:
			part.Says = "the release's bytes, hashed by an earlier run on " + day(p.Checked)
		default:
			part.Tone, part.Says = Unknown, "not hashed recently enough"
		}
		if f := found[p.Path]; f != nil && f.Class() != report.Notice {
			part.Tone, part.Says = tones[f.Class()], Text(report.Title(f.Cause))
		}
		d.Paths = append(d.Paths, part)
	}
}

func rank(c report.Class) int {
	return map[report.Class]int{report.Notice: 1, report.Inconclusive: 2, report.Drift: 3, report.Untrusted: 4}[c]
}
