package main

import "testing"

func TestSplit(t *testing.T) {
	const (
		own        = "# Benchmarks\n\n## Ratios\n\nx\n\n"
		neighbour  = neighbourHeading + "\n\ny\n\n### z\n"
		evaluation = evaluationHeading + "\n\nw\n"
	)
	for document, want := range map[string][3]string{
		"":                                  {"", "", ""},
		own:                                 {own, "", ""},
		own + neighbour:                     {own, "", neighbour},
		own + neighbour + "\n## More\n":     {own + "## More\n", "", neighbour},
		own + evaluation + "\n" + neighbour: {own, evaluation, neighbour},
	} {
		a, parts := split(document)
		if a != want[0] || parts[evaluationHeading] != want[1] || parts[neighbourHeading] != want[2] {
			t.Errorf("%q is split into %q and %q", document, a, parts)
		}
	}
}
