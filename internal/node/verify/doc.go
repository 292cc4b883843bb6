// Package verify runs the tiers of a verification as one straight line:
// release, source, eval, live, contents. [Verifier.Verify] in verify.go reads
// as that list.
//
// Each tier adds what it finds to the report and ends as done, skipped or
// failed; nothing is ever taken for checked because an earlier step went well.
// One goroutine owns the line. Only hashing the contents fans out.
//
// The package observes: it writes to no store, no database and no log but the
// logger that it is given.
package verify
