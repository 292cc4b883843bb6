// Package publisher has the commands of those who make releases and hand them out:
// what writes, signs, revokes and publishes them, and what compares builds and images.
// It alone imports internal/publisher.
package publisher

import (
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

// app is the terminal, with the methods that this package's commands share.
type app struct{ *terminal.Terminal }

// Commands returns those below the root command.
func Commands(t *terminal.Terminal) []*cobra.Command {
	a := &app{t}
	return []*cobra.Command{newManifestCommand(a), newCompareCommand(a), newImagesCommand(a)}
}

// ReleaseCommands returns those of ec-verify release that make one.
func ReleaseCommands(t *terminal.Terminal) []*cobra.Command {
	a := &app{t}
	return []*cobra.Command{newReleaseSignCommand(a), newReleaseRevokeCommand(a), newReleasePublishCommand(a)}
}
