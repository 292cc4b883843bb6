package node

import (
	"fmt"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/report"
)

// textFlags say how much of a report is shown as text.
type textFlags struct{ all, long, brief, quiet bool }

func (t *textFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&t.all, "all", false, "show every finding in the text report")
	f.BoolVar(&t.long, "long", false, "show tiers, hashes and sizes on a terminal, as in a file or a pipe")
	f.BoolVar(&t.brief, "brief", false, "print only the verdict, in one line")
	f.BoolVar(&t.quiet, "quiet", false, "print no report: the exit code is the verdict")
}

// check holds the flags to each other.
func (t *textFlags) check(output string) error {
	switch {
	case t.quiet && (t.brief || t.long || t.all || output == "json"):
		return terminal.UsageErrorf("--quiet prints nothing: leave out --brief, --long, --all and --output json")
	case t.brief && (t.long || t.all || output == "json"):
		return terminal.UsageErrorf("--brief is one line: leave out --long, --all and --output json")
	}
	return nil
}

func (a *app) render(r *report.Report, t textFlags) error {
	switch {
	case t.quiet:
		return nil
	case a.Output == "json":
		return r.WriteJSON(a.Stdout)
	case t.brief:
		_, err := fmt.Fprintln(a.Stdout, r.Brief())
		return err
	}
	width, height := terminal.Screen(a.Stdout)
	return r.WriteText(a.Stdout, report.TextOptions{Color: a.Colors(a.Stdout), All: t.all, Long: t.long, Width: width, Height: height})
}
