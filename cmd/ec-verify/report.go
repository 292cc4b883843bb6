package main

import (
	"github.com/spf13/cobra"
)

func newReportCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "report", Short: "check signed reports"}, newReportVerifyCommand(a))
}
