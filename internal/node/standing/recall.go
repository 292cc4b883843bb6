package standing

import (
	"time"

	"every.channel/ec-verify/internal/report"
)

// Copy is one of the places where a standing is kept.
type Copy struct {
	File string
	Told string // what [Standing.Encode] wrote, "" for nothing
	// Damaged says that something may have been there that can't be read any more.
	Damaged bool
}

// skew is by how much clocks may differ that are right.
const skew = 5 * time.Minute

// later reports whether r ended after other did. A run that ended in the future, by a
// clock that was wrong then, is no later than one that did not.
func (r *Run) later(other *Run, now time.Time) bool {
	future := func(r *Run) bool { return r.Finished.After(now.Add(skew)) }
	if future(r) != future(other) {
		return future(other)
	}
	return r.Finished.After(other.Finished)
}

// Recall returns the standing that is kept in copies: the one that the latest run
// left, of the first copy that has it. Where none can be read and one is damaged the
// standing is lost, which is not that of a machine of which nothing was known: file says
// where it would have been, "" where it is not lost. now is when that is seen.
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
