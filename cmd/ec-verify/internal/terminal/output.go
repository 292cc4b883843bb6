package terminal

import (
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/report"
)

// Result is what a command found, rendered by [Terminal.Show]. As JSON it is itself, by
// its tags, or what its own WriteJSON(io.Writer) error writes.
type Result interface {
	// Text returns the result for people, escaped, and folded where it is prose.
	Text(Screen) string
}

// Screen is what shows a text. The zero Screen is a file or a pipe.
type Screen struct {
	Width, Height int // in cells and lines; 0 where nothing limits them
	Color         bool
}

// Fold breaks the lines of a text to the width of the screen.
func (s Screen) Fold(text string) string { return report.Fold(text, s.Width) }

// Lines returns lines as one text, escaped and folded.
func (s Screen) Lines(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(report.Escape(line) + "\n")
	}
	return s.Fold(b.String())
}

// formats are the values of --output: what writes a result in each.
var formats = map[string]func(*Terminal, Result) error{
	"text": (*Terminal).showText,
	"json": (*Terminal).showJSON,
}

// formatNames are the values of --output, the default first.
func formatNames() []string {
	rest := maps.Clone(formats)
	delete(rest, "text")
	return append([]string{"text"}, slices.Sorted(maps.Keys(rest))...)
}

// Show writes a result in the format that --output asks for.
func (t *Terminal) Show(r Result) error { return formats[t.Output](t, r) }

func (t *Terminal) showText(r Result) error {
	_, err := io.WriteString(t.Stdout, r.Text(t.screen()))
	return err
}

func (t *Terminal) showJSON(r Result) error {
	if r, ok := r.(interface{ WriteJSON(io.Writer) error }); ok {
		return r.WriteJSON(t.Stdout)
	}
	return WriteJSON(t.Stdout, r)
}

// ForPeople reports whether results are shown as text.
func (t *Terminal) ForPeople() bool { return t.Output == "text" }

// TextOnly refuses every other format than text, for the reason why.
func (t *Terminal) TextOnly(why string) error {
	if t.ForPeople() {
		return nil
	}
	return UsageErrorf("%s", why)
}

// WriteJSON writes v as one line; options may say otherwise. A byte that is no UTF-8
// becomes U+FFFD; [excerpt.Raw] keeps it.
func WriteJSON(w io.Writer, v any, opts ...json.Options) error {
	data, err := json.Marshal(v, append(opts, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))...)
	if err != nil {
		return err
	}
	_, err = w.Write(append(report.PrintableJSON(data), '\n'))
	return err
}
