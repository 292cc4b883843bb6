package ledger

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestStanding: what a run leaves of the machine's standing is there until another
// run leaves one.
func TestStanding(t *testing.T) {
	l := open(t, t.TempDir())
	encoded := func() string {
		t.Helper()
		text, err := l.Standing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := encoded(); got != "" {
		t.Errorf("of an empty ledger: %q", got)
	}
	for _, run := range []struct{ leaves, want string }{{"one", "one"}, {"", "one"}, {"two", "two"}} {
		r, err := l.Begin(t.Context(), tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.End(t.Context(), End{Verdict: "verified", Standing: run.leaves}); err != nil {
			t.Fatal(err)
		}
		if got := encoded(); got != run.want {
			t.Errorf("after a run that leaves %q: %q", run.leaves, got)
		}
	}
	r, err := l.Begin(t.Context(), tool)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.End(t.Context(), End{Standing: strings.Repeat("x", MaxStanding+1)}); err == nil {
		t.Error("a standing without a bound is taken")
	}
}

// TestLookKeepsInventories: the inventory of a look is not to be verified and replaces no
// other inventory, but its results count for all of them.
func TestLookKeepsInventories(t *testing.T) {
	l, items := open(t, t.TempDir()), makeItems(5)
	expect := func(r *Recorder, m Manifest, items []Item) {
		t.Helper()
		if err := r.Expect(t.Context(), Inventory{Tier: Rebuild, Manifest: m, Items: items}); err != nil {
			t.Fatal(err)
		}
	}
	look := func(m Manifest, items []Item) {
		t.Helper()
		r, err := l.BeginLook(t.Context(), tool)
		if err != nil {
			t.Fatal(err)
		}
		expect(r, m, items)
		r.Record(Rebuild, items[0], Outcome{Result: Verified})
		if err := r.End(t.Context(), End{}); err != nil {
			t.Fatal(err)
		}
	}
	look(release1, items)
	if s, err := l.States(t.Context()); err != nil || len(s[Rebuild].Inventory.Items) != 0 {
		t.Errorf("after a look alone: %+v, %v", s, err)
	}
	if records, err := l.Records(t.Context(), Rebuild); err != nil || !records[items[0].Key()].Last.Done() {
		t.Errorf("a look remembers nothing: %+v, %v", records, err)
	}
	r, err := l.Begin(t.Context(), tool)
	if err != nil {
		t.Fatal(err)
	}
	expect(r, release1, items[:2])
	if err := r.End(t.Context(), End{}); err != nil {
		t.Fatal(err)
	}
	for n := range 2 * keptInventories {
		look(Manifest{Tag: fmt.Sprint("other-", n), SHA256: release2.SHA256}, items[1:])
	}
	states, err := l.States(t.Context())
	s := states[Rebuild]
	if err != nil || s.Inventory.Manifest != release1 || len(s.Inventory.Items) != 2 {
		t.Errorf("after looks: %+v, %v", s.Inventory, err)
	}
	if c := s.Records[items[1].Key()].Last; c.Result != Verified || c.Manifest.SHA256 != release2.SHA256 {
		t.Errorf("what a look found: %+v", c)
	}
}

// TestUpgrade: a ledger of the version before goes on with all that it remembers.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	r, items := begin(t, l), makeItems(3)
	expectItems(t, r, items)
	for _, item := range items {
		r.Record(Contents, item, Outcome{Result: Verified})
	}
	end(t, r)
	for _, s := range []string{"drop table standing", "pragma user_version = 1"} {
		if _, err := l.db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if _, err := OpenReadOnly(t.Context(), dir, Options{}); !errors.Is(err, errOld) || !strings.Contains(err.Error(), "the next run, as root") {
		t.Errorf("to be read only: %v", err)
	}
	again := open(t, dir)
	defer again.Close()
	if s, err := again.States(t.Context()); err != nil || len(s[Contents].Records) != 3 || again.SetAside() != "" {
		t.Errorf("%+v, %v, set aside as %q", s, err, again.SetAside())
	}
	if kept, err := os.ReadDir(dir); err != nil || len(kept) > 3 {
		t.Errorf("%v, %v", kept, err)
	}
}
