package boothost

import (
	"fmt"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/report"
)

func newNetbootRollbackCommand(a *app) *cobra.Command {
	var flags configured.Flags
	var dir string
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "serve the previous release again",
		Long: `Check the release of DIR/previous as ec-verify netboot check does, then serve
it, in one step. The release served until now becomes the previous one.

If a timer stages releases, its next run serves the newer one again. Stop the
timer first, or name the older tag there.`,
		Example: "  ec-verify netboot rollback --dir /srv/netboot --key release.pub",
		Args:    terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			s := netboot.Stager{Dir: dir}
			if s.Open, err = openKept(c); err != nil {
				return err
			}
			back, err := s.Rollback(cmd.Context())
			if err != nil {
				return a.Refused(netbootKind, err)
			}
			return a.Show(changedStage(fmt.Sprintf("release %s is served again", back.Tag), back))
		},
	}
	flags.RegisterKey(cmd)
	registerStageDir(cmd, &dir)
	return cmd
}

func newNetbootClearCommand(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "stop serving any release",
		Long: `Stop serving from DIR, in one step, and remove every stage in it. Machines that
boot then get status 404 and go on to their next boot device.

The next ec-verify netboot stage serves a release again if it is still trusted,
but not if its key was revoked.`,
		Example: "  ec-verify netboot clear --dir /srv/netboot",
		Args:    terminal.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			s := netboot.Stager{Dir: dir}
			was, err := s.Clear()
			if err != nil {
				return a.Refused(netbootKind, err)
			}
			headline := "nothing is served any more"
			if was == "" {
				headline = "nothing is served, as before"
			}
			switched := was != ""
			return a.Show(&stageSummary{SchemaVersion: 1, Kind: netbootKind, Verdict: report.Verified.String(), Switched: &switched, Replaced: &was, headline: headline})
		},
	}
	registerStageDir(cmd, &dir)
	return cmd
}
