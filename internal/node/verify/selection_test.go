package verify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// budgeted is a machine that is verified with next to no time for hashing, by a
// clock that the test turns.
type budgeted struct {
	*machine
	v   *Verifier
	l   *testLedger
	now time.Time
}

func newBudgeted(t *testing.T) *budgeted {
	t.Helper()
	b := &budgeted{machine: newMachine(t), now: time.Now()}
	l, err := ledger.Open(t.Context(), t.TempDir(), ledger.Options{Now: func() time.Time { return b.now }})
	b.must(err)
	t.Cleanup(func() { l.Close() })
	b.l = &testLedger{Ledger: l}
	b.v = b.verifier()
	b.v.Ledger, b.v.Tool, b.v.ContentsBudget, b.v.Policy = b.l, "v1.2.3", 1, ledger.DefaultPolicy()
	return b
}

// run verifies once and holds the report to a verdict, to how many paths were
// hashed, and to its findings.
func (b *budgeted) run(verdict report.Verdict, hashed int, findings ...string) *report.Report {
	b.t.Helper()
	r := b.v.Verify(b.t.Context(), nil)
	expect(b.t, r, verdict, findings...)
	c := r.Coverage
	states := make(map[report.PathState]int)
	for _, p := range r.Closure {
		states[p.State]++
		if known := p.State == report.Hashed || p.State == report.Remembered; known && p.Checked.IsZero() {
			b.t.Errorf("%s is %s, and nobody knows when", p.Path, p.State)
		}
	}
	if states[report.Hashed] != c.Hashed || states[report.Remembered] != c.Remembered || states[report.Overdue] != c.Overdue || len(r.Closure) != c.Paths {
		b.t.Errorf("the closure is %v, the coverage %+v", states, c)
	}
	if c.Hashed != hashed || c.Hashed+c.Remembered+c.Overdue > c.Paths {
		b.t.Errorf("coverage: %+v, want %d hashed", c, hashed)
	}
	return r
}

// pass is a complete one, a path at a time.
func (b *budgeted) pass() {
	b.t.Helper()
	for range b.manifest.Paths {
		b.v.Verify(b.t.Context(), nil)
	}
	for p, was := range remembered(b.t, b.l) {
		if was != "verified " {
			b.t.Fatalf("after a pass %s is remembered as %s", p, was)
		}
	}
}

// lastHashed returns the name of the path that the last run looked at.
func (b *budgeted) lastHashed() string {
	b.t.Helper()
	states, err := b.l.States(b.t.Context())
	state := states[ledger.Contents]
	b.must(err)
	last, name := int64(0), ""
	for _, item := range state.Inventory.Items {
		if run := state.Records[item.Key()].Last.Run; run > last {
			last, name = run, item.Path.Name()
		}
	}
	return name
}

// A run with a budget is verified as soon as, together with those before it,
// everything was hashed in time, and says so.
func TestBudgetCoversByAndBy(t *testing.T) {
	b := newBudgeted(t)
	var first string
	for n := 1; n <= 3; n++ {
		r := b.run(report.Unsettled, 1, "coverage-overdue "+short(string(overdueFirst(b))))
		if r.Coverage.Remembered != n-1 || r.Coverage.Overdue != 4-n {
			t.Errorf("run %d: %+v", n, r.Coverage)
		}
		if n == 1 {
			first = b.lastHashed()
		}
	}
	for range 6 {
		r := b.run(report.Verified, 1)
		if r.Coverage.Remembered != 3 || r.Coverage.Overdue != 0 {
			t.Errorf("%+v", r.Coverage)
		}
		if h := r.Headline(); !strings.Contains(h, "contents (1 of 4 paths hashed now, the others by earlier runs within 7 days)") {
			t.Errorf("the headline says more than was checked: %s", h)
		}
	}
	// The ninth run begins the third pass.
	if got := b.lastHashed(); got != first {
		t.Errorf("the pass begins with %s, want %s as the first one", got, first)
	}
}

// overdueFirst returns the first path that the next run will leave overdue.
func overdueFirst(b *budgeted) closure.StorePath {
	b.t.Helper()
	known := remembered(b.t, b.l)
	next := true
	for _, p := range b.manifest.Closure().Paths() {
		if known[short(string(p))] != "verified " {
			if !next {
				return p
			}
			next = false
		}
	}
	return ""
}

func TestBudgetAndAge(t *testing.T) {
	b := newBudgeted(t)
	b.now = time.Now().Add(-7*24*time.Hour + time.Hour)
	b.pass()
	b.run(report.Verified, 1)
	b.now = time.Now().Add(-7*24*time.Hour - time.Hour)
	b.pass()
	r := b.run(report.Unsettled, 1, "coverage-overdue data") // lib's turn was now
	if r.Coverage.Overdue != 3 || r.Coverage.Remembered != 0 {
		t.Errorf("%+v", r.Coverage)
	}
	b.now = time.Now().Add(time.Hour) // its clock was wrong
	b.pass()
	if got := b.v.Verify(t.Context(), nil).Verdict(); got != report.Unsettled {
		t.Errorf("checks from the future stand: %s", got)
	}
	b.v.Policy = ledger.Policy{}
	b.now = time.Now()
	b.pass()
	if got := b.v.Verify(t.Context(), nil).Verdict(); got != report.Unsettled {
		t.Errorf("without a policy, what is remembered stands: %s", got)
	}
}

// Whatever was found once, or can be seen without hashing, no run passes over.
func TestBudgetPassesOverNothing(t *testing.T) {
	for _, test := range []struct {
		name     string
		damage   func(b *budgeted)
		verdict  report.Verdict
		findings []string
		hashed   int // with the one whose turn it is
	}{
		{"the database", func(b *budgeted) {
			b.sql("update ValidPaths set hash = '" + otherHash("x") + "' where path = '" + string(top) + "'")
		}, report.Drifted, []string{"database-altered nixos-system narHash"}, 2},
		{"a reference", func(b *budgeted) {
			b.sql("delete from Refs where referrer = 4 and reference = 3")
		}, report.Drifted, []string{"database-altered nixos-system references"}, 2},
		{"a path gone", func(b *budgeted) { b.remove(string(top)) }, report.Drifted, []string{"missing nixos-system"}, 1},
		{"bytes, once they were seen", func(b *budgeted) {
			b.write(string(top)+"/init", "#!/bin/bad")
			b.pass2()
		}, report.Drifted, []string{"disk-altered nixos-system init:content"}, 2},
		{"permissions, once they were seen", func(b *budgeted) {
			b.chmod(string(top)+"/init", 0o777)
			b.pass2()
		}, report.Drifted, []string{"permissions-altered nixos-system/init"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBudgeted(t)
			b.pass()
			test.damage(b)
			for range 6 {
				b.run(test.verdict, test.hashed, test.findings...)
			}
		})
	}
	t.Run("mended", func(t *testing.T) {
		b := newBudgeted(t)
		b.pass()
		b.write(string(top)+"/init", "#!/bin/bad")
		b.pass2()
		b.write(string(top)+"/init", "#!/bin/sh")
		b.run(report.Verified, 2)
		b.run(report.Verified, 1)
	})
}

// pass2 is a pass in which something may be found.
func (b *budgeted) pass2() {
	for range b.manifest.Paths {
		b.v.Verify(b.t.Context(), nil)
	}
}

func TestBudgetNeedsALedger(t *testing.T) {
	b := newBudgeted(t)
	b.v.Ledger = nil
	b.run(report.Verified, 4)
	b = newBudgeted(t)
	b.l.begin = errors.New("the disk is full")
	b.run(report.Verified, 4, "not-remembered")
	b = newBudgeted(t)
	b.l.records = errors.New("the disk fails")
	b.run(report.Verified, 4, "not-remembered")
	b = newBudgeted(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := b.v.Verify(ctx, nil); r.Verdict() == report.Verified || r.Coverage.Remembered > 0 {
		t.Errorf("interrupted: %+v", r)
	}
}

// A check through the page cache says nothing about the disk.
func TestBudgetOfTheDisk(t *testing.T) {
	b := newBudgeted(t)
	b.pass()
	b.v.Read = nar.ReadDisk
	r := b.v.Verify(t.Context(), nil)
	if r.Verdict() == report.Verified || r.Coverage.Remembered != 0 {
		t.Errorf("verified by what the cache held: %+v", r.Coverage)
	}
	if r.Coverage.FromCache > 0 {
		t.Skip("no file of this disk can be read past the page cache")
	}
	for range 2 {
		b.v.Verify(t.Context(), nil)
	}
	b.run(report.Verified, 1)
}

// What only the cache gave, where the disk was asked for, was not checked.
func TestRememberFromDisk(t *testing.T) {
	for _, test := range []struct {
		name string
		mode nar.ReadMode
		o    observation
		want string
	}{
		{"through the cache", nar.ReadCached, observation{}, "verified "},
		{"from the disk", nar.ReadDisk, observation{fromDisk: true}, "verified "},
		{"not all from the disk", nar.ReadDisk, observation{}, "inconclusive read-from-cache"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			v, l := m.remembering(t.TempDir())
			v.Read = test.mode
			r := v.begin(nil)
			r.beginRemembering(t.Context())
			r.tier(t.Context(), tiers()[0])
			c := r.newContentsCheck()
			c.expectContents(t.Context())
			want := r.manifest.Paths[slices.IndexFunc(r.manifest.Paths, func(info closure.PathInfo) bool { return info.Path == lib })]
			test.o.sum.Hash = want.NarHash
			c.rememberHashed(want, &test.o)
			m.must(r.recorder.(testRecorder).Close())
			if got := remembered(t, l)["lib"]; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			records, err := l.Records(t.Context(), ledger.Contents)
			m.must(err)
			for _, rec := range records {
				if rec.Last.FromDisk != (test.want == "verified " && test.mode == nar.ReadDisk) {
					t.Errorf("%+v", rec)
				}
			}
		})
	}
}
