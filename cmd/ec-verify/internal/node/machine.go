package node

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
)

func newMachineCommand(a *app) *cobra.Command {
	return terminal.Group(&cobra.Command{Use: "machine", Short: "what a machine is beside its store"}, newMachineLearnCommand(a))
}

func newMachineLearnCommand(a *app) *cobra.Command {
	flags := verifyFlags{stall: defaultStall}
	cmd := &cobra.Command{
		Use:   "learn",
		Short: "print a first list of exceptions, from a machine that is known to be good",
		Long: `Compare what this machine has beside its store with the release that it runs, and
print the differences as entries of machine.allow, in JSON, for review. All parts
are examined if machine.parts names none. Differences that machine.allow already
covers are not printed.

Nothing is written or recorded. Each reason begins with TODO, and a configuration
with such a reason is not valid: review each entry, and write why it is there or
remove it. The list allows everything that is wrong with the machine now, so make
it on one that was just installed.

The machine must run the release. Run the command as root.`,
		Example: `  # A first list for a machine that was just installed
  ec-verify machine learn >allow.json`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.learn(cmd, &flags) },
	}
	flags.registerLearn(cmd)
	return cmd
}

// registerLearn adds the flags that mean the same for learning.
func (v *verifyFlags) registerLearn(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.against, "against", "", "compare with the release `TAG` (default: release.accept)")
	f.StringArrayVar(&v.source, "release", nil, "look for releases in `SOURCE`: a directory, file:///DIR, or https://HOST/OWNER/REPO/releases/download; may be repeated")
	f.StringArrayVar(&v.keys, "key", nil, configured.KeyUsage)
	f.StringVar(&v.configuration, "configuration", "", "this machine is the configuration `NAME` (default: the release's only one)")
	f.StringVar(&v.stateDir, "state-dir", "", "keep releases in `DIR` (default /var/lib/ec-verify)")
	f.BoolVar(&v.offline, "offline", false, "ask no release source on a network: compare with what release refresh has fetched")
	f.BoolVar(&v.unsafeUnsigned, "unsafe-unsigned", false, "take the release without a look at its signature")
	terminal.MarkDirname(cmd, "state-dir")
}

// learned is what learn prints: a part of a configuration.
type learned struct {
	Machine struct {
		Parts []string            `json:"parts"`
		Allow []running.Exception `json:"allow"`
	} `json:"machine"`
}

// learn compares the machine with its release and prints exceptions.
func (a *app) learn(cmd *cobra.Command, flags *verifyFlags) error {
	ctx := cmd.Context()
	c, err := configured.Load(a.Terminal)
	if err != nil {
		return err
	}
	if err := flags.apply(cmd, &c); err != nil {
		return err
	}
	if c.StoreRoot != "" {
		return terminal.ConfigErrorf("storeRoot: a disk is no running machine")
	}
	if len(c.Machine.Parts) == 0 {
		c.Machine.Parts = running.Parts()
	}
	// It has to run the release, which the tier live tells; the rest is not its affair.
	c.UnsafeSkip = []report.TierName{report.TierSource, report.TierEval, report.TierContents}
	flags.against = flags.tag(c)
	if err := a.firstContact(c, checkReleases(c, flags.against)); err != nil {
		return err
	}
	v, err := a.newVerifier(c, flags, true)
	if err != nil {
		return err
	}
	v.Ledger, v.Rebuilder, v.ToRebuild = nil, nil, false
	defer tempIn(c.StateDir)()
	r := v.Verify(ctx, new(verify.Progress))
	if err := ctx.Err(); err != nil {
		return err
	}
	var found []report.Finding
	for _, f := range r.Findings {
		switch {
		case f.Tier == "machine":
			found = append(found, f)
		case report.ClassOf(f.Cause) != report.Notice:
			return fmt.Errorf("nothing can be learned from this machine: %s %s: %s",
				f.Cause, report.Escape(f.Path), report.Escape(report.Title(f.Cause)))
		}
	}
	allow, left := running.Learn(found)
	var out learned
	out.Machine.Parts, out.Machine.Allow = c.Machine.Parts, allow
	if err := a.PrintJSON(&out); err != nil {
		return err
	}
	return tellLeft(a.Stderr, left)
}

// tellLeft says what no exception allows.
func tellLeft(w io.Writer, left []report.Finding) error {
	for _, f := range left {
		if _, err := fmt.Fprintf(w, "ec-verify: not in the list: %s %s %s\n", f.Cause, report.Escape(f.Path), report.Escape(f.Detail)); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return terminal.ToldError(terminal.ExitInconclusive)
	}
	return nil
}
