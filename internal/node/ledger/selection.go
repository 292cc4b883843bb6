package ledger

import (
	"cmp"
	"slices"
)

// Select returns what to verify next within budget, which is in the unit of the items'
// costs; 0 or less means no limit and returns all of them. They are in the order in which
// to verify them: first those that differed at their last check, then those never
// checked, then those whose last check is the oldest. The result depends on nothing but
// the arguments, and not on their order.
//
// What drifted is checked again each time, and does not count towards the budget:
// otherwise a run could pass over what the last one found. Other items are added until
// the budget is used up, and the last one may exceed it, so that one that costs more than
// the whole budget is verified too. So n runs with an n-th of the whole cost verify
// everything, and the next one begins with the oldest again.
//
// The last attempt counts, not the last success: an item that can't be checked is tried
// like the others and does not hold them up.
func Select(items []Item, records Records, budget int64) []Item {
	type turn struct {
		Item
		last int64 // run of the last check; 0, before all others, for none
	}
	const first = -1
	turns := make([]turn, len(items))
	for i, item := range items {
		r := records[item.Key()]
		turns[i] = turn{item, r.Last.Run}
		if r.Drifted() {
			turns[i].last = first
		}
	}
	slices.SortFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.last, b.last), a.Key().compare(b.Key()), cmp.Compare(a.Cost, b.Cost))
	})
	chosen := make([]Item, 0, len(turns))
	for _, t := range turns {
		chosen = append(chosen, t.Item)
		if budget <= 0 || t.last == first {
			continue
		}
		if budget -= max(t.Cost, 0); budget <= 0 {
			break
		}
	}
	return chosen
}
