package compare

import (
	"strings"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// Cause returns the cause that a machine is given which has what B's manifest says and
// is held to A's release: the same word in a comparison of builds as in a report. It is
// "" for what no machine is held to, such as the bytes of an image.
func (d *Difference) Cause() report.Cause {
	if !strings.HasPrefix(d.Asset, "closure-") || !strings.HasSuffix(d.Asset, ".json") {
		return ""
	}
	if d.Path == "" {
		return fieldCauses[d.Field]
	}
	switch d.Kind {
	case OnlyA:
		return closure.Missing
	case OnlyB:
		return closure.Extra
	case Contents:
		// B's disk and B's database agree: no manifest is made of a store where they
		// do not.
		return closure.ReplacedUnexplained
	case Field:
		if d.Field == "deriver" {
			return report.DeriverDiffers
		}
		return closure.DatabaseAltered
	}
	return ""
}

// fieldCauses are those of what a manifest says of the system as a whole.
var fieldCauses = map[string]report.Cause{
	"source.narHash":     report.SourceAltered,
	"source.lockNarHash": report.LockAltered,
	"toplevel.drvPath":   report.EvaluationDrift,
	"toplevel.outPath":   report.OtherSystem,
}
