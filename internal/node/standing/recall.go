package standing

import (
	"time"

	"every.channel/ec-verify/internal/report"
)

// Copy is one of the copies of a standing.
type Copy struct {
	File string
	Told string // what [Standing.Encode] wrote, "" for nothing
	// Damaged means that there may have been one that is now unreadable.
	Damaged bool
}

// skew is how much correct clocks may differ.
const skew = 5 * time.Minute

// later reports whether r ended after other. A run that ended in the future, by a clock
// that was wrong then, is not later than one that did not.
func (r *Run) later(other *Run, now time.Time) bool {
	future := func(r *Run) bool { return r.Finished.After(now.Add(skew)) }
	if future(r) != future(other) {
		return future(other)
	}
	return r.Finished.After(other.Finished)
}

// Recall returns the standing from copies: that of the latest run, from the first copy
// that has it. If none is readable and one is damaged, the standing is lost, which
// differs from a machine of which nothing was ever known: file is then where it would
// have been, otherwise "". now is the current time.
func Recall(copies []Copy, now time.Time) (s Standing, file string) {
	for _, c := range copies {
		kept, err := Decode(c.Told)
		switch {
		case c.Damaged || err != nil:
			if file == "" {
				file = c.File
			}
		case kept.Run != nil && (s.Run == nil || kept.Run.later(s.Run, now)):
			s = kept
		}
	}
	if s.Run != nil || file == "" {
		return s, ""
	}
	at := now.UTC().Truncate(time.Millisecond)
	return Standing{Verdict: report.Unsettled, Since: at, Findings: []Finding{{
		Class: report.Inconclusive, Cause: report.StandingLost, Tier: report.TierContents, Path: clipped(file), Since: at,
	}}}, file
}
