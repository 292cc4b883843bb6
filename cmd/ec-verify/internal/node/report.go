package node

import (
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

func newReportCommand(a *app, others Reader) *cobra.Command {
	return terminal.Group(&cobra.Command{Use: "report", Short: "show and render reports, and check signed ones"},
		newReportShowCommand(a), newReportRenderCommand(a, others), newReportVerifyCommand(a))
}
