package publish

import (
	"context"
	"fmt"
	"strings"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild/drvdiff"
	"every.channel/ec-verify/pkg/closure"
)

// Naming means that a flake evaluates to another system by the name in the request, as
// nixos-rebuild --flake evaluates it, than by the hash of its source, which is all that a
// machine knows: it uses something from its name, such as the commit. A machine that
// nixos-rebuild builds is then never the release.
type Naming struct {
	// DrvPath is the system's derivation if the flake is evaluated by its name.
	DrvPath closure.StorePath
	// Differences explain it, at most three of them; the wanted side is the manifest's.
	Differences []drvdiff.Difference
	// Probably names what the flake uses; "" if that is unknown.
	Probably string
}

// compareNaming also evaluates the configuration by the name of its flake, and returns
// nil if the result is the same.
func (c *creation) compareNaming(ctx context.Context, toplevel closure.StorePath) (*Naming, error) {
	drv, err := c.DerivationByName(ctx, c.req.Flake, c.req.Configuration)
	if err != nil {
		return nil, err
	}
	if drv == toplevel {
		return nil, nil
	}
	found := &Naming{DrvPath: drv}
	other, err := nixstore.ReadDerivations(ctx, c.store, drv)
	if err != nil {
		return nil, fmt.Errorf("read the derivations of %s: %w", drv, err)
	}
	const shown = 3
	differences, _ := drvdiff.Compare(c.graph, other, toplevel, drv)
	found.Probably = probably(differences, c.src.Revision)
	found.Differences = differences[:min(len(differences), shown)]
	return found, nil
}

// probably guesses from the differences what a flake uses from its name.
func probably(differences []drvdiff.Difference, revision string) string {
	const shortRevision = 7
	for _, d := range differences {
		switch {
		case len(revision) > shortRevision && strings.Contains(d.GotValue, revision[:shortRevision]):
			return "the commit: self.rev or self.shortRev, as in system.configurationRevision = self.rev"
		case strings.Contains(d.GotValue, "-dirty"):
			return "the commit and that there are changes: self.dirtyRev or self.dirtyShortRev"
		case strings.Contains(d.WantValue, "19700101"):
			return "the time of the last change: self.lastModifiedDate"
		}
	}
	return ""
}

func (n *Naming) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "named as nixos-rebuild --flake names it, this flake evaluates to another system, %s; a machine that nixos-rebuild builds is not this release (other-system)", n.DrvPath)
	if n.Probably != "" {
		fmt.Fprintf(&b, "; that name probably adds %s, and self.narHash would be the same under every name", n.Probably)
	}
	for _, d := range n.Differences {
		fmt.Fprintf(&b, "; %s has the %s %q in the release and %q by the name", d.Want.Name(), d.Field, d.WantValue, d.GotValue)
	}
	return b.String()
}
