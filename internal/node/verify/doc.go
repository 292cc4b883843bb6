// Package verify runs the tiers of a verification in sequence; [Verifier.Verify] in
// verify.go is that sequence, and tiers.go lists the tiers.
//
// Each tier adds its findings to the report and ends as done, skipped or failed; nothing
// counts as checked because an earlier step succeeded. One goroutine runs the sequence.
// Only the hashing of the contents is parallel.
//
// The package only observes: it writes to no store, no database and no log but the given
// logger.
package verify
