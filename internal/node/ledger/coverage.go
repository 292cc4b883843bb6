package ledger

import "time"

// Policy says how often everything is to be verified. With the zero value everything is
// overdue at once.
type Policy struct {
	// Contents is the longest time between two checks of a store path.
	Contents time.Duration
	// Rebuild is the longest time between two rebuilds of a derivation.
	Rebuild time.Duration
}

// DefaultPolicy asks for every path to be hashed once a week, and for every
// derivation to be rebuilt once in 90 days.
func DefaultPolicy() Policy {
	return Policy{Contents: 7 * 24 * time.Hour, Rebuild: 90 * 24 * time.Hour}
}

// Every returns the longest time between two checks of an item of the tier.
func (p Policy) Every(t Tier) time.Duration {
	if t == Rebuild {
		return p.Rebuild
	}
	return p.Contents
}

// Skew is how far in the future a check may be and still count, as if made just now:
// clocks are set back a little all the time. A check further in the future was made with
// a wrong clock, or the clock is wrong now.
const Skew = 5 * time.Minute

// Coverage says how much of an inventory was verified in time. A check counts unless it
// was inconclusive; drift is counted separately.
type Coverage struct {
	// Items is how many there are: Covered and Overdue together.
	Items   int
	Covered int
	Overdue int
	// Never is how many of the overdue ones have no check that counts.
	Never int
	// Future is how many of the overdue items have a check in the future, by more than
	// [Skew].
	Future int
	// Drifted is how many items differed from the manifest at their last conclusive
	// check, covered or not.
	Drifted int
	// Oldest is when the item was checked whose last check is the oldest, of
	// those that have one that counts and is not in the future; zero for none.
	Oldest time.Time
}

// Complete returns the time since which every item was checked, in one run or in several.
// It is false if one never was.
func (c Coverage) Complete() (since time.Time, ok bool) {
	return c.Oldest, c.Items > 0 && c.Never == 0 && c.Future == 0
}

// Cover compares the records of items with a policy under which each is checked at that
// interval.
func Cover(items []Item, records Records, every time.Duration, now time.Time) Coverage {
	c := Coverage{Items: len(items)}
	for _, item := range items {
		check := records[item.Key()].Settled
		if check.Result == Drifted {
			c.Drifted++
		}
		age := now.Sub(check.At)
		switch {
		case !check.Done():
			c.Never++
			c.Overdue++
			continue
		case age < -Skew:
			c.Future++
			c.Overdue++
			continue
		case age > every:
			c.Overdue++
		default:
			c.Covered++
		}
		if c.Oldest.IsZero() || check.At.Before(c.Oldest) {
			c.Oldest = check.At
		}
	}
	return c
}
