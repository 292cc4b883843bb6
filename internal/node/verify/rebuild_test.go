package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// builder is a rebuild.Rebuilder that only pretends to build one derivation in each run.
type builder struct {
	steps   []rebuild.Step
	policy  rebuild.Policy
	differs map[closure.StorePath]bool
	built   []string // by name, over all runs

	unmatched []rebuild.Pattern
	spent     bool
	err       error
}

// newBuilder returns one of n derivations, which make no paths of the manifest.
func newBuilder(n int, choice rebuild.Choice) *builder {
	b := &builder{policy: rebuild.Policy{Choice: choice, Share: n}, differs: make(map[closure.StorePath]bool)}
	for i := range n {
		letter := string(rune('0' + i))
		b.steps = append(b.steps, rebuild.Step{Candidate: rebuild.Candidate{
			Derivation: object(letter, "part-"+letter+".drv"),
			Outputs:    map[string]rebuild.Wanted{"out": {Path: object(letter, "part-"+letter), Hash: nar.Hash{byte(i + 1)}}},
		}})
	}
	return b
}

func (b *builder) Rebuild(ctx context.Context, req rebuild.Request, _ *rebuild.Progress) (*rebuild.Summary, error) {
	if b.err != nil {
		return nil, b.err
	}
	var last map[closure.StorePath]rebuild.Last
	if req.Memory != nil {
		last = req.Memory.LastRebuilt(ctx, b.steps)
	}
	steps := b.policy.Plan(b.steps, last, 0)
	s := &rebuild.Summary{Candidates: len(b.steps), Planned: len(steps), Sampled: b.policy.Choice == rebuild.Sample, Unmatched: b.unmatched, BudgetSpent: b.spent}
	begun := 0
	for _, step := range steps {
		result := rebuild.Result{Step: step, Status: rebuild.NotReached}
		if step.Last.Drifted || begun == 0 {
			if !step.Last.Drifted {
				begun++
			}
			b.built = append(b.built, strings.TrimSuffix(step.Derivation.Name(), ".drv"))
			out := step.Outputs["out"]
			o := rebuild.Output{Name: "out", Path: out.Path, Want: out.Hash, Got: out.Hash}
			if result.Status = rebuild.Reproduced; b.differs[step.Derivation] {
				result.Status, o.Got = rebuild.Differs, nar.Hash{255}
			}
			result.Outputs = []rebuild.Output{o}
			if req.Memory != nil {
				req.Memory.RecordRebuild(&result)
			}
		}
		s.Results = append(s.Results, result)
	}
	return s, nil
}

// rebuilding returns m's verifier with b and a ledger by a clock of the test's.
func (m *machine) rebuilding(b *builder, now *time.Time) *Verifier {
	m.t.Helper()
	l, err := ledger.Open(m.t.Context(), m.t.TempDir(), ledger.Options{Now: func() time.Time { return *now }})
	m.must(err)
	m.t.Cleanup(func() { l.Close() })
	v := m.verifier()
	v.Ledger, v.Rebuilder, v.Policy = &testLedger{Ledger: l}, b, ledger.DefaultPolicy()
	return v
}

// A run that did not come to everything is verified where those before it did,
// in time, and says so.
func TestRebuiltByAndBy(t *testing.T) {
	m, b, now := newMachine(t), newBuilder(4, rebuild.All), time.Now()
	v := m.rebuilding(b, &now)
	for n := 1; n <= 9; n++ {
		r := v.Verify(t.Context(), nil)
		if n < 4 {
			expect(t, r, report.Unsettled, "budget-spent")
			if d := r.Findings[0].Detail; d != fmt.Sprintf("%d of 4 derivations were not reached, nor rebuilt within 90 days by earlier runs%s", 4-n, moreRuns(4-n, 1)) {
				t.Errorf("run %d: %s", n, d)
			}
			continue
		}
		expect(t, r, report.Verified)
		if h := r.Headline(); !strings.Contains(h, "rebuild (1 of 4 derivations, 3 more by earlier runs within 90 days)") {
			t.Errorf("the headline says more than was checked: %s", h)
		}
	}
	want := []string{"part-0", "part-1", "part-2", "part-3", "part-0", "part-1", "part-2", "part-3", "part-0"}
	if !slices.Equal(b.built, want) {
		t.Errorf("built in turn: %q", b.built)
	}
	now = now.Add(-91 * 24 * time.Hour)
	for range 4 {
		v.Verify(t.Context(), nil)
	}
	expect(t, v.Verify(t.Context(), nil), report.Unsettled, "budget-spent")
	v.Ledger = nil
	expect(t, v.Verify(t.Context(), nil), report.Unsettled, "budget-spent")
}

// What came out otherwise once is not passed over, not even by a sample.
func TestRebuildForgetsNoDrift(t *testing.T) {
	for _, choice := range []rebuild.Choice{rebuild.All, rebuild.Sample} {
		m, b, now := newMachine(t), newBuilder(4, choice), time.Now()
		v := m.rebuilding(b, &now)
		b.differs[b.steps[2].Derivation] = true
		for range 3 {
			v.Verify(t.Context(), nil)
		}
		for range 5 {
			r := v.Verify(t.Context(), nil)
			if got := summary(r); r.Verdict() != report.Drifted || !slices.Contains(got, "unreproducible part-2") {
				t.Errorf("%s: %s, findings %q", choice, r.Verdict(), got)
			}
		}
		for _, s := range b.steps {
			if name := strings.TrimSuffix(s.Derivation.Name(), ".drv"); !slices.Contains(b.built, name) {
				t.Errorf("%s: %s had no turn", choice, name)
			}
		}
		delete(b.differs, b.steps[2].Derivation)
		if got := v.Verify(t.Context(), nil).Verdict(); got != report.Verified {
			t.Errorf("%s: when it was mended: %s", choice, got)
		}
	}
}

// A sample that the budget cuts short says so.
func TestSampleCutShort(t *testing.T) {
	m, b, now := newMachine(t), newBuilder(8, rebuild.Sample), time.Now()
	b.policy.Share = 2
	b.spent = true
	r := m.rebuilding(b, &now).Verify(t.Context(), nil)
	expect(t, r, report.Verified)
	if h := r.Headline(); !strings.Contains(h, "rebuild (1 of 8 derivations, a sample of 4 of which 3 had no turn when the time was up)") {
		t.Errorf("the headline says more than was checked: %s", h)
	}
}

// Patterns that match nothing are named.
func TestUnmatchedPatterns(t *testing.T) {
	m, b, now := newMachine(t), newBuilder(2, rebuild.FirstParty), time.Now()
	b.unmatched = []rebuild.Pattern{"every-chanel-*", "src=*\x1b"}
	r := m.rebuilding(b, &now).Verify(t.Context(), nil)
	expect(t, r, report.Unsettled, "budget-spent", "pattern-unmatched")
	if d := r.Findings[1].Detail; d != `"every-chanel-*", "src=*\x1b", of 2 derivations` {
		t.Errorf("the detail is %s", d)
	}
	b.steps = nil
	r = m.rebuilding(b, &now).Verify(t.Context(), nil)
	expect(t, r, report.Unsettled, "rebuild-chose-nothing")
	if d := r.Findings[0].Detail; !strings.HasPrefix(d, `rebuild.firstParty: "every-chanel-*", "src=*\x1b": none of the 0 derivations`) {
		t.Errorf("the detail is %s", d)
	}
	b.unmatched = nil
	r = m.rebuilding(b, &now).Verify(t.Context(), nil)
	expect(t, r, report.Unsettled, "rebuild-chose-nothing")
}

// A rebuild that fails for its own reason is no consequence of a drift.
func TestUnavailableFollowsFromNothing(t *testing.T) {
	m, now := newMachine(t), time.Now()
	m.write(string(data)+"/a/file", "Data")
	b := newBuilder(1, rebuild.All)
	b.err = &rebuild.Error{Status: rebuild.Unavailable, Err: errors.New("mkdir /var/lib/ec-verify/rebuild: permission denied")}
	for _, f := range m.rebuilding(b, &now).Verify(t.Context(), nil).Findings {
		if f.Cause == report.RebuildUnavailable {
			if f.ConsequenceOf != "" {
				t.Errorf("it follows from %s", f.ConsequenceOf)
			}
			return
		}
	}
	t.Error("there is no finding about it")
}

func TestMoreRuns(t *testing.T) {
	for _, tc := range []struct {
		rest, reached int
		want          string
	}{{38, 3, "; with this budget, about 13 more runs to go"}, {1, 3, "; with this budget, about 1 more run to go"}, {4, 0, ""}} {
		if got := moreRuns(tc.rest, tc.reached); got != tc.want {
			t.Errorf("%d after %d: %q, want %q", tc.rest, tc.reached, got, tc.want)
		}
	}
}
