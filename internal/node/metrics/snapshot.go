package metrics

import (
	"time"

	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/report"
)

// Snapshot is what is known after a run.
type Snapshot struct {
	// Report is the run's report. A report without tiers is that of a run that could not
	// start: it verifies nothing.
	Report *report.Report
	// Standing is the machine's standing after the run.
	Standing standing.Standing
	// Ledger is what earlier runs verified; nil if unknown.
	Ledger *Ledger
}

// Ledger is the summary of the ledger after a run.
type Ledger struct {
	Tiers []Tier
}

// Tier says how many items of one tier were checked, and when.
type Tier struct {
	Name     string // contents or rebuild
	Items    int    // Covered and Overdue together
	Covered  int    // checked in time
	Overdue  int    // not checked in time
	Drifted  int    // differed at their last check
	Every    time.Duration
	Oldest   time.Time // the check that is the longest ago; zero for none
	Complete time.Time // since then every item was checked; zero where one never was
}
