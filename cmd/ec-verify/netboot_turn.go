package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/report"
)

func newNetbootRollbackCommand(a *app) *cobra.Command {
	var flags policyFlags
	var dir string
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "serve the previous release again",
		Long: `Serve what DIR/previous leads to, in one step, after it was checked as by
ec-verify netboot check; what was served until now is then the one before.

It does not last where something stages by a timer: that serves the newer one
again at its next run. Stop the timer first, or name the older tag there.`,
		Example: "  ec-verify netboot rollback --dir /srv/netboot --key release.pub",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			c, err := flags.load(a, cmd)
			if err != nil {
				return err
			}
			s := netboot.Stager{Dir: dir}
			if s.Open, err = openStaged(c); err != nil {
				return err
			}
			back, err := s.Rollback(cmd.Context())
			if err != nil {
				return a.refused(netbootKind, err)
			}
			return a.printStage(fmt.Sprintf("release %s is served again", back.Tag), changedStage(back))
		},
	}
	flags.register(cmd)
	registerStageDir(cmd, &dir)
	return cmd
}

func newNetbootClearCommand(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "stop serving any release",
		Long: `Have DIR serve nothing, in one step, and remove every stage in it. Machines that
boot are told 404 then, and go on to their next boot device.

A release that is still believed is served again by the next ec-verify netboot
stage; one whose key was revoked is not.`,
		Example: "  ec-verify netboot clear --dir /srv/netboot",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			s := netboot.Stager{Dir: dir}
			was, err := s.Clear()
			if err != nil {
				return a.refused(netbootKind, err)
			}
			headline := "nothing is served any more"
			if was == "" {
				headline = "nothing is served, as before"
			}
			switched := was != ""
			return a.printStage(headline, stageSummary{SchemaVersion: 1, Kind: netbootKind, Verdict: report.Verified.String(), Switched: &switched, Replaced: &was})
		},
	}
	registerStageDir(cmd, &dir)
	return cmd
}
