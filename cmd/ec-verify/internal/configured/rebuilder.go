package configured

import (
	"path/filepath"
	"time"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/rebuild"
)

// Rebuilder returns the rebuilder for the configuration. Its scratch directory is in the
// state directory.
func Rebuilder(c config.Config) *rebuild.Rebuilder {
	r := c.Rebuild
	return &rebuild.Rebuilder{
		Nix: Nix(c), Dir: filepath.Join(c.StateDir, "rebuild"),
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

// Choices are the values of --rebuild.
func Choices() []string {
	var out []string
	for _, c := range rebuild.Choices() {
		out = append(out, string(c))
	}
	return out
}
