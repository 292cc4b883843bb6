package standing

import (
	"fmt"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/report"
)

// Asked says how a run was started. The zero value is a run of the policy.
type Asked struct {
	// Unit means that one of the units runs it. Whoever set up the machine wrote its
	// command line, which therefore belongs to the policy.
	Unit bool
	// Candidate means that the run judges a system that does not run.
	Candidate bool
	// Disk means that the run examines another disk than this machine's.
	Disk bool
	// Against is the requested tag, "" for what the policy accepts; Accepted are the tags
	// in the policy.
	Against  string
	Accepted []string
	// Options are those that differ from the configuration.
	Options []string
}

// Look returns why the run is a look; "" for a run of the policy.
func (a Asked) Look() string {
	switch {
	case a.Candidate:
		return "it is about a candidate, which does not run"
	case a.Disk:
		return "it is about another disk"
	case a.Unit:
		return ""
	case len(a.Options) > 0:
		return "the policy does not request " + strings.Join(a.Options, ", ")
	case a.Against != "" && !slices.Contains(a.Accepted, a.Against):
		return fmt.Sprintf("the policy does not accept %s", a.Against)
	}
	return ""
}

// Look returns why a run that was started as a says, with the report r, is a look; "" for
// a run of the policy. A run that was ended early says nothing about the machine.
func Look(a Asked, r *report.Report) string {
	if why := a.Look(); why != "" {
		return why
	}
	has := func(cause report.Cause) bool {
		return slices.ContainsFunc(r.Findings, func(f report.Finding) bool { return f.Cause == cause })
	}
	switch {
	case has(report.Interrupted):
		return "it was stopped before its end"
	case !a.Unit && has(report.OtherRelease) && r.Release != nil && slices.Contains(a.Accepted, r.Release.Tag):
		return fmt.Sprintf("the policy compares with %s, which it accepts as well, and which runs", r.Release.Tag)
	}
	return ""
}
