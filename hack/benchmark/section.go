package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

const documentFile = "docs/benchmarks.md"

// Parts of the document that benchmarks of their own write. Each ends with the next
// heading of its level; the rest is make bench's.
const (
	smallHeading      = "## Many small paths" // written by hand
	coldHeading       = "## A cold disk"      // written by hand
	growthHeading     = "## Growth"
	evaluationHeading = "## Evaluation"
	neighbourHeading  = "## Beside an encoder"
	hostileHeading    = "## A hostile store"
	machineHeading    = "## The running machine"
	systemsHeading    = "## Two accepted systems"
)

// partHeadings begin the parts, in their order.
var partHeadings = []string{smallHeading, coldHeading, growthHeading, evaluationHeading, neighbourHeading, systemsHeading, hostileHeading, machineHeading}

// writeOwn writes the section of make bench, and leaves the other parts alone.
func writeOwn(text string) error {
	_, parts, err := readDocument()
	if err != nil {
		return err
	}
	return writeDocument(text, parts)
}

// writePart writes one part, which begins with its heading, and leaves all else.
func writePart(heading, text string) error {
	own, parts, err := readDocument()
	if err != nil {
		return err
	}
	parts[heading] = text
	return writeDocument(own, parts)
}

func readDocument() (own string, parts map[string]string, err error) {
	document, err := os.ReadFile(documentFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	own, parts = split(string(document))
	return own, parts, nil
}

func writeDocument(own string, parts map[string]string) error {
	text := strings.TrimRight(own, "\n") + "\n"
	for _, heading := range partHeadings {
		if part := parts[heading]; part != "" {
			text += "\n" + strings.TrimRight(part, "\n") + "\n"
		}
	}
	return os.WriteFile(documentFile, []byte(text), 0o644)
}

// split takes the parts out of the document.
func split(document string) (own string, parts map[string]string) {
	own, parts = document, make(map[string]string)
	for _, heading := range partHeadings {
		before, after, found := strings.Cut(own, heading+"\n")
		if !found {
			continue
		}
		part, rest, more := strings.Cut(after, "\n## ")
		if more {
			before += "## " + rest
		}
		own, parts[heading] = before, heading+"\n"+part
	}
	return own, parts
}
