package ledger

import (
	"cmp"
	"slices"
)

// Select returns what to verify next within budget, which is in the unit of
// the items' costs; 0 or less is no bound, and then it is all of them. They are
// in the order in which to verify them: first those that were something else
// when they were last looked at, then those that were never looked at, then
// those whose last check is the oldest. It depends on nothing but its arguments,
// and on no order in them.
//
// What drifted is looked at again each time, and costs nothing of the budget:
// else a run could pass over what the last one found. Other items are taken
// until the budget is used up, and the last one may go beyond it, so that one
// that costs more than the whole budget has its turn too. By that, n runs with an
// n-th of the whole cost verify everything, and the next one begins with the
// oldest again.
//
// It is the last attempt that counts, not the last success: what can't be
// checked has its turn like everything else and doesn't hold up the rest.
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
