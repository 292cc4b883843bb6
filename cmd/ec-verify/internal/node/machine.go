package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
)

func newMachineCommand(a *app) *cobra.Command {
	return terminal.Group(&cobra.Command{
		Use: "machine", Short: "check the running machine outside its store",
		Long: `A running machine is more than its store: units, accounts, mounts, sockets,
code. The tier machine of each run compares the parts in machine.parts of the
configuration with the release. machine.allow lists intended differences, each
with a reason and optionally a last day.`,
		Example: `  # A first list of exceptions
  ec-verify machine learn >allow.json`,
	}, newMachineLearnCommand(a))
}

func newMachineLearnCommand(a *app) *cobra.Command {
	flags := verifyFlags{stall: defaultStall}
	cmd := &cobra.Command{
		Use:   "learn",
		Short: "print a first list of exceptions, from a machine that is known to be good",
		Long: `Compare the running machine outside its store with the release that it runs,
and print the differences as entries of machine.allow, in JSON, for review. All
parts are examined if machine.parts names none. Differences that machine.allow
already covers are not printed.

Nothing is written or recorded. Each reason begins with TODO, and a
configuration with such a reason is not valid: review each entry, and write its
reason or remove it. The list allows everything that is wrong with the machine
now, so make it on a newly installed one.

The output is a drop-in of the configuration. If there is a list already, add
the entries to it: the list of one drop-in replaces that of another. An entry
for a directory covers its contents. The drop-in itself changes
/etc/ec-verify, so the entry of that directory, if there is one, allows all of
it. Programs that run only now, such as the shell of a login, are in the list
too: remove their entries.

The machine must run the release. Run the command as root.`,
		Example: `  # A first list for a newly installed machine
  ec-verify machine learn >allow.json

  # After the review, use it from the next run on
  cp allow.json /etc/ec-verify/config.d/allow.json
  ec-verify config check`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.learn(cmd.Context(), &flags) },
	}
	flags.registerLearn(cmd)
	return cmd
}

// registerLearn adds the flags that mean the same for learning.
func (v *verifyFlags) registerLearn(cmd *cobra.Command) {
	cmd.Flags().StringVar(&v.against, "against", "", "compare with the release `TAG` (default: release.accept)")
	v.RegisterRelease(cmd)
	v.RegisterConfiguration(cmd)
	v.RegisterUnsigned(cmd)
	v.registerOffline(cmd)
}

// learned is what learn prints: a part of a configuration.
type learned struct {
	Machine struct {
		Parts []string            `json:"parts"`
		Allow []running.Exception `json:"allow"`
	} `json:"machine"`
}

// learn compares the machine with its release and prints exceptions.
func (a *app) learn(ctx context.Context, flags *verifyFlags) error {
	_, c, err := a.configuration(flags)
	if err != nil {
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
	progress := new(verify.Progress)
	stop := a.Watch(func() terminal.Sample { return lookAt(progress.Snapshot()) })
	r := v.Verify(ctx, progress)
	stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	var found []report.Finding
	for _, f := range r.Findings {
		switch {
		case f.Tier == "machine":
			found = append(found, f)
		case f.Cause == report.PendingUnchecked:
			// The system that the next boot starts is not what runs, and is not hashed here.
		case report.ClassOf(f.Cause) != report.Notice:
			return fmt.Errorf("nothing can be learned from this machine: %s %s: %s",
				f.Cause, report.Escape(f.Path), report.Escape(report.Title(f.Cause)))
		}
	}
	m := new(running.Machine)
	if m.Store, err = nixstore.OpenStore(running.FirstRoot, v.StoreDir); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: run it as root", err)
		}
		return err // of what is there nothing was seen, either
	}
	defer m.Store.Close()
	allow, left := m.Learn(found, filepath.Dir(config.DefaultFile), config.DropInDir(config.DefaultFile))
	var out learned
	out.Machine.Parts, out.Machine.Allow = c.Machine.Parts, allow
	var options []json.Options
	if a.ForPeople() {
		options = append(options, jsontext.WithIndent("  "))
	}
	if err := terminal.WriteJSON(a.Stdout, &out, options...); err != nil {
		return err
	}
	a.Note(fmt.Sprintf("%s for review, of the parts %s", report.Quantity(len(allow), "exception"), strings.Join(c.Machine.Parts, ", ")))
	return a.noteLeft(left)
}

// noteLeft notes what no exception allows.
func (a *app) noteLeft(left []report.Finding) error {
	for _, f := range left {
		a.Note(fmt.Sprintf("not in the list: %s %s %s", f.Cause, report.Escape(f.Path), report.Escape(f.Detail)))
	}
	if len(left) > 0 {
		return terminal.ReportedError(terminal.ExitInconclusive)
	}
	return nil
}
