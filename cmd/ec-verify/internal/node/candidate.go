package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

func newCandidateCommand(a *app) *cobra.Command {
	flags := verifyFlags{stall: defaultStall}
	cmd := &cobra.Command{
		Use:   "candidate TOPLEVEL|TAG",
		Short: "judge a system before it runs",
		Long: `Judge a system in the store that is not running. TOPLEVEL is the store path of
its toplevel, or a link to it, written with a slash. TAG names a release whose
toplevel is judged. If the configuration lists accepted releases, the system's
release must be one of them.

The release, the system's flake, the evaluation of the flake, and each path of
the closure are compared as in a run without a command. Paths that earlier runs
verified within ledger.contentsEvery, and that nobody has touched since, are
not hashed again; the report counts them. The running machine and the boot
loader's files are not examined. The configuration's unsafeSkip has no effect
here.

Nothing is recorded, and the machine's standing does not change. As root, a GC
root protects the system from garbage collection while it is judged and, if it
is verified, until ec-verify switch activates it or the next candidate replaces
it. The last lines say whether it does. Nothing keeps root from changing the
system before it is activated.

Exit codes: 0 verified, 1 drifted, 3 untrusted, 4 inconclusive.`,
		Example: `  # May this machine switch to the system that was just copied to it?
  ec-verify candidate \
    /nix/store/k3v4l5g0hwc9c1hgw8aq0yfybvkvj7a4-nixos-system-runner-25.11

  # Does the store have the complete system of a release?
  ec-verify candidate boot-v2026.03.15

  # The system that a mounted disk would boot
  ec-verify candidate /nix/var/nix/profiles/system --store-root /mnt`,
		Args: terminal.ArgCount(1, 1, "one toplevel or tag"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.candidate(cmd.Context(), args[0], &flags) },
	}
	flags.registerShared(cmd)
	flags.registerStoreRoot(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return configured.KnownTags(cmd.Context(), a.Terminal), cobra.ShellCompDirectiveDefault
	}
	return cmd
}

// candidate judges the system that arg names and renders the report.
func (a *app) candidate(ctx context.Context, arg string, flags *verifyFlags) error {
	c, system, err := a.candidateOf(arg, flags)
	if err != nil {
		return err
	}
	v, err := a.candidateVerifier(c, system, flags, true)
	if err != nil {
		return err
	}
	defer tempIn(c.StateDir)()
	before, done := a.recall(ctx, c, v)
	defer done()
	root, why := a.holdCandidate(ctx, c, v)
	r := a.judge(ctx, v, before)
	r.GCRoot = a.keepCandidate(root, why, r)
	if err := a.render(r, flags.text); err != nil {
		return err
	}
	return terminal.VerdictError(r.Verdict())
}

// candidateOf returns the configuration for judging a candidate, and the name of the
// system that arg identifies.
func (a *app) candidateOf(arg string, flags *verifyFlags) (config.Config, string, error) {
	policy, c, err := a.configuration(flags)
	if err != nil {
		return c, "", err
	}
	// As the system has it, and all of it.
	c.Flake, c.UnsafeSkip, c.Contents.Budget = policy.Flake, nil, 0
	system := arg
	if strings.Contains(arg, "/") {
		p, err := toplevelAt(c, arg)
		if err != nil {
			return c, "", err
		}
		system, flags.against = string(p), flags.tag(c)
		if flags.against == "" && len(c.Release.Accept) == 0 {
			return c, "", terminal.ConfigErrorf("nothing to compare with: name the release by its TAG, or list it in the configuration's release.accept")
		}
	} else {
		if _, err := release.ParseTag(arg); err != nil {
			return c, "", terminal.UsageErrorf("want TOPLEVEL, with a slash in its name, or TAG: %w", err)
		}
		if info, err := os.Lstat(arg); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			a.Note(arg + " is taken for a tag; the link of that name is ./" + arg)
		}
		flags.against = arg
	}
	return c, system, nil
}

// candidateVerifier returns the verifier for the system of that name, which skips what
// earlier runs verified. For a look it keeps and remembers nothing of a release.
func (a *app) candidateVerifier(c config.Config, system string, flags *verifyFlags, look bool) (*verify.Verifier, error) {
	if err := a.firstContact(c, checkReleases(c, flags.against)); err != nil {
		return nil, err
	}
	v, err := a.newVerifier(c, flags, look)
	if err != nil {
		return nil, err
	}
	v.System, v.Rebuilder, v.ToRebuild, v.Ledger = system, nil, false, nil
	return v, nil
}

// judge judges the candidate of v. The machine's standing, which was before, stays.
func (a *app) judge(ctx context.Context, v *verify.Verifier, before standing.Standing) *report.Report {
	progress := new(verify.Progress)
	stop := a.Watch(func() terminal.Sample { return lookAt(progress.Snapshot()) })
	r := v.Verify(ctx, progress)
	stop()
	look := keeper{asked: standing.Asked{Candidate: true}}
	look.judge(before, 0, r, nil)
	return r
}

// toplevelAt returns the store path that name leads to.
func toplevelAt(c config.Config, name string) (closure.StorePath, error) {
	if p, err := c.StoreDir.Parse(name); err == nil {
		return p, nil // which need not be there
	}
	if c.StoreRoot == "" {
		absolute, err := filepath.Abs(name)
		if err != nil {
			return "", err
		}
		name = absolute
	}
	store, err := nixstore.OpenStore(c.StoreRoot, c.StoreDir)
	if err != nil {
		return "", err
	}
	defer store.Close()
	p, rest, err := store.ResolveLink(name)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w; want the store path of a toplevel, a link to it, or a tag", err)
	case rest != "":
		return "", terminal.UsageErrorf("%s leads to %s in %s: want a toplevel, which is a store path", name, rest, p)
	}
	return p, nil
}

// recall has v ask the ledger what earlier runs have verified, and returns the
// machine's standing and what closes the ledger. Without one everything is hashed.
func (a *app) recall(ctx context.Context, c config.Config, v *verify.Verifier) (before standing.Standing, done func()) {
	l, before, err := earlier(ctx, c)
	if err != nil {
		a.Note("everything is hashed: " + report.Escape(err.Error()))
	}
	if l == nil {
		return before, func() {}
	}
	v.Ledger = recalled{l}
	return before, func() { l.Close() }
}

// earlier returns the ledger of earlier runs, nil for none, and the machine's standing.
func earlier(ctx context.Context, c config.Config) (l *ledger.Ledger, before standing.Standing, err error) {
	if newLedger(c) == nil {
		return nil, before, nil
	}
	err = configured.CheckOwnState(c) // a ledger that others can write proves nothing
	if err == nil {
		l, err = ledger.OpenReadOnly(ctx, ledger.Dir(c.StateDir), ledger.Options{})
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if l != nil {
		before, _ = recall(ctx, ledger.Dir(c.StateDir), l, nil)
	}
	return l, before, err
}

// recalled is a ledger that answers and remembers nothing.
type recalled struct{ ledger *ledger.Ledger }

// Begin implements [verify.Ledger].
func (l recalled) Begin(context.Context, string) (verify.Recorder, error) { return l, nil }

// SetAside implements [verify.Recorder].
func (recalled) SetAside() string { return "" }

// Records implements [verify.Recorder].
func (l recalled) Records(ctx context.Context, tier ledger.Tier) (ledger.Records, error) {
	return l.ledger.Records(ctx, tier)
}

// Expect implements [verify.Recorder].
func (recalled) Expect(context.Context, ledger.Inventory) error { return nil }

// Record implements [verify.Recorder].
func (recalled) Record(ledger.Tier, ledger.Item, ledger.Outcome) {}

// End implements [verify.Recorder].
func (recalled) End(context.Context, *report.Report, ledger.End) error { return nil }
