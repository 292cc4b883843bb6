package config

import (
	"time"

	"every.channel/ec-verify/internal/node/neighbour"
)

// Neighbour limits what a run takes from other programs on the machine.
type Neighbour struct {
	// DropBehind removes from the page cache what only the run read.
	DropBehind bool `json:"dropBehind"`
	// Rate is how many bytes of file contents are read per second; 0 for no limit.
	Rate int64 `json:"rate"`
	// MaxPressure is the share of time, in percent, for which other programs may wait for
	// a processor or the disk before the run pauses; 0 means that it never pauses.
	MaxPressure float64 `json:"maxPressure"`
	// MaxPause limits the total time of a run's pauses.
	MaxPause Duration `json:"maxPause"`
}

func defaultNeighbour() Neighbour {
	return Neighbour{DropBehind: true, MaxPause: Duration(30 * time.Minute)}
}

// Limits returns n in package neighbour's type.
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
