package ledger

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkedIn returns records of items that were last checked in these runs; 0
// for none.
func checkedIn(items []Item, runs ...int64) Records {
	records := make(Records)
	for i, run := range runs {
		if run > 0 {
			check := Check{Run: run, At: epoch, Result: Verified}
			records[items[i].Key()] = Record{Last: check, Settled: check}
		}
	}
	return records
}

// numbered returns n items of the given cost whose paths are in order.
func numbered(n int, cost int64) []Item {
	items := makeItems(n)
	slices.SortFunc(items, func(a, b Item) int { return a.Key().compare(b.Key()) })
	for i := range items {
		items[i].Cost = cost
	}
	return items
}

func TestSelect(t *testing.T) {
	items := numbered(6, 10)
	dear := slices.Clone(items)
	dear[2].Cost = 1000
	negative := slices.Clone(items)
	negative[0].Cost = -1000
	huge := slices.Clone(items)
	huge[0].Cost, huge[1].Cost = math.MaxInt64-5, math.MaxInt64
	rewritten := slices.Clone(items)
	rewritten[4].Want = hashOf("other bytes")
	attempted := checkedIn(items, 3, 3, 3, 3, 3, 3)
	attempted[items[1].Key()] = Record{
		Last:    Check{Run: 4, Result: Inconclusive},
		Settled: Check{Run: 1, Result: Verified},
	}

	drifted := checkedIn(items, 1, 2, 3, 0, 5, 4)
	for _, i := range []int{2, 4} {
		r := drifted[items[i].Key()]
		r.Last.Result, r.Settled.Result = Drifted, Drifted
		drifted[items[i].Key()] = r
	}
	// An attempt that came to nothing doesn't undo that it drifted.
	drifted[items[4].Key()] = Record{Last: Check{Run: 6}, Settled: drifted[items[4].Key()].Settled}

	for _, test := range []struct {
		name    string
		items   []Item
		records Records
		budget  int64
		want    []int
	}{
		{"nothing", nil, nil, 100, []int{}},
		{"all are new: by path", items, nil, 0, []int{0, 1, 2, 3, 4, 5}},
		{"drifted before new", items, drifted, 0, []int{2, 4, 3, 0, 1, 5}},
		{"drifted costs nothing of the budget", items, drifted, 15, []int{2, 4, 3, 0}},
		{"new before old", items, checkedIn(items, 1, 0, 1, 1, 0, 1), 0, []int{1, 4, 0, 2, 3, 5}},
		{"oldest first", items, checkedIn(items, 3, 1, 2, 3, 1, 2), 0, []int{1, 4, 2, 5, 0, 3}},
		{"within the budget", items, checkedIn(items, 3, 1, 2, 3, 1, 2), 30, []int{1, 4, 2}},
		{"the last one goes beyond", items, nil, 21, []int{0, 1, 2}},
		{"a budget below the cheapest", items, nil, 1, []int{0}},
		{"one dearer than the budget has its turn", dear, checkedIn(dear, 2, 2, 1, 2, 2, 2), 20, []int{2}},
		{"and doesn't jump the queue", dear, checkedIn(dear, 1, 1, 2, 2, 2, 2), 20, []int{0, 1}},
		{"a negative budget is none", items, nil, -1, []int{0, 1, 2, 3, 4, 5}},
		{"a negative cost is 0", negative, nil, 20, []int{0, 1, 2}},
		{"costs that overflow", huge, nil, math.MaxInt64, []int{0, 1}},
		{"other bytes of a known path are new", rewritten, checkedIn(items, 1, 1, 1, 1, 1, 1), 10, []int{4}},
		{"an attempt that came to nothing was a turn", items, attempted, 50, []int{0, 2, 3, 4, 5}},
		{"records of others don't matter", items[:2], checkedIn(items, 2, 1, 1, 1, 1, 1), 0, []int{1, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := []Item{}
			for _, i := range test.want {
				want = append(want, test.items[i])
			}
			before := slices.Clone(test.items)
			if diff := cmp.Diff(want, Select(test.items, test.records, test.budget)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if !slices.Equal(before, test.items) {
				t.Error("the items given were changed")
			}
			// The order in which they are given is none.
			shuffled := slices.Clone(test.items)
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			if diff := cmp.Diff(want, Select(shuffled, test.records, test.budget)); diff != "" {
				t.Errorf("from another order: -want +got\n%s", diff)
			}
		})
	}
}

// verifyAll makes records say that run checked the items.
func verifyAll(records Records, run int64, items []Item) {
	for _, item := range items {
		check := Check{Run: run, At: epoch, Result: Verified}
		records[item.Key()] = Record{Last: check, Settled: check}
	}
}

// TestTenRuns: with a budget of one tenth, ten runs cover everything once, and
// the eleventh starts again with the oldest.
func TestTenRuns(t *testing.T) {
	items := numbered(200, 10)
	records := make(Records)
	var first, all []Item
	for run := int64(1); run <= 10; run++ {
		chosen := Select(items, records, 200*10/10)
		if len(chosen) != 20 {
			t.Fatalf("run %d takes %d items, not a tenth", run, len(chosen))
		}
		if run == 1 {
			first = chosen
		}
		all = append(all, chosen...)
		verifyAll(records, run, chosen)
	}
	slices.SortFunc(all, func(a, b Item) int { return a.Key().compare(b.Key()) })
	if diff := cmp.Diff(items, all); diff != "" {
		t.Errorf("ten runs did not cover everything once: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(first, Select(items, records, 200*10/10)); diff != "" {
		t.Errorf("the eleventh run does not start with the oldest: -want +got\n%s", diff)
	}
}

// TestTenRunsOfAnySize is TestTenRuns for costs like those of real closures: a
// few paths have most of the bytes, and some are larger than the budget.
func TestTenRunsOfAnySize(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		items := numbered(1+random.IntN(300), 0)
		var total int64
		for i := range items {
			items[i].Cost = int64(math.Exp(random.Float64() * 20))
			total += items[i].Cost
		}
		budget := max((total+9)/10, 1)
		records := make(Records)
		seen := make(map[Key]int)
		for run := int64(1); run <= 10; run++ {
			chosen := Select(items, records, budget)
			for _, item := range chosen {
				if seen[item.Key()]++; seen[item.Key()] == 2 && len(seen) < len(items) {
					t.Fatalf("round %d, run %d: one item comes twice before all came once", round, run)
				}
			}
			verifyAll(records, run, chosen)
		}
		if len(seen) != len(items) {
			t.Fatalf("round %d: ten runs covered %d of %d items", round, len(seen), len(items))
		}
		oldest := int64(math.MaxInt64)
		for _, r := range records {
			oldest = min(oldest, r.Last.Run)
		}
		if next := Select(items, records, budget); records[next[0].Key()].Last.Run != oldest {
			t.Fatalf("round %d: the eleventh run does not start with the oldest", round)
		}
	}
}

// TestInterruptedRun: items that were verified before a run was killed count as checked,
// and the next run continues from there.
func TestInterruptedRun(t *testing.T) {
	items := numbered(10, 10)
	records := make(Records)
	verifyAll(records, 1, Select(items, records, 0)[:4])
	if diff := cmp.Diff(items[4:], Select(items, records, 60)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
