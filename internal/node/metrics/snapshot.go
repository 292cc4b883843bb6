package metrics

import (
	"time"

	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/report"
)

// Snapshot is what is known after a run.
type Snapshot struct {
	// Report is that of the run. One without tiers is that of a run that could
	// not be made: nothing is verified by it.
	Report *report.Report
	// Standing is what that run, and those before it, say of the machine.
	Standing standing.Standing
	// Ledger is what earlier runs verified; nil where that can't be told.
	Ledger *Ledger
}

// Ledger is what the ledger says after a run.
type Ledger struct {
	Tiers []Tier
}

// Tier is how much of the items of one tier was checked when.
type Tier struct {
	Name     string // contents or rebuild
	Items    int    // Covered and Overdue together
	Covered  int    // checked in time
	Overdue  int    // not checked in time
	Drifted  int    // something else when they were last looked at
	Every    time.Duration
	Oldest   time.Time // the check that is the longest ago; zero for none
	Complete time.Time // since then every item was checked; zero where one never was
}
