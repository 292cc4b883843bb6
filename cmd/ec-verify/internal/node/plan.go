package node

import (
	"context"
	"fmt"
	"strings"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
)

// plan prints what a run would check. It opens the release, so that the answer is correct,
// and touches nothing else.
func (a *app) plan(ctx context.Context, v *verify.Verifier) error {
	tiers, r := v.Plan(ctx)
	if tiers == nil {
		if err := a.render(r, textFlags{all: true}); err != nil {
			return err
		}
		return terminal.VerdictError(r.Verdict())
	}
	where := "this machine"
	if v.Root != "" {
		where = "the disk at " + v.Root
	}
	var b strings.Builder
	fmt.Fprintf(&b, "would compare %s with release %s (%s), from %s\n", report.Escape(where), r.Release.Tag, r.Configuration, report.Escape(r.Release.Source))
	for _, tier := range tiers {
		note := ""
		if tier.LeftOut {
			note = " (skipped on request)"
		}
		fmt.Fprintf(&b, "  %-9s %s%s\n", tier.Name, report.Escape(tier.What), note)
	}
	return a.Print(b.String())
}
