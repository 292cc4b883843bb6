package node

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/runlock"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
)

// askedBy describes the request of a run with the configuration c, compared with the tag
// against, on a machine whose configuration file has policy. unit is the service that the
// run is in, "" for none.
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
	if a.ConfigFile == "" {
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

// owedBy returns a function that reports whether the policy asks for a tier in any run.
func owedBy(policy config.Config) standing.Owed {
	return func(t report.TierName, part string) bool {
		switch t {
		case report.TierRebuild:
			return policy.Rebuild.Choice != rebuild.None
		case "machine":
			parts := policy.Machine.Parts
			return slices.Contains(parts, part) || part == "" && len(parts) > 0
		}
		return true
	}
}

// keeper keeps the standing that one run leaves.
type keeper struct {
	asked standing.Asked
	owed  standing.Owed
	// system is the system that ran when the run began; "" if that is unknown.
	system string
	// now is the standing after the run; the zero Standing before its end.
	now standing.Standing
	// lost is the file that had the standing before the run, if it is lost.
	lost string
}

// after computes the standing after the run with the report r, the number id and the end
// end, from what is in l. It sets r's standing and returns the text for the ledger, ""
// for a look.
func (k *keeper) after(ctx context.Context, l *ledger.Ledger, id int64, r *report.Report, end ledger.End) (string, error) {
	before, lost := recall(ctx, filepath.Dir(l.File()), l, nil)
	k.lost = lost
	if k.judge(before, id, r, releaseOf(end.Manifest)); r.Standing.Look != "" {
		return "", nil
	}
	return k.now.Encode()
}

// judge computes the standing after the run with the report r and the number id from the
// one before, and sets r's standing. of is the release that the run compared with.
func (k *keeper) judge(before standing.Standing, id int64, r *report.Report, of *standing.Release) {
	look := standing.Look(k.asked, r)
	k.now = before
	dropped := 0
	if look == "" {
		dropped = standing.Dropped(before, k.owed)
		k.now = standing.Next(before, r, k.owed)
		k.now.Run = &standing.Run{
			ID: id, Started: r.Started.UTC().Truncate(time.Millisecond), Finished: r.Finished.UTC().Truncate(time.Millisecond),
			Verdict: r.Verdict(), Release: of, Configuration: r.Configuration, System: k.system,
			Findings: r.Counts(), Unsafe: strings.Join(r.Unsafe, ", "), Tool: r.Tool,
		}
		if rel := r.Release; rel != nil {
			k.now.Run.BestBefore, k.now.Run.RefusedAfter, k.now.Run.KeyNotAfter = rel.BestBefore, rel.RefusedAfter, rel.KeyNotAfter
		}
	}
	r.Standing = &report.Standing{Look: look, Verdict: k.now.Verdict, Since: k.now.Since, Dropped: dropped}
}

// keep writes the standing that a run of the policy left beside the ledger in dir,
// whether or not the ledger could be written.
func (k *keeper) keep(dir string) error {
	encoded, err := k.now.Encode()
	if err != nil {
		return err
	}
	return ledger.KeepStanding(dir, encoded)
}

// recall returns the standing kept in the directory dir, in the ledger l and in the file
// beside it. If l is nil, unread is why the ledger could not be opened. lost names the file
// of a standing that is lost; see [standing.Recall].
func recall(ctx context.Context, dir string, l *ledger.Ledger, unread error) (s standing.Standing, lost string) {
	in := standing.Copy{File: filepath.Join(dir, ledger.FileName)}
	if l != nil {
		in.Told, unread = l.Standing(ctx)
	}
	in.Damaged = unread != nil && !errors.Is(unread, fs.ErrNotExist) && !errors.Is(unread, fs.ErrPermission)
	beside := standing.Copy{File: filepath.Join(dir, ledger.StandingName)}
	var err error
	beside.Told, err = ledger.KeptStanding(dir)
	beside.Damaged = err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
	copies := []standing.Copy{in, beside}
	// Since an earlier ledger had to be set aside, none may have been written anew.
	if aside, err := ledger.SetAside(dir); err == nil && len(aside) > 0 {
		copies = append(copies, standing.Copy{File: aside[len(aside)-1], Damaged: true})
	}
	return standing.Recall(copies, time.Now())
}
