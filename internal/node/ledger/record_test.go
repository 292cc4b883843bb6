package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	now := epoch
	l := openAt(t, dir, func() time.Time { return now })
	items := numbered(4, 10)
	r := begin(t, l)
	expectItems(t, r, items)
	if got := records(t, l); len(got) != 0 {
		t.Errorf("something is remembered before anything was checked: %v", got)
	}
	r.Record(Contents, items[0], Outcome{Result: Verified, Took: 1500*time.Millisecond + 999, FromDisk: true})
	r.Record(Contents, items[1], Outcome{Result: Drifted, Cause: closure.DiskAltered})
	r.Record(Contents, items[2], Outcome{Cause: "unreadable"})
	r.Record(Contents, makeItem(99), Outcome{Result: Verified}) // of no inventory
	r.Record(Rebuild, items[0], Outcome{Result: Verified})      // of a tier that expects nothing
	end(t, r)

	first := Check{Run: 1, At: epoch, Result: Verified, Took: 1500 * time.Millisecond, FromDisk: true, Manifest: release1, Tool: tool}
	second := Check{Run: 1, At: epoch, Result: Drifted, Cause: closure.DiskAltered, Manifest: release1, Tool: tool}
	third := Check{Run: 1, At: epoch, Cause: "unreadable", Manifest: release1, Tool: tool}
	want := Records{
		items[0].Key(): {Last: first, Settled: first},
		items[1].Key(): {Last: second, Settled: second},
		items[2].Key(): {Last: third},
	}
	if diff := cmp.Diff(want, records(t, l)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	// A second run, of another program against another release, in a process
	// that opens what the first one left.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openAt(t, dir, func() time.Time { return now })
	now = now.Add(day)
	r, err := l.Begin(t.Context(), "v2")
	if err != nil {
		t.Fatal(err)
	}
	expectOf(t, r, release2, items)
	r.Record(Contents, items[0], Outcome{Cause: "unreadable"}) // does not undo what is known
	r.Record(Contents, items[1], Outcome{Result: Verified})
	r.Record(Contents, items[2], Outcome{Result: Verified})
	end(t, r)
	last := Check{Run: 2, At: now, Cause: "unreadable", Manifest: release2, Tool: "v2"}
	settled := Check{Run: 2, At: now, Result: Verified, Manifest: release2, Tool: "v2"}
	want = Records{
		items[0].Key(): {Last: last, Settled: first},
		items[1].Key(): {Last: settled, Settled: settled},
		items[2].Key(): {Last: settled, Settled: settled},
	}
	if diff := cmp.Diff(want, records(t, l)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// What came to nothing is forgotten once the item is settled.
	r = begin(t, l)
	expectItems(t, r, items)
	r.Record(Contents, items[0], Outcome{Result: Verified})
	end(t, r)
	if got := records(t, l)[items[0].Key()]; got.Last != got.Settled || got.Last.Run != 3 {
		t.Errorf("got %+v", got)
	}
}

// TestTiers: the two tiers know nothing of each other.
func TestTiers(t *testing.T) {
	l := open(t, t.TempDir())
	r := begin(t, l)
	items := numbered(2, 10)
	expectItems(t, r, items)
	if err := r.Expect(t.Context(), Inventory{Tier: Rebuild, Manifest: release1, Items: items[:1]}); err != nil {
		t.Fatal(err)
	}
	r.Record(Rebuild, items[0], Outcome{Result: Verified})
	flush(t, r)
	if got := records(t, l); len(got) != 0 {
		t.Errorf("contents: %v", got)
	}
	states, err := l.States(t.Context())
	state := states[Rebuild]
	if err != nil {
		t.Fatal(err)
	}
	if state.Records[items[0].Key()].Last.Result != Verified {
		t.Errorf("rebuild: %v", state.Records)
	}
	if diff := cmp.Diff(Inventory{Tier: Rebuild, Manifest: release1, Items: items[:1]}, state.Inventory); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestRegularFlush: a result is on the disk after a moment without anyone
// asking for it.
func TestRegularFlush(t *testing.T) {
	l := open(t, t.TempDir())
	r := begin(t, l)
	items := makeItems(1)
	expectItems(t, r, items)
	r.Record(Contents, items[0], Outcome{Result: Verified})
	for deadline := time.Now().Add(time.Minute); len(records(t, l)) == 0; time.Sleep(flushEvery / 10) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
	}
}

func TestConcurrentRecord(t *testing.T) {
	l := open(t, t.TempDir())
	r := begin(t, l)
	items := makeItems(1000)
	expectItems(t, r, items)
	var wg sync.WaitGroup
	for part := range slices.Chunk(items, 100) {
		wg.Go(func() {
			for i, item := range part {
				r.Record(Contents, item, Outcome{Result: Verified})
				if i == len(part)/2 {
					if err := r.Flush(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	end(t, r)
	if got := len(records(t, l)); got != len(items) {
		t.Errorf("%d of %d results are remembered", got, len(items))
	}
}

func TestRuns(t *testing.T) {
	now := epoch
	l := openAt(t, t.TempDir(), func() time.Time { return now })
	if runs, err := l.Runs(t.Context(), 10); err != nil || len(runs) != 0 {
		t.Errorf("got %v, %v", runs, err)
	}
	r := begin(t, l)
	now = now.Add(time.Minute)
	ended := End{
		Verdict: "drifted", Manifest: release1, Configuration: "ec-runner-x86_64",
		Findings: Findings{Untrusted: 1, Drift: 2, Inconclusive: 3, Notice: 4}, Unsafe: "unsafe-skip eval",
	}
	if err := r.End(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close after End: %v", err)
	}
	now = now.Add(time.Minute)
	killed := begin(t, l)
	ended.At = epoch.Add(time.Minute)
	want := []Run{
		{ID: 2, Started: epoch.Add(2 * time.Minute), Tool: tool},
		{ID: 1, Started: epoch, Tool: tool, End: &ended},
	}
	got, err := l.Runs(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if killed.Run() != 2 {
		t.Errorf("the second run has number %d", killed.Run())
	}
	if got, err := l.Runs(t.Context(), 1); err != nil || len(got) != 1 || got[0].ID != 2 {
		t.Errorf("the last run: %v, %v", got, err)
	}
	if got, err := l.Runs(t.Context(), -1); err != nil || len(got) != 0 {
		t.Errorf("less than none: %v, %v", got, err)
	}
}

// TestBounded: what is kept does not grow with the number of runs, manifests
// and long words.
func TestBounded(t *testing.T) {
	l := open(t, t.TempDir())
	t.Run("inventories", func(t *testing.T) {
		items := numbered(keptInventories+3, 10)
		for i := range items {
			// Each release has one path of its own and one that all have.
			r := begin(t, l)
			own := []Item{makeItem(1000), items[i]}
			expectOf(t, r, Manifest{Tag: fmt.Sprint("boot-", i)}, own)
			r.Record(Contents, own[0], Outcome{Result: Verified})
			r.Record(Contents, own[1], Outcome{Result: Verified})
			end(t, r)
		}
		got := records(t, l)
		for i, item := range items {
			if _, ok := got[item.Key()]; ok != (i >= 3) {
				t.Errorf("item of manifest %d of %d: remembered: %v", i+1, len(items), ok)
			}
		}
		if got[makeItem(1000).Key()].Last.Run != int64(len(items)) {
			t.Errorf("what all releases have: %+v", got[makeItem(1000).Key()])
		}
		var rows int
		if err := l.db.QueryRow("select (select count(*) from items) + (select count(*) from checks)").Scan(&rows); err != nil || rows != 2*(keptInventories+1) {
			t.Errorf("%d rows are left, %v", rows, err)
		}
	})
	t.Run("an inventory that was used is kept", func(t *testing.T) {
		l := open(t, t.TempDir())
		kept := makeItem(0)
		for i := range keptInventories * 3 {
			r := begin(t, l)
			expectOf(t, r, release1, []Item{kept})
			if i == 0 {
				r.Record(Contents, kept, Outcome{Result: Verified})
			}
			expectOf(t, r, Manifest{Tag: fmt.Sprint("boot-", i)}, []Item{makeItem(i + 1)})
			end(t, r)
		}
		if _, ok := records(t, l)[kept.Key()]; !ok {
			t.Error("what every run verifies was forgotten")
		}
	})
	t.Run("runs", func(t *testing.T) {
		if err := l.write(t.Context(), func(tx *sql.Tx) error {
			for id := int64(KeptRuns); id < 2*KeptRuns; id++ {
				if err := putRun(t.Context(), tx, Run{ID: id, Started: epoch}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			end(t, begin(t, l))
		}
		got, err := l.Runs(t.Context(), 2*KeptRuns)
		if err != nil || len(got) != KeptRuns || got[0].ID != 2*KeptRuns+2 {
			t.Errorf("%d runs are remembered, the last is %+v; %v", len(got), got[0], err)
		}
	})
	t.Run("words", func(t *testing.T) {
		long := strings.Repeat("x", 10*maxText)
		r, err := l.Begin(t.Context(), long)
		if err != nil {
			t.Fatal(err)
		}
		item := makeItem(0)
		expectOf(t, r, Manifest{Tag: long}, []Item{item})
		r.Record(Contents, item, Outcome{Result: Drifted, Cause: closure.Cause(long)})
		if err := r.End(t.Context(), End{Verdict: long, Configuration: long, Unsafe: long, Manifest: Manifest{Tag: long}}); err != nil {
			t.Fatal(err)
		}
		c := records(t, l)[item.Key()].Last
		runs, err := l.Runs(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		e := runs[0].End
		for _, s := range []string{string(c.Cause), c.Tool, c.Manifest.Tag, runs[0].Tool, e.Verdict, e.Configuration, e.Unsafe, e.Manifest.Tag} {
			if len(s) != maxText {
				t.Errorf("a text of %d bytes is stored", len(s))
			}
		}
	})
}

// TestLargestFile: a ledger that would grow too large says so and stays whole.
func TestLargestFile(t *testing.T) {
	dir := t.TempDir()
	items := fill(t, dir, 10)
	l := open(t, dir)
	var size, pages int64
	if err := l.db.QueryRow("select * from pragma_page_size, pragma_max_page_count").Scan(&size, &pages); err != nil || size*pages != maxFileSize {
		t.Errorf("it may have %d pages of %d bytes, %v", pages, size, err)
	}
	if _, err := l.db.Exec("pragma max_page_count = 30"); err != nil {
		t.Fatal(err)
	}
	r := begin(t, l)
	err := r.Expect(t.Context(), Inventory{Tier: Contents, Manifest: release2, Items: makeItems(5000)})
	if err == nil || !strings.Contains(err.Error(), "largest size") {
		t.Errorf("got %v", err)
	}
	if got := len(records(t, l)); got != len(items) {
		t.Errorf("%d records are left of %d", got, len(items))
	}
}

func TestExpectRefuses(t *testing.T) {
	r := begin(t, open(t, t.TempDir()))
	item := makeItem(1)
	other := item
	other.Want = hashOf("other")
	long := item
	long.Path += closure.StorePath(strings.Repeat("x", maxText))
	for _, test := range []struct {
		name string
		inv  Inventory
		want string
	}{
		{"no tier", Inventory{Items: []Item{item}}, "no tier"},
		{"a tier without items", Inventory{Tier: "eval"}, "no tier"},
		{"an item twice", Inventory{Tier: Contents, Items: []Item{item, makeItem(2), item}}, "twice"},
		{"an item twice, between another of its path", Inventory{Tier: Contents, Items: []Item{item, other, item}}, "twice"},
		{"a path too long", Inventory{Tier: Contents, Items: []Item{long}}, "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := r.Expect(t.Context(), test.inv); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestExpectChanges: the same manifest may give a tier other items, after a change of the
// configured rebuilds, and other costs.
func TestExpectChanges(t *testing.T) {
	l := open(t, t.TempDir())
	r := begin(t, l)
	items := numbered(3, 10)
	expectItems(t, r, items)
	for _, item := range items {
		r.Record(Contents, item, Outcome{Result: Verified})
	}
	flush(t, r)
	dearer := slices.Clone(items[:2])
	dearer[0].Cost = 77
	expectItems(t, r, dearer)
	states, err := l.States(t.Context())
	state := states[Contents]
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dearer, state.Inventory.Items); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(state.Records) != 2 {
		t.Errorf("records of what is gone: %v", state.Records)
	}
}

// TestStateIsOfLastUsed: the state of a machine that goes back to an earlier release is
// about that release.
func TestStateIsOfLastUsed(t *testing.T) {
	l := open(t, t.TempDir())
	items := numbered(3, 10)
	for _, use := range []struct {
		manifest Manifest
		items    []Item
	}{{release1, items[:1]}, {release2, items}, {release1, items[:1]}} {
		r := begin(t, l)
		expectOf(t, r, use.manifest, use.items)
		end(t, r)
		states, err := l.States(t.Context())
		state := states[Contents]
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Inventory{Tier: Contents, Manifest: use.manifest, Items: use.items}, state.Inventory); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

// TestExpectKnown: that a known inventory is used again waits for the first results,
// and is written with them, or with the end of a run that has none.
func TestExpectKnown(t *testing.T) {
	for name, finish := range map[string]func(*testing.T, *Recorder, Item){
		"result": func(t *testing.T, r *Recorder, item Item) {
			r.Record(Contents, item, Outcome{Result: Verified})
			flush(t, r)
		},
		"end": func(t *testing.T, r *Recorder, _ Item) { end(t, r) },
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, t.TempDir())
			items := makeItems(3)
			for _, m := range []Manifest{release1, release2} {
				r := begin(t, l)
				expectOf(t, r, m, items)
				end(t, r)
			}
			used := func() Manifest {
				states, err := l.States(t.Context())
				s := states[Contents]
				if err != nil {
					t.Fatal(err)
				}
				return s.Inventory.Manifest
			}
			r := begin(t, l)
			r.halt() // what it writes by itself
			expectOf(t, r, release1, items)
			if got := used(); got != release2 {
				t.Errorf("%v was written at once", got)
			}
			finish(t, r, items[0])
			if got := used(); got != release1 {
				t.Errorf("the inventory used last is %v", got)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStateOfNothing(t *testing.T) {
	states, err := open(t, t.TempDir()).States(t.Context())
	state := states[Rebuild]
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(State{Inventory: Inventory{Tier: Rebuild}, Records: Records{}}, state); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWantOutputs(t *testing.T) {
	a, b := hashOf("a"), hashOf("b")
	all := []nar.Hash{
		WantOutputs(nil),
		WantOutputs(map[string]nar.Hash{"out": a}),
		WantOutputs(map[string]nar.Hash{"out": b}),
		WantOutputs(map[string]nar.Hash{"dev": a}),
		WantOutputs(map[string]nar.Hash{"out": a, "dev": b}),
		WantOutputs(map[string]nar.Hash{"out": b, "dev": a}),
	}
	if !all[0].IsZero() || WantOutputs(map[string]nar.Hash{"dev": b, "out": a}) != all[4] {
		t.Error("no outputs, or the same ones")
	}
	slices.SortFunc(all, nar.Hash.Compare)
	if len(slices.Compact(all)) != 6 {
		t.Error("different outputs have the same hash")
	}
}

func TestResult(t *testing.T) {
	for _, r := range []Result{Inconclusive, Verified, Drifted} {
		if got, err := parseResult(r.String()); err != nil || got != r {
			t.Errorf("%v: %v, %v", r, got, err)
		}
	}
	if _, err := parseResult("Result(9)"); err == nil || Result(9).String() != "Result(9)" {
		t.Error("9 is a result")
	}
	if Result(0) != Inconclusive || (Check{}).Done() {
		t.Error("something is verified by default")
	}
}

func TestOpenReadOnly(t *testing.T) {
	dir := t.TempDir()
	for _, missing := range []string{dir, filepath.Join(dir, "missing")} {
		if _, err := OpenReadOnly(t.Context(), missing, Options{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", missing, err)
		}
	}
	items := fill(t, dir, 3)
	l, err := OpenReadOnly(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := len(records(t, l)); got != len(items) {
		t.Errorf("%d records", got)
	}
	if _, err := l.Begin(t.Context(), tool); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Begin: %v", err)
	}
}

// TestKeep: what was read when the ledger was opened is handed on, until it or another
// process writes.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	items := fill(t, dir, 3)
	l, err := Open(t.Context(), dir, Options{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	check := func(l *Ledger, result Result) {
		t.Helper()
		r := begin(t, l)
		expectItems(t, r, items)
		r.Record(Contents, items[0], Outcome{Result: result})
		end(t, r)
	}
	first := records(t, l)
	r := begin(t, l)
	expectItems(t, r, items)
	if again := records(t, l); len(again) != len(items) || reflect.ValueOf(again).Pointer() != reflect.ValueOf(first).Pointer() {
		t.Error("the ledger was read again")
	}
	check(open(t, dir), Drifted)
	if !records(t, l)[items[0].Key()].Drifted() {
		t.Error("what another process wrote is not seen")
	}
	check(l, Verified)
	if records(t, l)[items[0].Key()].Drifted() {
		t.Error("what this one wrote is not seen")
	}
	expectItems(t, r, items[:1])
	if got := len(records(t, l)); got != 1 {
		t.Errorf("%d records of one item", got)
	}
}

func TestEndedContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, dir, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
	l := open(t, dir)
	if _, err := l.Begin(ctx, tool); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin: %v", err)
	}
	r := begin(t, l)
	items := makeItems(1)
	expectItems(t, r, items)
	r.Record(Contents, items[0], Outcome{Result: Verified})
	if err := r.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush: %v", err)
	}
	// What could not be written then is written later.
	end(t, r)
	if len(records(t, l)) != 1 {
		t.Error("the result is lost")
	}
}

// TestLastCheckCounts records random results, some of them in the same millisecond, and
// writes them at random times: the last check of each item counts, and its last conclusive
// one.
func TestLastCheckCounts(t *testing.T) {
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 9))
		l := open(t, t.TempDir())
		items := makeItems(2*batchSize + 3)
		want := make(Records)
		for range 3 {
			r := begin(t, l)
			expectItems(t, r, items)
			for range 4 * len(items) {
				item := items[random.IntN(len(items))]
				o := Outcome{Result: Result(random.IntN(3)), Cause: closure.Cause(fmt.Sprint(random.IntN(1000)))}
				r.Record(Contents, item, o)
				record := want[item.Key()]
				record.Last = Check{Run: r.Run(), Result: o.Result, Cause: o.Cause}
				if o.Result != Inconclusive {
					record.Settled = record.Last
				}
				want[item.Key()] = record
				if random.IntN(50) == 0 {
					flush(t, r)
				}
			}
			end(t, r)
		}
		got := records(t, l)
		for key, r := range got {
			for _, c := range []*Check{&r.Last, &r.Settled} {
				*c = Check{Run: c.Run, Result: c.Result, Cause: c.Cause}
			}
			got[key] = r
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	}
}
