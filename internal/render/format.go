package render

import "io"

// Format is a format that a [Document] is written in.
type Format struct {
	Name string
	// About describes the format, in one line without an end.
	About string
	Write func(io.Writer, *Document) error
}

// Formats are all formats, the default first.
var Formats = []Format{
	{"html", "one page: verdict, findings by cause, a map of the system by size", HTML},
	{"junit", "a suite for each tier: failures differ, errors were not checked", JUnit},
	{"markdown", "for a comment on a forge; 20 findings of a cause", Markdown},
	{"sarif", "2.1.0: a rule for each cause, a result for each finding", SARIF},
}
