package terminal

import (
	"io"
	"os"

	"golang.org/x/term"

	"every.channel/ec-verify/internal/report"
)

// Colors reports whether w is a terminal whose user wants colours; see
// https://no-color.org.
func (t *Terminal) Colors(w io.Writer) bool {
	return IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// showsProgress reports whether progress is shown on stderr.
func (t *Terminal) showsProgress() bool {
	return t.progress == "always" || t.progress == "auto" && IsTerminal(t.Stderr) && os.Getenv("TERM") != "dumb"
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// Print writes text for people; on a terminal its lines are folded to the width.
func (t *Terminal) Print(text string) error {
	_, err := io.WriteString(t.Stdout, report.Fold(text, t.screen().Width))
	return err
}

// screen is what shows the results.
func (t *Terminal) screen() Screen {
	width, height := size(t.Stdout)
	return Screen{width, height, t.Colors(t.Stdout)}
}

// size is the width in cells and the height in lines of the terminal that w is; 0 for a
// file or a pipe.
func size(w io.Writer) (width, height int) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !IsTerminal(w) || os.Getenv("TERM") == "dumb" {
		return 0, 0
	}
	const usual, least = 80, 40
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return usual, 0
	}
	return max(width, least), max(height, 0)
}
