package standing

import (
	"testing"

	"every.channel/ec-verify/internal/report"
)

// TestRecall: which of the copies is the standing, and when the standing is lost.
func TestRecall(t *testing.T) {
	left := func(day int, findings ...report.Finding) string {
		s := Next(Standing{}, ran(day, "contents+", findings...), func(report.TierName, string) bool { return true })
		s.Run = &Run{Finished: s.Since}
		encoded, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	for name, tc := range map[string]struct {
		copies     []Copy
		want, lost string
	}{
		"a new machine":                   {[]Copy{{File: "ledger"}, {File: "beside"}}, "no verdict", ""},
		"one":                             {[]Copy{{File: "ledger", Told: left(1, altered)}, {File: "beside"}}, "drifted 1, disk-altered 1", ""},
		"the other":                       {[]Copy{{File: "ledger"}, {File: "beside", Told: left(1, altered)}}, "drifted 1, disk-altered 1", ""},
		"the later one":                   {[]Copy{{File: "ledger", Told: left(1)}, {File: "beside", Told: left(2, altered)}}, "drifted 2, disk-altered 2", ""},
		"the later one, first":            {[]Copy{{File: "ledger", Told: left(2)}, {File: "beside", Told: left(1, altered)}}, "verified 2", ""},
		"one is from the future":          {[]Copy{{File: "ledger", Told: left(2, altered)}, {File: "beside", Told: left(999)}}, "drifted 2, disk-altered 2", ""},
		"one is from the future, first":   {[]Copy{{File: "ledger", Told: left(999)}, {File: "beside", Told: left(2, altered)}}, "drifted 2, disk-altered 2", ""},
		"both are from the future":        {[]Copy{{File: "ledger", Told: left(998)}, {File: "beside", Told: left(999, altered)}}, "drifted 999, disk-altered 999", ""},
		"one is damaged":                  {[]Copy{{File: "ledger", Damaged: true}, {File: "beside", Told: left(1, altered)}}, "drifted 1, disk-altered 1", ""},
		"the other is damaged":            {[]Copy{{File: "ledger", Told: left(1)}, {File: "beside", Damaged: true}}, "verified 1", ""},
		"one is damaged, the other empty": {[]Copy{{File: "ledger"}, {File: "beside"}, {File: "aside", Damaged: true}}, "inconclusive 9, standing-lost 9", "aside"},
		"both":                            {[]Copy{{File: "ledger", Damaged: true}, {File: "beside", Damaged: true}}, "inconclusive 9, standing-lost 9", "ledger"},
		"nothing that it could be":        {[]Copy{{File: "ledger", Told: "{"}}, "inconclusive 9, standing-lost 9", "ledger"},
	} {
		s, lost := Recall(tc.copies, day0.AddDate(0, 0, 9))
		got := "no verdict"
		if !s.Since.IsZero() {
			got = words(s)
		}
		if got != tc.want || lost != tc.lost {
			t.Errorf("%s: got %s, lost %q; want %s, lost %q", name, got, lost, tc.want, tc.lost)
		}
	}
}

// TestLost: a standing that is lost stays lost until everything that may have differed was
// verified, and hides no finding.
func TestLost(t *testing.T) {
	const all, daily = "eval+ live+ contents+ rebuild+", "eval+ live+ contents+"
	notAsked := func(r *report.Report) *report.Report {
		r.Tiers = append(r.Tiers, report.Tier{Name: report.TierRebuild, Status: report.Skipped})
		return r
	}
	for name, tc := range map[string]struct {
		runs []*report.Report
		owed bool // that rebuilds are
		want string
	}{
		"verified without rebuilds":      {[]*report.Report{notAsked(ran(1, daily)), notAsked(ran(2, daily))}, true, "inconclusive 0, standing-lost 0"},
		"which nobody asks for":          {[]*report.Report{notAsked(ran(1, daily))}, false, "verified 1"},
		"verified with them":             {[]*report.Report{notAsked(ran(1, daily)), ran(2, all)}, true, "verified 2"},
		"drifted":                        {[]*report.Report{ran(1, all, altered)}, true, "drifted 1, disk-altered 1, standing-lost 0"},
		"and verified without rebuilds":  {[]*report.Report{ran(1, all, altered), notAsked(ran(2, daily))}, true, "inconclusive 0, standing-lost 0"},
		"a run that could not check all": {[]*report.Report{ran(1, "eval- live+ contents+ rebuild+", failed)}, true, "inconclusive 0, evaluation-failed 1, standing-lost 0"},
	} {
		s, _ := Recall([]Copy{{File: "ledger", Damaged: true}}, day0)
		for _, r := range tc.runs {
			s = Next(s, r, func(t report.TierName, _ string) bool { return t != report.TierRebuild || tc.owed })
		}
		if got := words(s); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}
