// Package node has the commands of a machine that is verified: the verification
// itself, what judges a system before it runs and switches to it, what shows and checks
// reports, and what a node needs of releases. Those of ec-verify release that list,
// check, fetch and refresh are among them since they find a release as a verification
// does, by the node's configuration, in its cache and its sources.
package node

import (
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/render"
)

// app is the terminal with what the commands of this room share.
type app struct{ *terminal.Terminal }

// Verify has root verify this machine.
func Verify(t *terminal.Terminal, root *cobra.Command) {
	a, flags := &app{t}, new(verifyFlags)
	flags.register(root)
	root.RunE = func(cmd *cobra.Command, _ []string) error { return a.verify(cmd.Context(), flags) }
}

// Commands returns those below the root command. others reads what is no report and
// can be rendered as one nevertheless.
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
