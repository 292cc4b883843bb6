// Package report represents the result of a run of ec-verify: a [Report] with its
// [Finding]s, and the [Verdict] that follows from them.
//
// A finding is data about the machine: one difference with its [Cause]. Every cause has
// one [Class], and the verdict is judged from the classes alone ([Judge]), so that
// counts, verdict and exit code never disagree. Text and JSON are encoders of the same
// struct; docs/report.md documents the JSON.
//
// The package does no I/O of its own and never logs.
package report
