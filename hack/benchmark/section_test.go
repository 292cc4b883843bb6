package main

import "testing"

func TestSplit(t *testing.T) {
	const own, part = "# Benchmarks\n\n## Ratios\n\nx\n\n", neighbourHeading + "\n\ny\n\n### z\n"
	for document, want := range map[string][2]string{
		"":                         {"", ""},
		own:                        {own, ""},
		own + part:                 {own, part},
		own + part + "\n## More\n": {own + "## More\n", part},
	} {
		if a, b := split(document); a != want[0] || b != want[1] {
			t.Errorf("%q is split into %q and %q", document, a, b)
		}
	}
}
