package main

import (
	"github.com/spf13/cobra"
)

func newReportCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "report", Short: "show and render reports, and check signed ones"},
		newReportShowCommand(a), newReportRenderCommand(a), newReportVerifyCommand(a))
}
