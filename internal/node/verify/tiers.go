package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/internal/report"
)

// tier is one kind of check. A new one is a file with its functions, and a row
// in [tiers]: the run, its names, the dry run, the time that it may take without a
// sign of life, the help and the documents' tests go by that.
type tier struct {
	name report.TierName
	// may be left out by the operator.
	mayBeSkipped bool
	// plan describes what the tier does in a run of v; nil if the dry run performs it
	// too.
	plan func(r *run) string
	// unasked says why the policy does not request the tier, "" if it does; nil for a
	// tier that is always asked for.
	unasked func(v *Verifier) string
	// grace is how long a step of the tier may take that has a limit of its own and
	// counts nothing; nil where every step counts.
	grace func(v *Verifier) time.Duration
	check func(r *run, ctx context.Context, t *report.Tier) error
}

// tiers returns all tiers, in the order of a run. The first one opens the release; if that
// fails, no other is run.
func tiers() []tier {
	return []tier{
		{name: report.TierRelease, check: (*run).checkRelease},
		{name: report.TierSource, mayBeSkipped: true, plan: planSource, check: (*run).checkSource},
		{name: report.TierEval, mayBeSkipped: true, plan: planEval, check: (*run).checkEval},
		{name: report.TierLive, mayBeSkipped: true, unasked: unaskedCandidate, plan: planLive, check: (*run).checkLive},
		{name: report.TierContents, mayBeSkipped: true, plan: planContents, check: (*run).checkContents},
		{name: tierMachine, mayBeSkipped: true, unasked: unaskedMachine, plan: planMachine, check: (*run).checkMachine},
		{name: report.TierRebuild, unasked: unaskedRebuild, plan: planRebuild, grace: graceRebuild, check: (*run).checkRebuild},
	}
}

// Skippable returns the tiers that an operator may leave out, in the order of a
// run.
func Skippable() []string {
	var out []string
	for _, t := range tiers() {
		if t.mayBeSkipped {
			out = append(out, string(t.name))
		}
	}
	return out
}

// SkippableWords lists [Skippable] in words: "source, eval or live".
func SkippableWords() string {
	names := Skippable()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// CheckSkip returns an error if a tier may not be left out: the release tier, with which
// everything is compared, and tiers that run only if they are asked for.
func CheckSkip(name report.TierName) error {
	if slices.Contains(Skippable(), string(name)) {
		return nil
	}
	return fmt.Errorf("%q is not a tier that can be skipped: want %s", string(name), SkippableWords())
}

// PlannedTier says what a run would do at one tier.
type PlannedTier struct {
	Name report.TierName
	What string // for people; it may hold what an attacker wrote
	// LeftOut says that the operator leaves the tier out.
	LeftOut bool
}

// Plan runs the release tier and returns what a run would do after it, nil if there is
// nothing to compare with, and the report of that tier.
func (v *Verifier) Plan(ctx context.Context) ([]PlannedTier, *report.Report) {
	r := v.begin(nil)
	r.tier(ctx, tiers()[0])
	if r.manifest == nil {
		return nil, r.end()
	}
	if v.System == "" && !slices.Contains(v.Skip, report.TierLive) {
		r.findLeads(ctx)
	}
	var out []PlannedTier
	for _, t := range tiers() {
		if t.plan != nil {
			out = append(out, PlannedTier{Name: t.name, What: t.plan(r), LeftOut: slices.Contains(v.Skip, t.name)})
		}
	}
	return out, r.end()
}
