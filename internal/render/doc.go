// Package render writes a report for people and forges: as an HTML page, Markdown,
// JUnit's XML, and SARIF.
//
// A [Document] is what all four formats show: a headline, facts, steps, and findings in
// groups. [FromReport] creates one from a run's report; others may create theirs, for
// instance from a comparison of two builds.
//
// Untrusted text is escaped by [report.Escape] when a Document is created, so that no
// renderer can forget it, and then by the rules of the format. The page is one file
// without scripts, and its content security policy forbids every request.
package render
