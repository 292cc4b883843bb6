package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `ec-verify proves what this machine runs.

It recomputes the closure of the system from the disk and from the flake in the
system, compares both with a signed release, and reports every difference with its
cause. It changes nothing; only ec-verify switch does.

On SIGUSR1 it prints its progress to stderr. Set NO_COLOR in the environment to turn
colours off.

Exit codes:
  0    verified: everything that was requested was checked and agrees
  1    drifted: the machine differs from the release
  3    untrusted: the release is not valid; nothing of it was used
  4    inconclusive: something that was requested could not be checked
  64   the command line is not valid
  78   the configuration is not valid
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)`

const rootExample = `  # Is this machine the release boot-v2026.02.28?
  ec-verify --against boot-v2026.02.28

  # The same, for programs
  ec-verify --against boot-v2026.02.28 --output json

  # Check a disk from outside, against a release in a directory
  ec-verify --against boot-v2026.02.28 --release /srv/releases --store-root /mnt

  # CI: write what a release says of a configuration, and sign it
  ec-verify manifest create .#ec-runner-x86_64 --out dist --tag boot-v2026.02.28
  ec-verify release sign dist --key cosign.key`

func newRootCommand(a *app) *cobra.Command {
	v := verifyFlags{}
	cmd := &cobra.Command{
		Use:           "ec-verify",
		Short:         "prove what a NixOS machine runs",
		Long:          rootLong,
		Example:       rootExample,
		Version:       toolVersion(),
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return a.verify(cmd.Context(), cmd, &v) },

		PersistentPreRunE: a.checkGlobals,
	}
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	if width := a.width(); width > 0 {
		// cobra's own, but folded to the terminal.
		cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "Flags.FlagUsages ", fmt.Sprintf("Flags.FlagUsagesWrapped %d ", width)))
		help := cmd.HelpFunc()
		cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
			out, text := c.OutOrStdout(), new(bytes.Buffer)
			c.SetOut(text)
			help(c, args)
			c.SetOut(out)
			_ = a.print(text.String()) // as cobra's own: nobody is told
		})
	}
	cmd.SetVersionTemplate("ec-verify {{.Version}}\n")
	cmd.SetFlagErrorFunc(unknownFlag)
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "read the configuration from `FILE` (default /etc/ec-verify/config.json, if it exists)")
	flags.StringVar(&a.output, "output", "text", "write the result as `FORMAT`: text or json")
	flags.StringVar(&a.progress, "progress", "auto", "show progress on stderr `WHEN`: auto (on a terminal), always or never")
	flags.BoolVar(&a.verbose, "verbose", false, "log each step to stderr")
	complete(cmd, "output", "text", "json")
	complete(cmd, "progress", "auto", "always", "never")
	a.registerJournal(cmd)
	v.register(cmd)
	cmd.AddCommand(
		newManifestCommand(a),
		newReleaseCommand(a),
		newCandidateCommand(a),
		newSwitchCommand(a),
		newCompareCommand(a),
		newExplainCommand(a),
		newImagesCommand(a),
		newNetbootCommand(a),
		newHashCommand(a),
		newStatusCommand(a),
		newReportCommand(a),
		newConfigCommand(a),
		newMachineCommand(a),
		newDoctorCommand(a),
		newVersionCommand(a),
		newManCommand(a),
		newAfterRunCommand(a),
	)
	adoptDefaults(cmd)
	a.completeRest(cmd)
	return cmd
}

// adoptDefaults has the commands that cobra makes refuse what they do not know,
// as ours do.
func adoptDefaults(cmd *cobra.Command) {
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultCompletionCmd()
	for _, c := range cmd.Commands() {
		switch c.Name() {
		case "help":
			c.Args = helpFor
		case "completion":
			for _, shell := range c.Commands() {
				shell.Args = noArgs
			}
			group(c)
		}
	}
}
