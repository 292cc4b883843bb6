package node

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/report"
)

// defaultMaxAge is the day between two runs of the timer, and the time that a run
// may take.
const defaultMaxAge = 26 * time.Hour

// check returns the standing as one line and one verdict. The verdict is inconclusive at
// best if the last run of the policy ended longer than maxAge ago, or if there was a
// later one of which only its failure is known.
func (s *status) check(maxAge time.Duration) (report.Verdict, string) {
	if s.Standing == nil {
		return report.Unsettled, "inconclusive: " + s.unknown()
	}
	verdict := s.Standing.Verdict
	var but []string
	spoil := func(v report.Verdict, format string, args ...any) {
		verdict = standing.Worse(verdict, v)
		but = append(but, fmt.Sprintf(format, args...))
	}
	if age := s.Now.Sub(s.LastRun.Finished); age > maxAge || age < -ledger.Skew {
		spoil(report.Unsettled, "the last run ended %s, and the limit is %s", s.ago(s.LastRun.Finished), maxAge)
	}
	if s.Died != nil && !s.Died.Look {
		spoil(report.Unsettled, "a run died since")
	}
	if s.Switched != nil {
		spoil(report.Unsettled, "no run has verified the system that runs")
	}
	for _, e := range s.Forgotten {
		if e.Result == "success" {
			continue
		}
		v := report.Unsettled
		for known, code := range terminal.ExitCodes {
			if e.Status == code && code != terminal.ExitVerified {
				v = known
			}
		}
		spoil(v, "%s ended since with %s %d", e.Unit, e.Result, e.Status)
	}
	line := s.headline()
	if len(but) > 0 {
		line = fmt.Sprintf("%s: %s (%s)", verdict, report.Escape(strings.Join(but, "; ")), line)
	}
	return verdict, line
}

// checkWithout is status --check if the ledger is unreadable, for the reason unread: the
// copy of the standing beside it can't improve the verdict, and what differed then still
// does.
func (a *app) checkWithout(ctx context.Context, stateDir string, unread error) error {
	st, _ := recall(ctx, ledger.Dir(stateDir), nil, unread)
	if st.Run == nil {
		return unread
	}
	s := &status{Now: time.Now(), LastRun: st.Run, Standing: &statusStanding{Verdict: st.Verdict, Since: st.Since}}
	verdict := standing.Worse(st.Verdict, report.Unsettled)
	return cmp.Or(a.Print(fmt.Sprintf("%s: %s (%s)\n", verdict, report.Escape(unread.Error()), s.headline())), terminal.VerdictError(verdict))
}
