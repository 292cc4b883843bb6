package ledger

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCover(t *testing.T) {
	items := numbered(3, 10)
	settled := func(result Result, ages ...time.Duration) Records {
		records := make(Records)
		for i, age := range ages {
			check := Check{Run: 1, At: epoch.Add(-age), Result: result}
			records[items[i].Key()] = Record{Last: check, Settled: check}
		}
		return records
	}
	tried := settled(Verified, day, day)
	tried[items[2].Key()] = Record{Last: Check{Run: 2, At: epoch}}
	kept := settled(Verified, day, day, day)
	kept[items[2].Key()] = Record{Last: Check{Run: 2, At: epoch}, Settled: kept[items[2].Key()].Settled}
	rewritten := slices.Clone(items)
	rewritten[1].Want = hashOf("other bytes")

	at := func(age time.Duration) time.Time { return epoch.Add(-age) }
	for _, test := range []struct {
		name     string
		items    []Item
		records  Records
		want     Coverage
		complete bool
	}{
		{"nothing to verify", nil, nil, Coverage{}, false},
		{"nothing verified", items, nil, Coverage{Items: 3, Overdue: 3, Never: 3}, false},
		{"all in time", items, settled(Verified, day, 2*day, 7*day), Coverage{Items: 3, Covered: 3, Oldest: at(7 * day)}, true},
		{"one overdue", items, settled(Verified, day, 2*day, 7*day+1), Coverage{Items: 3, Covered: 2, Overdue: 1, Oldest: at(7*day + 1)}, true},
		{"one never", items, settled(Verified, day, 2*day), Coverage{Items: 3, Covered: 2, Overdue: 1, Never: 1, Oldest: at(2 * day)}, false},
		{"drifted ones were checked", items, settled(Drifted, day, day, 8*day), Coverage{Items: 3, Covered: 2, Overdue: 1, Drifted: 3, Oldest: at(8 * day)}, true},
		{"an attempt is no check", items, tried, Coverage{Items: 3, Covered: 2, Overdue: 1, Never: 1, Oldest: at(day)}, false},
		{"an attempt undoes no check", items, kept, Coverage{Items: 3, Covered: 3, Oldest: at(day)}, true},
		{"other bytes of a known path", rewritten, settled(Verified, day, 2*day, day), Coverage{Items: 3, Covered: 2, Overdue: 1, Never: 1, Oldest: at(day)}, false},
		{"a clock set back by a little", items, settled(Verified, day, -time.Minute, -Skew), Coverage{Items: 3, Covered: 3, Oldest: at(day)}, true},
		{"from the future", items, settled(Verified, day, -Skew-1, -1000*day), Coverage{Items: 3, Covered: 1, Overdue: 2, Future: 2, Oldest: at(day)}, false},
		{"all from the future", items, settled(Verified, -day, -day, -day), Coverage{Items: 3, Overdue: 3, Future: 3}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Cover(test.items, test.records, 7*day, epoch)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			since, complete := got.Complete()
			if complete != test.complete || complete && !since.Equal(got.Oldest) {
				t.Errorf("complete: %v, %v", since, complete)
			}
		})
	}
	t.Run("the zero policy", func(t *testing.T) {
		if got := Cover(items, settled(Verified, 1, 1, 1), Policy{}.Every(Contents), epoch); got.Covered != 0 {
			t.Errorf("something is covered: %+v", got)
		}
	})
}

// TestClockJump runs with a clock that jumps ahead by years and back. What was
// checked then counts for nothing until it is checked again; and in the
// meantime the turns go round as if there were no clock.
func TestClockJump(t *testing.T) {
	items := numbered(10, 10)
	now := epoch
	l := openAt(t, t.TempDir(), func() time.Time { return now })
	verify := func() []Item {
		t.Helper()
		r := begin(t, l)
		expectItems(t, r, items)
		chosen := Select(items, records(t, l), 20)
		for _, item := range chosen {
			r.Record(Contents, item, Outcome{Result: Verified})
		}
		end(t, r)
		return chosen
	}
	cover := func() Coverage { return Cover(items, records(t, l), 7*day, now) }

	var order []Item
	order = append(order, verify()...)
	now = epoch.AddDate(10, 0, 0)
	order = append(order, verify()...)
	if c := cover(); c.Covered != 2 {
		t.Errorf("ten years on: %+v", c)
	}
	now = epoch.Add(time.Hour)
	order = append(order, verify()...)
	if c := cover(); c.Covered != 4 || c.Future != 2 {
		t.Errorf("back again: %+v", c)
	}
	now = time.Unix(0, 0) // a machine without a clock, before the time is set
	order = append(order, verify()...)
	if c := cover(); c.Covered != 2 || c.Future != 6 {
		t.Errorf("in 1970: %+v", c)
	}
	now = epoch.Add(2 * time.Hour)
	order = append(order, verify()...)
	if diff := cmp.Diff(items, order); diff != "" {
		t.Errorf("five runs with a fifth each: -want +got\n%s", diff)
	}
	// The next round makes good what the wrong clock did.
	for range 5 {
		now = now.Add(time.Hour)
		verify()
	}
	if c := cover(); c.Covered != len(items) || c.Future != 0 {
		t.Errorf("a round later: %+v", c)
	}
}

func TestPolicy(t *testing.T) {
	p := DefaultPolicy()
	if p.Every(Contents) != p.Contents || p.Every(Rebuild) != p.Rebuild || p.Contents == p.Rebuild || p.Contents <= 0 {
		t.Errorf("%+v", p)
	}
}

func TestCurrent(t *testing.T) {
	checked := func(age time.Duration, result Result) Record {
		check := Check{Run: 1, At: epoch.Add(-age), Result: result}
		return Record{Last: check, Settled: check}
	}
	failed := checked(day, Verified)
	failed.Last = Check{Run: 2, At: epoch}
	for _, test := range []struct {
		name string
		r    Record
		want bool
	}{
		{"never looked at", Record{}, false},
		{"in time", checked(7*day, Verified), true},
		{"too old", checked(7*day+1, Verified), false},
		{"drifted", checked(day, Drifted), false},
		{"not checked", checked(day, Inconclusive), false},
		{"an attempt since then came to nothing", failed, false},
		{"a clock set back by a little", checked(-Skew, Verified), true},
		{"from the future", checked(-Skew-1, Verified), false},
	} {
		if got := test.r.Current(7*day, epoch); got != test.want {
			t.Errorf("%s: got %t", test.name, got)
		}
	}
}

func TestFromDisk(t *testing.T) {
	items := numbered(5, 10)
	disk, cache := Check{Run: 1, Result: Verified, FromDisk: true}, Check{Run: 1, Result: Verified}
	drifted, failed := Check{Run: 1, Result: Drifted}, Check{Run: 2}
	got := Records{
		items[0].Key(): {Last: disk, Settled: disk},
		items[1].Key(): {Last: cache, Settled: cache},
		items[2].Key(): {Last: drifted, Settled: drifted},
		items[3].Key(): {Last: failed, Settled: cache},
		items[4].Key(): {Last: failed, Settled: disk},
	}.FromDisk()
	want := Records{
		items[0].Key(): {Last: disk, Settled: disk},
		items[2].Key(): {Last: drifted, Settled: drifted},
		items[3].Key(): {Last: failed},
		items[4].Key(): {Last: failed, Settled: disk},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
