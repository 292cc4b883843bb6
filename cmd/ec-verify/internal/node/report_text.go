package node

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/report"
)

// textFlags say how much of a report the text shows.
type textFlags struct{ all, long, brief, quiet bool }

func (t *textFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&t.all, "all", false, "show every finding in the text report")
	f.BoolVar(&t.long, "long", false, "show tiers, hashes and sizes on a terminal, as in a file or a pipe")
	f.BoolVar(&t.brief, "brief", false, "print only the verdict, in one line")
	f.BoolVar(&t.quiet, "quiet", false, "print no report: the exit code is the verdict")
}

// check checks the flags against each other.
func (t *textFlags) check(on *terminal.Terminal) error {
	switch {
	case t.quiet && (t.brief || t.long || t.all || !on.ForPeople()):
		return terminal.UsageErrorf("--quiet prints nothing: leave out --brief, --long, --all and --output json")
	case t.brief && (t.long || t.all || !on.ForPeople()):
		return terminal.UsageErrorf("--brief is one line: leave out --long, --all and --output json")
	}
	return nil
}

// render prints r with the flags t.
func (a *app) render(r *report.Report, t textFlags) error {
	if t.quiet {
		return nil
	}
	return a.Show(&shownReport{r, t})
}

// shownReport is a report as it is shown; its JSON is its own.
type shownReport struct {
	*report.Report
	flags textFlags
}

// Text implements [terminal.Result].
func (r *shownReport) Text(screen terminal.Screen) string {
	if r.flags.brief {
		return r.Brief() + r.briefStanding() + "\n"
	}
	var b strings.Builder
	_ = r.WriteText(&b, report.TextOptions{Color: screen.Color, All: r.flags.all, Long: r.flags.long, Width: screen.Width, Height: screen.Height}) // to memory
	return b.String()
}

// briefStanding adds to one line that the standing is graver than the run's verdict.
func (r *shownReport) briefStanding() string {
	s := r.Standing
	if s == nil || s.Look != "" || s.Verdict == r.Verdict() {
		return ""
	}
	return fmt.Sprintf("; the machine's standing is %s, see ec-verify status", s.Verdict)
}
