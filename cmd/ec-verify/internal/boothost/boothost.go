// Package boothost has the commands of a host that others boot from over the network:
// ec-verify netboot.
package boothost

import (
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/boothost/netboot"
)

// app is the terminal, with the methods that this package's commands share.
type app struct{ *terminal.Terminal }

// Command returns ec-verify netboot.
func Command(t *terminal.Terminal) *cobra.Command { return newNetbootCommand(&app{t}) }

// Refused is that of the terminal, for which a stage that was altered is drift.
func (a *app) Refused(kind string, err error) error {
	if altered, ok := err.(*netboot.AlteredError); ok { //nolint:errorlint // not one among others
		err = terminal.DriftError(altered)
	}
	return a.Terminal.Refused(kind, err)
}
