package compare

import (
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// cause returns the cause that a report gives for a machine that is B's manifest and is
// compared with A's release, so that a comparison of builds and a report use the same
// word. It is "" for what is compared on no machine, such as the bytes of an image.
func (d *Difference) cause() report.Cause {
	if kind, _ := release.KindOf(string(d.Asset)); kind != release.KindManifest {
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

// fieldCauses are the causes for a manifest's fields on the system as a whole.
var fieldCauses = map[string]report.Cause{
	"source.narHash":     report.SourceAltered,
	"source.lockNarHash": report.LockAltered,
	"toplevel.drvPath":   report.EvaluationDrift,
	"toplevel.outPath":   report.OtherSystem,
}
