// Package node has the commands of a verified machine: the verification itself, those
// that judge a system before it runs and switch to it, those that show and check reports,
// and those that a node uses with releases. The commands of ec-verify release that list,
// check, fetch and refresh are among them, because they find a release as a verification
// does: by the node's configuration, in its cache and its sources.
package node

import (
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/render"
)

// app is the terminal, with the methods that this package's commands share.
type app struct{ *terminal.Terminal }

// Verify has root verify this machine.
func Verify(t *terminal.Terminal, root *cobra.Command) {
	a, flags := &app{t}, new(verifyFlags)
	flags.register(root)
	root.RunE = func(cmd *cobra.Command, _ []string) error { return a.verify(cmd.Context(), flags) }
}

// Commands returns the subcommands of the root command. others reads documents that are
// not reports but can be rendered.
func Commands(t *terminal.Terminal, others Reader) []*cobra.Command {
	a := &app{t}
	return []*cobra.Command{
		newCandidateCommand(a), newSwitchCommand(a), newGateCommand(a), newExplainCommand(a), newHashCommand(a), newStatusCommand(a),
		newReportCommand(a, others), newConfigCommand(a), newMachineCommand(a), newDoctorCommand(a), newAfterRunCommand(a),
	}
}

// ReleaseCommands returns those of ec-verify release that a node needs.
func ReleaseCommands(t *terminal.Terminal) []*cobra.Command {
	a := &app{t}
	return []*cobra.Command{newReleaseVerifyCommand(a), newReleaseFetchCommand(a), newReleaseRefreshCommand(a), newReleaseListCommand(a)}
}

// Reader reads a document from the data in the file name; nil for one that it does not
// know.
type Reader func(name string, data []byte) (*render.Document, error)
