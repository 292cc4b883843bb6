package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/attest"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/runlock"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// verifyFlags are the flags of the root command. Those that have a key in the
// configuration win over it.
type verifyFlags struct {
	configured.Flags
	against string
	nonce   string
	text    textFlags
	dryRun  bool
	offline bool
	wait    time.Duration
	stall   time.Duration
}

func (v *verifyFlags) register(cmd *cobra.Command) {
	v.registerShared(cmd)
	v.registerStoreRoot(cmd)
	v.RegisterUnsafe(cmd)
	v.registerRun(cmd)
	v.registerRebuild(cmd)
	f := cmd.Flags()
	f.Var((*terminal.Once)(&v.against), "against", "compare with the release `TAG`, or latest for the newest")
	v.String(cmd, "flake", "read the embedded flake at `PATH` (default /etc/every-channel/flake; with --store-root that of the system profile)", func(c *config.Config, value string) error {
		c.Flake = value
		return nil
	})
	v.String(cmd, "metrics-file", "write metrics for node_exporter to `FILE`, whose name ends in .prom", func(c *config.Config, value string) error {
		if c.StoreRoot != "" {
			return terminal.UsageErrorf("--metrics-file: metrics are about this machine, not about the disk of --store-root")
		}
		c.Metrics.File = value
		return nil
	})
	skip := f.StringSlice("unsafe-skip", nil, "skip `TIER`: "+verify.SkippableWords()+"; may be repeated")
	terminal.Complete(cmd, "unsafe-skip", verify.Skippable()...)
	v.Lay(cmd, "unsafe-skip", func(c *config.Config) error {
		for _, t := range *skip {
			if err := verify.CheckSkip(report.TierName(t)); err != nil {
				return terminal.UsageErrorf("--unsafe-skip: %w", err)
			}
			c.UnsafeSkip = append(c.UnsafeSkip, report.TierName(t))
		}
		return nil
	})
}

// registerRun adds the flags that say how a run is made, and change nothing of what is
// checked.
func (v *verifyFlags) registerRun(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.nonce, "nonce", "", "put `TEXT` into the signed report, as proof that the report is new")
	f.BoolVar(&v.dryRun, "dry-run", false, "print what would be checked; check only the release and write nothing")
	terminal.DurationVar(f, &v.wait, "wait", 0, "wait up to `DURATION` for another run that uses the same state directory")
	terminal.DurationVar(f, &v.stall, "stall-after", defaultStall, "in a systemd unit, let systemd end the run as hung after `DURATION` without progress")
}

// registerRebuild adds the flags that say how much is rebuilt and hashed.
func (v *verifyFlags) registerRebuild(cmd *cobra.Command) {
	v.String(cmd, "rebuild", "rebuild `CHOICE` in a scratch store: none, config, sample, first-party or all (default none)", func(c *config.Config, value string) (err error) {
		if c.Rebuild.Choice, err = rebuild.ParseChoice(value); err != nil {
			return terminal.UsageErrorf("--rebuild: %w", err)
		}
		return nil
	})
	terminal.Complete(cmd, "rebuild", configured.Choices()...)
	v.Duration(cmd, "budget", "begin no further rebuild after `DURATION`; rebuild.buildTimeout limits each one (default: no limit)",
		func(c *config.Config) *config.Duration { return &c.Rebuild.Budget })
	v.Duration(cmd, "contents-budget", "begin to hash no further store path after `DURATION`; results of earlier runs may cover the rest (default: no limit)",
		func(c *config.Config) *config.Duration { return &c.Contents.Budget })
}

// registerShared adds the flags that mean the same for a candidate.
func (v *verifyFlags) registerShared(cmd *cobra.Command) {
	v.RegisterRelease(cmd)
	v.RegisterConfiguration(cmd)
	v.registerOffline(cmd)
	v.String(cmd, "read", "read files through the page cache or past it: `MODE` is cached or disk", func(c *config.Config, value string) (err error) {
		if c.Read, err = nar.ParseReadMode(value); err != nil {
			return terminal.UsageErrorf("--read %q: want cached or disk", value)
		}
		return nil
	})
	terminal.Complete(cmd, "read", "cached", "disk")
	workers := cmd.Flags().Int("workers", 0, "hash `N` store paths at once (default: by the number of processors)")
	v.Lay(cmd, "workers", func(c *config.Config) error { c.Workers = *workers; return nil })
	v.text.register(cmd)
}

func (v *verifyFlags) registerOffline(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&v.offline, "offline", false, "ask no release source over a network: use the releases that release refresh has fetched")
}

// registerStoreRoot adds the flag of checks that work on the disk of a machine that does
// not run.
func (v *verifyFlags) registerStoreRoot(cmd *cobra.Command) {
	v.String(cmd, "store-root", "check the disk mounted at `DIR` instead of this machine", func(c *config.Config, value string) error {
		root, err := filepath.Abs(value)
		if err != nil || !terminal.IsDirectory(value) {
			return terminal.UsageErrorf("--store-root %q: want a directory, the root of a mounted disk", value)
		}
		c.StoreRoot = root
		return nil
	})
}

// apply applies the flags to the configuration, and checks them against each other.
func (v *verifyFlags) apply(c *config.Config) error {
	if err := v.Apply(c); err != nil {
		return err
	}
	if v.wait < 0 || v.stall <= 0 {
		return terminal.UsageErrorf("--wait: want a duration of 0 or more; --stall-after: one above 0")
	}
	if err := attest.CheckNonce(v.nonce); err != nil {
		return terminal.UsageErrorf("--nonce: %w", err)
	}
	if c.StoreRoot != "" && !v.Given("flake") {
		c.Flake = flakeOnDisk(c.Flake)
	}
	if v.offline {
		// Nobody is asked who would want it, and the unit that verifies is not
		// given it.
		c.Release.TokenFile = ""
	}
	return nil
}

// configuration returns the file's configuration, and the same with the flags applied.
func (a *app) configuration(flags *verifyFlags) (policy, c config.Config, err error) {
	if policy, err = configured.Load(a.Terminal); err != nil {
		return policy, c, err
	}
	c = policy
	if err := flags.apply(&c); err != nil {
		return policy, c, err
	}
	if err := checkStoreRoot(c.StoreRoot, c.StoreDir); err != nil {
		return policy, c, err
	}
	return policy, c, flags.text.check(a.Terminal)
}

// flakeOnDisk maps the flake's path on a running system to its place on a mounted disk.
// The system creates /etc when it boots; a disk whose root is never written to, or no
// longer, has no /etc, or the one of its installation.
func flakeOnDisk(name string) string {
	if !strings.HasPrefix(name, "/etc/") {
		return name
	}
	return verify.SystemProfile + name
}

// verify is the main job: verify the machine and render the report.
func (a *app) verify(ctx context.Context, flags *verifyFlags) error {
	policy, c, err := a.configuration(flags)
	if err != nil {
		return err
	}
	if flags.dryRun {
		if err := a.TextOnly("--dry-run and --output json: --dry-run makes no report; leave out one of them"); err != nil {
			return err
		}
	}
	flags.against = flags.tag(c)
	events := a.newEvents(policy, c, flags.against)
	if err := a.firstContact(c, checkReleases(c, flags.against)); err != nil {
		return events.fail(ctx, err, flags.dryRun)
	}
	if !flags.dryRun {
		// Before anything in the state directory is read: another run may change
		// it until it ends.
		lock, err := a.lockRun(ctx, c, events.stand.asked.Look() != "", flags)
		if errors.As(err, new(*runlock.HeldError)) {
			// The run that holds the lock writes the metrics.
			return err
		}
		if err != nil {
			return events.fail(ctx, err, flags.dryRun)
		}
		// Not deferred: a run that panics leaves the sign that it died.
		err = a.run(ctx, c, flags, events, diedBefore(lock))
		lock.Release()
		return err
	}
	return a.run(ctx, c, flags, events, "")
}

// run is verify with the lock of the state directory, but for a dry run. died is
// who died before it, "" for nobody.
func (a *app) run(ctx context.Context, c config.Config, flags *verifyFlags, events *events, died string) error {
	v, err := a.newVerifier(c, flags, flags.dryRun)
	if flags.dryRun && err == nil {
		return a.plan(ctx, v)
	}
	if err != nil {
		return events.fail(ctx, err, flags.dryRun)
	}
	defer tempIn(c.StateDir)()
	v.Died = died
	events.begin(v)
	progress := new(verify.Progress)
	stop := a.Watch(func() terminal.Sample { return lookAt(progress.Snapshot()) })
	tell := pulse(progress, flags.stall)
	r := v.Verify(ctx, progress)
	events.settle(context.WithoutCancel(ctx), r)
	a.signReport(ctx, c, r, flags.nonce)
	a.keepReport(c, r)
	tell(r.Headline())
	stop()
	if told := events.end(ctx, r); !told || !a.ForPeople() {
		if err := a.render(r, flags.text); err != nil {
			return err
		}
	}
	return terminal.VerdictError(r.Verdict())
}

// newVerifier creates a Verifier for the configuration. For a look it keeps and remembers
// nothing of a release.
func (a *app) newVerifier(c config.Config, flags *verifyFlags, look bool) (*verify.Verifier, error) {
	open, revocations, err := a.releases(c, flags.against, flags.offline, look, flags.Foreign)
	if err != nil {
		return nil, err
	}
	identify, err := newIdentifier(c, flags.offline)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	pacer := newPacer(c)
	return &verify.Verifier{
		Root: c.StoreRoot, StoreDir: c.StoreDir, Flake: c.Flake, Configuration: c.Configuration,
		Open: open, Revocations: revocations, Pinned: flags.against != "", Identify: identify,
		Evaluator: configured.Nix(c), Explainer: configured.Rebuilder(c), Rebuilder: verifyRebuilder(c, pacer),
		BuildTimeout: time.Duration(c.Rebuild.BuildTimeout), Ledger: newLedger(c),
		Read: c.Read, Workers: c.Workers, DropBehind: c.Neighbour.DropBehind, Pacer: pacer,
		ContentsBudget: time.Duration(c.Contents.Budget), Policy: c.Ledger.Policy(),
		NoticeBefore: time.Duration(c.Release.NoticeBefore), ToRebuild: currentUnit() == rebuildService,
		StrictEntries: c.Live.OtherEntries == config.EntriesDrift,
		Machine:       c.Machine.Policy(),
		Skip:          c.UnsafeSkip, Unsafe: weakened(c), Log: a.Logger(), Host: host, Tool: terminal.ToolVersion(),
	}, nil
}

// weakened names the options that weaken the check, as the report shows them.
func weakened(c config.Config) []string {
	var out []string
	if len(c.UnsafeSkip) > 0 {
		tiers := make([]string, 0, len(c.UnsafeSkip))
		for _, t := range c.UnsafeSkip {
			tiers = append(tiers, string(t))
		}
		slices.Sort(tiers)
		out = append(out, "unsafe-skip "+strings.Join(slices.Compact(tiers), ","))
	}
	return out
}

// tag returns the tag of --against. Without one, and without an accepted release in the
// configuration, it is the newest one of --release, so that a first look needs no
// configuration.
func (v *verifyFlags) tag(c config.Config) string {
	if v.against == "" && len(v.Sources) > 0 && len(c.Release.Accept) == 0 {
		return string(release.Latest)
	}
	return v.against
}

var errNoRelease = errors.New("nothing to compare with: give --against TAG, or list the tags in the configuration's release.accept")

// checkStoreRoot distinguishes a disk that is not mounted from a damaged one. The store
// may be behind links; those are followed later, within the disk.
func checkStoreRoot(root string, store closure.StoreDir) error {
	if root == "" {
		return nil
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(string(store), "/"), "/")
	if _, err := os.Lstat(filepath.Join(root, top)); err != nil {
		return fmt.Errorf("there is no %s below %s: is the disk mounted there?", store, root)
	}
	return nil
}
