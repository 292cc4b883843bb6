package ledger

import (
	"fmt"
	"slices"
	"time"

	"every.channel/ec-verify/pkg/closure"
)

// Result is what came of a check. The zero value is Inconclusive: nothing is
// verified by default. The words are those of the verdicts.
type Result uint8

// The results.
const (
	// Inconclusive: it could not be checked.
	Inconclusive Result = iota
	// Verified: it was checked and is what the manifest says.
	Verified
	// Drifted: it was checked and is something else.
	Drifted
)

var results = []string{Inconclusive: "inconclusive", Verified: "verified", Drifted: "drifted"}

// String returns "inconclusive", "verified" or "drifted".
func (r Result) String() string {
	if int(r) >= len(results) {
		return fmt.Sprintf("Result(%d)", uint8(r))
	}
	return results[r]
}

// MarshalText implements [encoding.TextMarshaler] with String.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func parseResult(s string) (Result, error) {
	i := slices.Index(results, s)
	if i < 0 {
		return 0, fmt.Errorf("%q is no result", clip(s))
	}
	return Result(i), nil
}

// Check is one look at an item. The zero value is none.
type Check struct {
	// Run is the number of the run that checked, from 1 on; a later run has a
	// higher one, whatever the clock said.
	Run    int64
	At     time.Time // to the millisecond, in UTC
	Result Result
	// Cause is why the result is so; empty where there is nothing to say.
	Cause closure.Cause
	// Took is how long the check took; 0 where that was not measured.
	Took     time.Duration
	Manifest Manifest
	Tool     string // version of the program
}

// Done reports whether c was made at all.
func (c Check) Done() bool { return c.Run > 0 }

// Record is what is remembered of one item at one tier. The zero value is that
// of an item that nobody has looked at.
type Record struct {
	// Last is the last check, whatever came of it.
	Last Check
	// Settled is the last check that was not inconclusive: an attempt that came
	// to nothing doesn't undo what is known.
	Settled Check
}

// Records holds what is remembered at one tier.
type Records map[Key]Record
