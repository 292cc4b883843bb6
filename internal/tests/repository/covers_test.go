package repository

import (
	"strings"
	"testing"
)

// firstScreen is how many lines of the README somebody sees who opens it.
const firstScreen = 40

// TestCovers: what a verdict covers, and what not, is said in the same words wherever
// somebody may look for it.
func TestCovers(t *testing.T) {
	texts := documents(t)
	fold := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	_, rest, ok := strings.Cut(texts["docs/coverage.md"], "\n\nA verdict covers ")
	words, _, _ := strings.Cut(rest, "\n\n")
	words = fold("A verdict covers " + words)
	if !ok || !strings.Contains(words, "It does not cover ") {
		t.Fatalf("docs/coverage.md does not begin with what a verdict covers and what not: %q", words)
	}
	lines := strings.SplitN(texts["README.md"], "\n", firstScreen+1)
	for place, text := range map[string]string{
		"the first screen of README.md": strings.Join(lines[:firstScreen], "\n"),
		"docs/threat-model.md":          texts["docs/threat-model.md"],
	} {
		if !strings.Contains(fold(text), words) {
			t.Errorf("%s does not say, in these words: %s", place, words)
		}
	}
}
