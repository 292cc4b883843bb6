package config

import (
	"time"

	"every.channel/ec-verify/internal/node/neighbour"
)

// Neighbour says how a run keeps out of the way of the machine's other work.
type Neighbour struct {
	// DropBehind leaves the page cache to those who use it: what only the run
	// read is taken out of it again.
	DropBehind bool `json:"dropBehind"`
	// Rate is how many bytes of file contents are read in a second; 0 for as
	// many as can be.
	Rate int64 `json:"rate"`
	// MaxPressure is the share of time, in percent, for which other programs may
	// wait for a processor or the disk before the run pauses; 0 never pauses.
	MaxPressure float64 `json:"maxPressure"`
	// MaxPause is how long all pauses of a run may take.
	MaxPause Duration `json:"maxPause"`
}

func defaultNeighbour() Neighbour {
	return Neighbour{DropBehind: true, MaxPause: Duration(30 * time.Minute)}
}

// Limits returns what package neighbour goes by.
func (n *Neighbour) Limits() neighbour.Limits {
	return neighbour.Limits{Rate: n.Rate, MaxPressure: n.MaxPressure, MaxPause: time.Duration(n.MaxPause)}
}

func (n *Neighbour) check(wrong complain) {
	if n.Rate != 0 && n.Rate < neighbour.MinRate {
		wrong("neighbour.rate", "%d is neither 0 nor at least %d bytes a second", n.Rate, neighbour.MinRate)
	}
	if n.MaxPressure < 0 || n.MaxPressure > 100 {
		wrong("neighbour.maxPressure", "%v is not between 0 and 100 percent", n.MaxPressure)
	}
	if n.MaxPause < 0 {
		wrong("neighbour.maxPause", "must not be negative")
	}
}
