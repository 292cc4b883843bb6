package verify

import (
	"fmt"
	"time"

	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/report"
)

// reportPauses reports how the run gave way to the machine's other work.
func (r *run) reportPauses() {
	held := r.Pacer.Held()
	r.report.Coverage.Paused = held.Paused
	if held.Blind != nil {
		r.find(report.Finding{Tier: report.TierContents, Cause: report.PressureUnknown, Detail: held.Blind.Error()})
	}
	var why string
	switch {
	case held.UsedUp:
		why = "all that neighbour.maxPause allows"
	case held.OutOfTime:
		why = "all of the time that the budget gives"
	default:
		return
	}
	r.find(report.Finding{Tier: report.TierContents, Cause: report.PressureLasting, Detail: fmt.Sprintf(
		"after pauses of %s (%s; %s at the last) the rest was read at no more than %d MiB a second",
		held.Paused.Round(time.Second), why, held.Last, neighbour.FloorRate>>20)})
}
