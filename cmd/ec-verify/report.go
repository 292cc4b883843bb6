package main

import (
	"github.com/spf13/cobra"
)

func newReportCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "report", Short: "render reports, and check signed ones"}, newReportRenderCommand(a), newReportVerifyCommand(a))
}
