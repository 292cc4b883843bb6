package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

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
		return usageError{errors.New("--quiet prints nothing: leave out --brief, --long, --all and --output json")}
	case t.brief && (t.long || t.all || output == "json"):
		return usageError{errors.New("--brief is one line: leave out --long, --all and --output json")}
	}
	return nil
}

func (a *app) render(r *report.Report, t textFlags) error {
	switch {
	case t.quiet:
		return nil
	case a.output == "json":
		return r.WriteJSON(a.stdout)
	case t.brief:
		_, err := fmt.Fprintln(a.stdout, r.Brief())
		return err
	}
	width, height := screen(a.stdout)
	return r.WriteText(a.stdout, report.TextOptions{Color: a.colors(a.stdout), All: t.all, Long: t.long, Width: width, Height: height})
}

// print writes text for people; on a terminal its lines are folded to the width.
func (a *app) print(text string) error {
	_, err := io.WriteString(a.stdout, report.Fold(text, a.width()))
	return err
}

// width is that of the terminal at standard output, in cells; 0 for a file or a
// pipe.
func (a *app) width() int {
	width, _ := screen(a.stdout)
	return width
}

// screen is the width in cells and the height in lines of the terminal that w is; 0 for
// a file or a pipe.
func screen(w io.Writer) (width, height int) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !isTerminal(w) || os.Getenv("TERM") == "dumb" {
		return 0, 0
	}
	const usual, least = 80, 40
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return usual, 0
	}
	return max(width, least), max(height, 0)
}
