// Package render makes of a report what people and forges look at: a page of HTML,
// Markdown, JUnit's XML, and SARIF.
//
// A [Document] is what all four show: a headline, facts, steps, and findings in groups.
// [FromReport] makes one of a run's report; others may make theirs, such as of a
// comparison of two builds.
//
// Whatever an outsider wrote is escaped by [report.Escape] when a Document is made, so
// that no renderer can forget it, and then by the rules of the format. The page is one
// file without scripts, and a policy in it forbids every request.
package render
