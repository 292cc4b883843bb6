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
	// Verified: it was checked and is as the manifest says.
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

// Check is one check of an item. The zero value is none.
type Check struct {
	// Run is the number of the run that checked, from 1 on; a later run has a
	// higher one, whatever the clock said.
	Run    int64
	At     time.Time // to the millisecond, in UTC
	Result Result
	// Cause is the reason for the result; empty if there is none to give.
	Cause closure.Cause
	// Took is how long the check took; 0 if that was not measured.
	Took time.Duration
	// FromDisk says that all bytes came from the disk, past the page cache. It
	// is of store paths that were hashed, and false for rebuilds.
	FromDisk bool
	Manifest Manifest
	Tool     string // version of the program
}

// Done reports whether c was made at all.
func (c Check) Done() bool { return c.Run > 0 }

// Record is what is remembered of one item at one tier. The zero value is that of an item
// that was never checked.
type Record struct {
	// Last is the last check, whatever came of it.
	Last Check
	// Settled is the last check that was not inconclusive: a failed attempt does not undo
	// what is known.
	Settled Check
}

// Drifted reports whether the item differed from the manifest at its last conclusive
// check.
func (r Record) Drifted() bool { return r.Settled.Result == Drifted }

// Current reports whether the record can replace a check now: the last attempt, whatever
// preceded it, found what the manifest says, no longer ago than every. A check in the
// future does not count, except within [Skew].
func (r Record) Current(every time.Duration, now time.Time) bool {
	age := now.Sub(r.Last.At)
	return r.Last.Done() && r.Last.Result == Verified && age <= every && age >= -Skew
}

// Records is what is remembered at one tier.
type Records map[Key]Record

// FromDisk returns the records without the checks that found what the manifest says
// through the page cache: they say nothing about the disk. A drift counts wherever it was
// read from.
func (rs Records) FromDisk() Records {
	kept := make(Records, len(rs))
	for key, r := range rs {
		if c := &r.Settled; c.Result == Verified && !c.FromDisk {
			*c = Check{}
		}
		if c := &r.Last; c.Result == Verified && !c.FromDisk {
			*c = r.Settled
		}
		if r.Last.Done() {
			kept[key] = r
		}
	}
	return kept
}
