package node

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/runlock"
	"every.channel/ec-verify/internal/report"
)

// diedBefore names the run that held the lock before and died, "" for none.
func diedBefore(lock *runlock.Lock) string {
	if h, died := lock.Died(); died {
		return h.String()
	}
	return ""
}

// newAfterRunCommand returns the command that the units run after the program has ended
// in any way: a run that was killed can't report that itself, and its metrics would keep
// the result of the previous run.
func newAfterRunCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "after-run",
		Short:  "report a run that died to the metrics and the journal, and keep the report as a page",
		Hidden: true,
		Args:   terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configured.Load(a.Terminal)
			if err != nil {
				return err
			}
			if h, died := runlock.Died(c.StateDir); died && !h.Look {
				err := fmt.Errorf("a run died: %s ended without a verdict", h)
				_ = a.newEvents(c, c, "").fail(cmd.Context(), err, false)
				if !a.ComplainInJournal(err) {
					a.Note(report.Escape(err.Error()))
				}
			}
			return a.keepPage(cmd.Context(), c, currentUnit(), endingOf(os.Getenv))
		},
	}
}
