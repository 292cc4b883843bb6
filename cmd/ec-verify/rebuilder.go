package main

import (
	"path/filepath"
	"time"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/rebuild"
)

// newRebuilder returns what rebuilds as the configuration has it. The scratch
// directory lies in the state directory.
func newRebuilder(c config.Config) *rebuild.Rebuilder {
	r := c.Rebuild
	return &rebuild.Rebuilder{
		Nix: newNix(c), Dir: filepath.Join(c.StateDir, "rebuild"),
		Policy: rebuild.Policy{Choice: r.Choice, Share: r.Share, FirstParty: r.FirstParty},
		Limits: rebuild.Limits{
			Budget: time.Duration(r.Budget), Build: time.Duration(r.BuildTimeout),
			Scratch: r.ScratchSize, Reserve: r.Reserve, Jobs: r.Jobs,
		},
		Substitution: r.Substitute.Substitution, Turn: today(),
	}
}

// today numbers the days, so that the samples of a machine that runs every day
// and remembers nothing follow each other.
func today() int { return int(time.Now().Unix() / (24 * 60 * 60)) }

// verifyRebuilder returns what the verifier rebuilds with; nil for no rebuild.
func verifyRebuilder(c config.Config, pacer *neighbour.Pacer) verify.Rebuilder {
	if c.Rebuild.Choice == rebuild.None {
		return nil
	}
	r := newRebuilder(c)
	r.Ready = pacer.Rest
	return r
}

// newPacer returns what has a run give way as the configuration says; nil where
// it says nothing.
func newPacer(c config.Config) *neighbour.Pacer {
	return neighbour.New(c.Neighbour.Limits(), func() (neighbour.Stalls, error) {
		return neighbour.ReadStalls(neighbour.ProcPressure)
	})
}

func choices() []string {
	var out []string
	for _, c := range rebuild.Choices() {
		out = append(out, string(c))
	}
	return out
}
