package systemd

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// MaxFindings is how many findings of a run have entries of their own. journald accepts a
// few thousand entries at once from a service before it drops some.
const MaxFindings = 50

// maxField limits the value of a field, in bytes: journalctl shows longer ones only with
// --all.
const maxField = 4000

// Run is what is known of a run at its start.
type Run struct {
	// ID is the number of the run in the ledger; 0 without one.
	ID int64
	// Tool is the version of the program.
	Tool string
	// Against is the requested release: a tag, or several.
	Against string
}

// Started returns the entry for the start of a run.
func Started(run Run) Entry {
	message := "verification begins"
	if run.ID != 0 {
		message = fmt.Sprintf("verification %d begins", run.ID)
	}
	if run.Against != "" {
		message += ", against " + text(run.Against)
	}
	return Entry{Event: RunStarted, Priority: journal.PriInfo, Message: message, Fields: run.fields()}
}

func (run Run) fields() map[Field]string {
	return map[Field]string{FieldRun: number(run.ID), FieldTool: text(run.Tool)}
}

// verdicts maps each verdict to its event and priority.
var verdicts = map[report.Verdict]struct {
	Event
	journal.Priority
}{
	report.Verified:  {RunVerified, journal.PriNotice},
	report.Drifted:   {RunDrifted, journal.PriErr},
	report.Refused:   {RunUntrusted, journal.PriCrit},
	report.Unsettled: {RunInconclusive, journal.PriWarning},
}

var classPriorities = map[report.Class]journal.Priority{
	report.Untrusted:    journal.PriCrit,
	report.Drift:        journal.PriErr,
	report.Inconclusive: journal.PriWarning,
	report.Notice:       journal.PriInfo,
}

// Ended returns the entries of a run with the report r: the gravest [MaxFindings]
// findings, the gravest of them last, and then the verdict, because a reader sees the end
// of a log, as does systemctl status.
func Ended(run Run, r *report.Report) []Entry {
	about := aboutRun(run, r)
	listed := r.Findings[:min(len(r.Findings), MaxFindings)]
	entries := make([]Entry, 0, len(listed)+1)
	for i := range slices.Backward(listed) {
		entries = append(entries, findingEntry(about, &listed[i]))
	}
	return append(entries, verdictEntry(about, r, len(r.Findings)-len(listed)))
}

// aboutRun returns the fields that all entries of an ended run have.
func aboutRun(run Run, r *report.Report) map[Field]string {
	about := run.fields()
	about[FieldVerdict] = r.Verdict().String()
	about[FieldConfiguration] = text(r.Configuration)
	about[FieldStoreRoot] = text(r.StoreRoot)
	if r.Release != nil {
		about[FieldRelease] = text(r.Release.Tag)
	}
	if r.Standing != nil {
		about[FieldLook] = text(r.Standing.Look)
	}
	return about
}

func verdictEntry(about map[Field]string, r *report.Report, leftOut int) Entry {
	known := verdicts[r.Verdict()]
	fields := maps.Clone(about)
	counts := r.Counts()
	for field, class := range map[Field]report.Class{
		FieldUntrusted: report.Untrusted, FieldDrift: report.Drift, FieldInconclusive: report.Inconclusive, FieldNotice: report.Notice,
	} {
		fields[field] = strconv.Itoa(counts[class])
	}
	fields[FieldSeconds] = strconv.FormatFloat(r.Finished.Sub(r.Started).Seconds(), 'f', 3, 64)
	fields[FieldBytes] = strconv.FormatInt(r.Coverage.Bytes, 10)
	fields[FieldUnsafe] = text(strings.Join(r.Unsafe, ", "))
	fields[FieldLeftOut] = number(int64(leftOut))

	lines := []string{bounded(r.Headline())}
	priority := known.Priority
	if line := r.StandingLine(); line != "" {
		lines = append(lines, bounded(line))
		if r.Standing.Verdict == report.Drifted || r.Standing.Verdict == report.Refused {
			priority = min(priority, journal.PriWarning)
		}
	}
	if len(r.Unsafe) > 0 {
		lines = append(lines, "weakened by "+text(strings.Join(r.Unsafe, ", ")))
		// A weakened check must be noticed.
		priority = min(priority, journal.PriWarning)
	}
	if leftOut > 0 {
		lines = append(lines, fmt.Sprintf("%d of %d findings have entries of their own; left out: %d; ec-verify shows them all",
			len(r.Findings)-leftOut, len(r.Findings), leftOut))
	}
	if len(r.Findings) > 0 && r.Findings[0].Class() != report.Notice {
		// The previous entry has the finding that this is about.
		fields[FieldAdvice] = report.Next(r.Findings[0].Cause)
	}
	return Entry{Event: known.Event, Priority: priority, Message: strings.Join(lines, "\n"), Fields: fields}
}

func findingEntry(about map[Field]string, f *report.Finding) Entry {
	fields := maps.Clone(about)
	maps.Copy(fields, map[Field]string{
		FieldClass: string(f.Class()), FieldCause: string(f.Cause), FieldConsequenceOf: string(f.ConsequenceOf),
		FieldTier: string(f.Tier), FieldPath: text(f.Path), FieldField: text(f.Field), FieldOfRelease: text(f.Release),
		FieldWant: text(f.Want), FieldGot: text(f.Got), FieldDetail: text(f.Detail),
		FieldMeaning: report.Title(f.Cause), FieldAdvice: report.Next(f.Cause),
	})
	if len(f.Files) > 0 {
		fields[FieldFile] = text(string(f.Files[0].Path))
		if f.Files[0].Path == "" {
			fields[FieldFile] = "."
		}
		fields[FieldFiles] = strconv.Itoa(len(f.Files) + f.MoreFiles)
	}
	message := f.Line()
	switch {
	case f.ConsequenceOf != "":
		message += "\nfollows from: " + report.Title(f.ConsequenceOf)
		fields[FieldAdvice] = "See the finding that it follows from: " + report.Title(f.ConsequenceOf) + "."
	case report.Next(f.Cause) != "":
		message += "\n→ " + report.Next(f.Cause)
	}
	event := FindingMade
	if f.Cause == report.PendingReboot {
		event = RebootPending
	}
	return Entry{Event: event, Priority: classPriorities[f.Class()], Message: message, Fields: fields}
}

// Overdue is what was not checked in time at one tier.
type Overdue struct {
	Tier    string
	Items   int           // how many there are
	Overdue int           // of these, not checked in time
	Never   int           // of these, never checked
	Every   time.Duration // how often each is to be checked
	Oldest  time.Time     // of the oldest check; zero where there is none
}

// Entry returns the entry of o, after the given run.
func (o Overdue) Entry(run Run) Entry {
	fields := run.fields()
	maps.Copy(fields, map[Field]string{
		FieldTier: text(o.Tier), FieldItems: strconv.Itoa(o.Items), FieldOverdue: strconv.Itoa(o.Overdue), FieldEvery: o.Every.String(),
	})
	message := fmt.Sprintf("coverage overdue: not checked within %s are %d of the %d items of the %s tier", o.Every, o.Overdue, o.Items, text(o.Tier))
	switch fields[FieldNever] = number(int64(o.Never)); {
	case o.Never == o.Overdue:
		message += ", as none of these ever was"
	case o.Never > 0:
		message += fmt.Sprintf(", and never were %d", o.Never)
	}
	// The oldest check is an overdue one, unless all overdue items were never checked.
	if !o.Oldest.IsZero() && o.Never < o.Overdue {
		fields[FieldOldest] = o.Oldest.UTC().Format(time.RFC3339)
		message += "; the oldest check is of " + fields[FieldOldest]
	}
	return Entry{
		Event: CoverageOverdue, Priority: journal.PriWarning, Fields: fields,
		Message: message + "\n→ See ec-verify status; give runs more time, or let them take place more often.",
	}
}

// Failed returns the entry for an error that ended the program.
func Failed(tool string, err error) Entry {
	message := text(strings.TrimSpace(err.Error()))
	return Entry{
		Event: CommandFailed, Priority: journal.PriErr, Message: message,
		Fields: map[Field]string{FieldTool: text(tool), FieldDetail: message},
	}
}

// Unmeasured returns the entry of a run whose metrics could not be written.
func Unmeasured(run Run, err error) Entry {
	message := text(strings.TrimSpace(err.Error()))
	fields := run.fields()
	fields[FieldDetail] = message
	return Entry{
		Event: MetricsFailed, Priority: journal.PriWarning, Fields: fields,
		Message: message + "\n→ The verdict does not depend on it. Create the directory of metrics.file and make it writable; for a unit, add it to ReadWritePaths=.",
	}
}

// text makes untrusted text safe for a field and a terminal: the catalog inserts fields
// without escaping them.
func text(s string) string { return bounded(report.Escape(s)) }

func bounded(s string) string { return excerpt.Of(s, maxField-len("…")) }

// number formats n; "" for 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
