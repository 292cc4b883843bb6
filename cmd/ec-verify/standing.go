package main

import (
	"context"
	"reflect"
	"slices"
	"time"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/runlock"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
)

// askedBy returns how a run was asked for that has the configuration c, where the
// file has policy, and compares with the tag against. unit is the service that it
// runs in, "" for none.
func askedBy(policy, c config.Config, against, unit string) standing.Asked {
	a := standing.Asked{
		Unit: unit == verifyService || unit == rebuildService, Disk: newLedger(c) == nil,
		Against: against, Accepted: policy.Release.Accept,
	}
	for _, o := range []struct {
		option string
		other  bool
	}{
		{"--release", !slices.Equal(policy.Release.Source, c.Release.Source)},
		{"--key", !reflect.DeepEqual(policy.Trust, c.Trust)},
		{"--configuration", policy.Configuration != c.Configuration},
		{"--flake", policy.Flake != c.Flake},
		{"--state-dir", policy.StateDir != c.StateDir},
		{"--read", policy.Read != c.Read},
		// To rebuild nothing leaves what rebuilds found as it is.
		{"--rebuild", policy.Rebuild.Choice != c.Rebuild.Choice && c.Rebuild.Choice != rebuild.None},
		{"--budget", policy.Rebuild.Budget != c.Rebuild.Budget},
		{"--contents-budget", policy.Contents.Budget != c.Contents.Budget},
		{"--unsafe-unsigned", policy.UnsafeUnsigned != c.UnsafeUnsigned},
		{"--unsafe-allow-rollback", policy.UnsafeAllowRollback != c.UnsafeAllowRollback},
		{"--unsafe-skip", len(policy.UnsafeSkip) != len(c.UnsafeSkip)},
	} {
		if o.other {
			a.Options = append(a.Options, o.option)
		}
	}
	return a
}

// otherPolicy reports whether --config names another policy than that of the machine
// whose state directory the run has.
func (a *app) otherPolicy(policy config.Config) bool {
	if a.configFile == "" {
		return false
	}
	machine, err := config.Read("")
	if err != nil {
		return policy.StateDir == config.Default().StateDir
	}
	return len(machine.Files) > 0 && machine.StateDir == policy.StateDir && !reflect.DeepEqual(machine.Config, policy)
}

// currentUnit is the service that this process runs in, "" for none.
func currentUnit() string { return runlock.Self(time.Now()).Unit }

// owedBy says which tiers the policy asks for in some run.
func owedBy(policy config.Config) func(report.TierName) bool {
	return func(t report.TierName) bool {
		return t != report.TierRebuild || policy.Rebuild.Choice != rebuild.None
	}
}

// keeper keeps the standing that one run leaves.
type keeper struct {
	asked standing.Asked
	owed  func(report.TierName) bool
	// now is what the run left; before it ended, the zero Standing.
	now standing.Standing
}

// after sets what the run that made r, with the number id and the end end, leaves of
// what l has, says so in r, and returns the text for the ledger, "" for a look.
func (k *keeper) after(ctx context.Context, l *ledger.Ledger, id int64, r *report.Report, end ledger.End) (string, error) {
	told, err := l.Standing(ctx)
	if err != nil {
		return "", err
	}
	before, err := standing.Decode(told)
	if err != nil {
		return "", err
	}
	if k.judge(before, r); r.Standing.Look != "" {
		return "", nil
	}
	k.now.Run = &standing.Run{
		ID: id, Started: r.Started.UTC().Truncate(time.Millisecond), Finished: r.Finished.UTC().Truncate(time.Millisecond),
		Verdict: r.Verdict(), Release: releaseOf(end.Manifest), Configuration: r.Configuration,
		Findings: r.Counts(), Unsafe: end.Unsafe, Tool: r.Tool,
	}
	if rel := r.Release; rel != nil {
		k.now.Run.BestBefore, k.now.Run.RefusedAfter, k.now.Run.KeyNotAfter = rel.BestBefore, rel.RefusedAfter, rel.KeyNotAfter
	}
	return k.now.Encode()
}

// judge sets what the run that made r leaves of before, and says so in r.
func (k *keeper) judge(before standing.Standing, r *report.Report) {
	look := standing.Look(k.asked, r)
	k.now = before
	if look == "" {
		k.now = standing.Next(before, r, k.owed)
	}
	r.Standing = &report.Standing{Look: look, Verdict: k.now.Verdict, Since: k.now.Since}
}
