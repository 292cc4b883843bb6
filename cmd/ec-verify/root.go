package main

import (
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/boothost"
	"every.channel/ec-verify/cmd/ec-verify/internal/node"
	"every.channel/ec-verify/cmd/ec-verify/internal/publisher"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

const rootLong = `ec-verify proves what this machine runs.

It recomputes the closure of the system from the disk and from the flake in
the system, compares both with a signed release, and reports every difference
with its cause. It changes nothing on the machine; only ec-verify switch and
ec-verify gate do.

On SIGUSR1 it prints its progress to stderr. Set NO_COLOR in the environment to
turn colours off.

Exit codes:
  0    verified: everything that was requested was checked and agrees
  1    drifted: the machine differs from the release
  2    the program crashed, which is a bug
  3    untrusted: the release is not valid; nothing from it was used
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
  ec-verify --against boot-v2026.02.28 --release /srv/releases \
    --store-root /mnt

  # Judge a release before it runs, and switch to it only if it is verified
  ec-verify candidate boot-v2026.03.15
  ec-verify switch boot-v2026.03.15

  # CI: write the release of a configuration, and sign it
  ec-verify manifest create .#ec-runner-x86_64 --out dist \
    --tag boot-v2026.02.28
  ec-verify release sign dist --key cosign.key`

func newRootCommand(t *terminal.Terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ec-verify",
		Short:   "prove what a NixOS machine runs",
		Long:    rootLong,
		Example: rootExample,
		Version: terminal.ToolVersion(),
		Args:    terminal.NoArgs,
	}
	t.Attach(cmd)
	cmd.SetVersionTemplate("ec-verify {{.Version}}\n")
	node.Verify(t, cmd)
	cmd.AddCommand(node.Commands(t, publisher.Document)...)
	cmd.AddCommand(publisher.Commands(t)...)
	cmd.AddCommand(boothost.Command(t), newReleaseCommand(t), newVersionCommand(t), newManCommand())
	adoptDefaults(cmd)
	return cmd
}

// newReleaseCommand holds what makes releases and what a node needs of them.
func newReleaseCommand(t *terminal.Terminal) *cobra.Command {
	return terminal.Group(&cobra.Command{Use: "release", Short: "sign, revoke, publish, check, fetch, keep and list releases"},
		append(publisher.ReleaseCommands(t), node.ReleaseCommands(t)...)...)
}

// adoptDefaults has the commands that cobra makes refuse what they do not know, and
// describe themselves in lower case, as ours do.
func adoptDefaults(cmd *cobra.Command) {
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultCompletionCmd()
	for _, c := range cmd.Commands() {
		switch c.Name() {
		case "help":
			c.Short = "show the help of a command"
			c.Args = helpFor
		case "completion":
			c.Short = "write the completion script of a shell"
			c.Long = "Write a script with which the shell completes commands, flags and their values.\nThe help of each shell says how to load its script."
			for _, shell := range c.Commands() {
				shell.Short = "write the completion script of " + shell.Name()
				shell.Args = terminal.NoArgs
			}
			terminal.Group(c)
		}
	}
}

// helpFor is for the command that cobra makes: it must not answer for a command
// that does not exist with the help of another.
func helpFor(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err != nil {
		return terminal.UsageError(err)
	}
	if found.HasSubCommands() {
		return terminal.NoArgs(found, rest)
	}
	return nil
}
