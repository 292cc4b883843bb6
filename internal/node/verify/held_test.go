package verify

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/report"
)

// always is a machine on which others wait all the time.
func always() (neighbour.Stalls, error) {
	return neighbour.Stalls{CPU: time.Duration(time.Now().UnixNano())}, nil
}

func TestReportPauses(t *testing.T) {
	for name, tc := range map[string]struct {
		limits neighbour.Limits
		stalls func() (neighbour.Stalls, error)
		cause  report.Cause
		detail string
	}{
		"nothing asked for": {},
		"used up": {
			neighbour.Limits{MaxPressure: 10, MaxPause: 5 * time.Second}, always,
			report.PressureLasting, "after pauses of 5s (all that neighbour.maxPause allows; cpu 100 %, io 0 % at the last)",
		},
		"blind": {
			neighbour.Limits{MaxPressure: 10, MaxPause: time.Hour},
			func() (neighbour.Stalls, error) { return neighbour.Stalls{}, errors.New("no PSI here") },
			report.PressureUnknown, "no PSI here",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pacer := neighbour.New(tc.limits, tc.stalls)
				time.Sleep(time.Minute)
				if err := pacer.Rest(t.Context(), time.Time{}); err != nil {
					t.Fatal(err)
				}
				r := (&Verifier{Pacer: pacer}).begin(nil)
				r.reportPauses()
				found := r.report.Findings
				if tc.cause == "" {
					if len(found) > 0 {
						t.Errorf("findings %+v", found)
					}
					return
				}
				if len(found) != 1 || found[0].Cause != tc.cause || !strings.Contains(found[0].Detail, tc.detail) || found[0].Class() != report.Notice {
					t.Errorf("findings %+v", found)
				}
				if r.report.Coverage.Paused != pacer.Held().Paused || r.progress.Snapshot().Paused != pacer.Held().Paused {
					t.Errorf("paused %v in the report, %v in the progress, want %v", r.report.Coverage.Paused, r.progress.Snapshot().Paused, pacer.Held().Paused)
				}
			})
		})
	}
}

// A paced run finds what any other finds.
func TestPacedRun(t *testing.T) {
	m := newMachine(t)
	v := m.verifier()
	v.DropBehind = true
	v.Pacer = neighbour.New(neighbour.Limits{Rate: 64 << 20, MaxPressure: 100, MaxPause: time.Hour}, always)
	m.write(string(data)+"/a/file", "Data")
	got, want := v.Verify(t.Context(), nil), m.verifier().Verify(t.Context(), nil)
	if len(got.Findings) == 0 || len(got.Findings) != len(want.Findings) || got.Coverage.Bytes != want.Coverage.Bytes {
		t.Errorf("paced: %d findings, %d bytes; else %d findings, %d bytes", len(got.Findings), got.Coverage.Bytes, len(want.Findings), want.Coverage.Bytes)
	}
}

// A machine that is never quiet comes to a verdict when the budget is over, and
// says what was not checked in time.
func TestBudgetUnderPressure(t *testing.T) {
	b := newBudgeted(t)
	b.v.ContentsBudget = 10 * time.Minute
	for n := range 2 {
		synctest.Test(t, func(t *testing.T) {
			b.v.Pacer = neighbour.New(neighbour.Limits{MaxPressure: 10, MaxPause: 2 * time.Hour}, always)
			b.v.Workers = 1
			time.Sleep(time.Minute) // as the tiers before take time
			b.now = time.Now()
			begin := time.Now()
			r := b.v.Verify(t.Context(), nil)
			if took := time.Since(begin); took < 10*time.Minute || took > 11*time.Minute {
				t.Errorf("run %d: it takes %v", n, took)
			}
			causes := summary(r)
			if r.Verdict() != report.Unsettled || !slices.ContainsFunc(causes, func(s string) bool { return strings.HasPrefix(s, "coverage-overdue") }) || !slices.Contains(causes, "pressure-lasting") {
				t.Errorf("run %d: %s, findings %q", n, r.Verdict(), causes)
			}
			if r.Coverage.Hashed == 0 || r.Coverage.Remembered != n*r.Coverage.Hashed {
				t.Errorf("run %d: %+v", n, r.Coverage)
			}
		})
	}
}
