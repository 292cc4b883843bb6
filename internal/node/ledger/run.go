package ledger

import "time"

// Run is what is remembered of one run of the program.
type Run struct {
	// ID is the number of the run, from 1 on; a later run has a higher one.
	ID      int64
	Started time.Time // to the millisecond, in UTC
	// End is nil where the run recorded none: it is under way, or was killed.
	End  *End
	Tool string // version of the program
}

// MaxStanding limits the standing that a run leaves, in bytes.
const MaxStanding = 256 << 10

// End is how a run ended.
type End struct {
	// At is when; [Recorder.End] sets it.
	At time.Time
	// Verdict is the word in the report, e.g. "drifted".
	Verdict string
	// Manifest and Configuration identify what the machine was compared with; zero if no
	// release was trusted.
	Manifest      Manifest
	Configuration string
	Findings      Findings
	// Unsafe names what weakened the run; empty if nothing did.
	Unsafe string
	// Standing is the machine's standing after this run, in the form of package standing,
	// at most [MaxStanding] bytes; empty to leave the previous one.
	Standing string
}

// Findings counts the findings of a run by their class.
type Findings struct {
	Untrusted    int `json:"untrusted"`
	Drift        int `json:"drift"`
	Inconclusive int `json:"inconclusive"`
	Notice       int `json:"notice"`
}
