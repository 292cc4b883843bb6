package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

const (
	documentFile = "docs/benchmarks.md"
	// neighbourHeading begins the part that make bench-neighbour writes. It ends
	// with the next heading of its level; the rest is make bench's.
	neighbourHeading = "## Beside an encoder"
)

// writeDocument writes the part of make bench, or that of make bench-neighbour,
// and leaves the other as it is.
func writeDocument(change func(own, neighbour string) (string, string)) error {
	old, err := os.ReadFile(documentFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	own, neighbour := change(split(string(old)))
	text := strings.TrimRight(own, "\n") + "\n"
	if neighbour != "" {
		text += "\n" + strings.TrimRight(neighbour, "\n") + "\n"
	}
	return os.WriteFile(documentFile, []byte(text), 0o644)
}

// split takes the two parts of the document apart.
func split(document string) (own, neighbour string) {
	before, after, found := strings.Cut(document, neighbourHeading+"\n")
	if !found {
		return document, ""
	}
	part, rest, more := strings.Cut(after, "\n## ")
	if more {
		before += "## " + rest
	}
	return before, neighbourHeading + "\n" + part
}
