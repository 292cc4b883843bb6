package config

import (
	"fmt"
	"time"

	"every.channel/ec-verify/internal/rebuild"
)

// Rebuild says what is built afresh, and within which limits.
type Rebuild struct {
	// Choice selects derivations: "none", "config", "sample", "first-party" or "all".
	Choice rebuild.Choice `json:"choice"`
	// Share is the size of a sample: one in Share of all derivations.
	Share int `json:"share"`
	// FirstParty matches the publisher's own derivations, by name ("every-channel-*") or
	// by attribute ("src=*-source").
	FirstParty []rebuild.Pattern `json:"firstParty"`
	// Budget is how long a run starts builds; 0 for no limit.
	Budget Duration `json:"budget"`
	// BuildTimeout limits one build.
	BuildTimeout Duration `json:"buildTimeout"`
	// ScratchSize is how many bytes of disk one build may take, Reserve how many bytes of
	// its file system stay free.
	ScratchSize int64 `json:"scratchSize"`
	Reserve     int64 `json:"reserve"`
	// Jobs is how many builds run at once.
	Jobs int `json:"jobs"`
	// Substitute says where missing build inputs are fetched from.
	Substitute Substitute `json:"substitute"`
}

func defaultRebuild() Rebuild {
	return Rebuild{
		Choice: rebuild.None, Share: rebuild.DefaultShare, BuildTimeout: Duration(time.Hour),
		ScratchSize: 10 << 30, Reserve: 1 << 30, Jobs: 1,
	}
}

func (r *Rebuild) check(wrong complain) {
	if r.Share < 1 || r.Share > 10_000 {
		wrong("rebuild.share", "%d is not between 1 and 10000", r.Share)
	}
	for i, p := range r.FirstParty {
		if err := p.Check(); err != nil {
			wrong(fmt.Sprintf("rebuild.firstParty[%d]", i), "%s", err)
		}
	}
	if r.Choice == rebuild.FirstParty && len(r.FirstParty) == 0 {
		wrong("rebuild.firstParty", "must list something for the choice first-party")
	}
	if r.Budget < 0 {
		wrong("rebuild.budget", "must not be negative")
	}
	if r.BuildTimeout <= 0 {
		wrong("rebuild.buildTimeout", "must be more than 0")
	}
	if r.ScratchSize < 1<<20 {
		wrong("rebuild.scratchSize", "%d is less than 1 MiB", r.ScratchSize)
	}
	if r.Reserve < 0 {
		wrong("rebuild.reserve", "must not be negative")
	}
	if r.Jobs < 1 || r.Jobs > 1024 {
		wrong("rebuild.jobs", "%d is not between 1 and 1024", r.Jobs)
	}
}
