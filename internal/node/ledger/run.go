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

// MaxStanding bounds the standing that a run leaves, in bytes.
const MaxStanding = 256 << 10

// End is how a run ended.
type End struct {
	// At is when; [Recorder.End] sets it.
	At time.Time
	// Verdict is the word that stands in the report, e.g. "drifted".
	Verdict string
	// Manifest and Configuration name what the machine was compared with; zero
	// where no release was trusted.
	Manifest      Manifest
	Configuration string
	Findings      Findings
	// Unsafe names what weakened the run; empty where nothing did.
	Unsafe string
	// Standing is what this run leaves known of the machine, in whatever form its
	// readers agree on, of at most [MaxStanding] bytes; empty to leave what is there.
	Standing string
}

// Findings counts the findings of a run by their class.
type Findings struct {
	Untrusted    int `json:"untrusted"`
	Drift        int `json:"drift"`
	Inconclusive int `json:"inconclusive"`
	Notice       int `json:"notice"`
}
