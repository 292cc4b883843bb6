package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// selection says which paths of the audit a run hashes.
//
// Without a budget these are all, but for a candidate only those for which the ledger
// does not vouch. With a budget, a run hashes as much as its time allows, new paths first
// and then those hashed longest ago, and the ledger must vouch for the others: each must
// have been the release's when it was last checked, recently enough for the policy, see
// [ledger.Record.Current]. A path for which nothing vouches is overdue, and a run with
// overdue paths is inconclusive.
//
// So that no run passes over what an earlier one found, or what is visible without
// hashing, some paths are hashed whatever the budget: those that drifted or could not be
// checked last time, those with a registration that differs from the manifest, and
// missing ones. While a reboot is pending, so are those of the next system that were
// touched since their last check: the report tells the operator to reboot into them.
type selection struct {
	// order has the indices of the audit's paths in the order in which they are hashed.
	order []int
	// must is how many of them are hashed in any case.
	must int
	// budget is the time after which no further path is started, apart from the first one
	// beyond those: each run makes progress. 0 means no limit.
	budget  time.Duration
	records ledger.Records
}

// everything selects all paths, the largest first, so that no worker is left
// alone with one at the end.
func everything(paths []closure.PathInfo) *selection {
	s := &selection{order: make([]int, len(paths)), must: len(paths)}
	for i := range paths {
		s.order[i] = i
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return int(paths[b].NarSize>>10 - paths[a].NarSize>>10) })
	return s
}

// may reports whether path n of order, counted from 0, may be started after that time.
func (s *selection) may(n int, elapsed time.Duration) bool {
	return n <= s.must || s.budget <= 0 || elapsed < s.budget
}

// selectPaths returns the paths of the audit that this run hashes. If nothing is remembered,
// that is all of them, whatever the budget: nothing could replace their check.
func (c *contentsCheck) selectPaths(ctx context.Context) *selection {
	paths := c.audit.paths
	if c.ContentsBudget <= 0 && c.System == "" || c.recorder == nil {
		return everything(paths)
	}
	records, err := c.recorder.Records(ctx, ledger.Contents)
	if err != nil {
		c.notRemembered(err)
		return everything(paths)
	}
	if c.Read == nar.ReadDisk {
		records = records.FromDisk()
	}
	items, at := make([]ledger.Item, len(paths)), make(map[ledger.Key][]int, len(paths))
	for i, info := range paths {
		items[i] = contentsItem(info)
		at[items[i].Key()] = append(at[items[i].Key()], i)
	}
	s := &selection{budget: c.ContentsBudget, records: records}
	var rest []int
	for _, item := range ledger.Select(items, records, 0) {
		i := at[item.Key()][0]
		at[item.Key()] = at[item.Key()][1:]
		if c.isSuspect(paths[i], records[item.Key()]) || c.bootsNext(i) && s.answersFor(paths[i], c.Policy) && c.touched(ctx, paths[i], records[item.Key()].Last) {
			s.order = append(s.order, i)
		} else {
			rest = append(rest, i)
		}
	}
	s.must = len(s.order)
	if c.System != "" {
		rest = slices.DeleteFunc(rest, func(i int) bool {
			return s.answersFor(paths[i], c.Policy) && !c.touched(ctx, paths[i], records[items[i].Key()].Last)
		})
	}
	s.order = append(s.order, rest...)
	return s
}

// isSuspect reports whether there is a reason to hash a path in this run.
func (c *contentsCheck) isSuspect(want closure.PathInfo, record ledger.Record) bool {
	if record.Last.Done() && record.Last.Result != ledger.Verified || record.Drifted() || c.hidden[want.Path] {
		return true
	}
	if c.claims.known {
		claim := c.claims.of(want.Path)
		if claim == nil || claim.NarHash != want.NarHash || len(closure.CompareClaim(want, *claim)) > 0 {
			return true
		}
	}
	exists, err := c.store.Exists(want.Path)
	return err != nil || !exists
}

// tick is how much earlier than the change itself a change time may be: kernels count
// these in ticks of up to 10 ms, and the ledger in milliseconds.
const tick = 20 * time.Millisecond

// touched reports whether any file of a path was or may have been written, renamed or
// given other rights since a check of it started. With that, neither a candidate nor the
// system of a pending reboot is verified by last week's bytes: reading the metadata is cheap where reading the contents is not.
// It is only as good as the clock, and does not see writes beneath the file system.
func (c *contentsCheck) touched(ctx context.Context, want closure.PathInfo, check ledger.Check) bool {
	at, err := c.store.LastChange(ctx, want.Path)
	return err != nil || !at.Before(check.At.Add(-check.Took-tick))
}

// answersFor reports whether the ledger answers for a path that is not hashed.
func (s *selection) answersFor(want closure.PathInfo, policy ledger.Policy) bool {
	return s.records[contentsItem(want).Key()].Current(policy.Contents, time.Now())
}

// answerFor counts the paths that were not hashed: those that the ledger answers
// for, and those that nobody does.
func (c *contentsCheck) answerFor() (overdue []closure.StorePath) {
	for i, want := range c.audit.paths {
		if c.observed[i].err != errNotReached { //nolint:errorlint // it is never wrapped
			continue
		}
		if c.selected.answersFor(want, c.Policy) {
			c.report.Coverage.Remembered++
		} else {
			overdue = append(overdue, want.Path)
		}
	}
	c.report.Coverage.Overdue = len(overdue)
	return overdue
}

// listClosure puts the paths of the audit into the report, and when each was hashed.
func (c *contentsCheck) listClosure() {
	now := time.Now()
	c.report.Closure = make([]report.ClosurePath, len(c.audit.paths))
	for i, want := range c.audit.paths {
		p := report.ClosurePath{Path: want.Path, Size: want.NarSize, State: report.Unread, Releases: c.audit.tags(i)}
		record := c.selected.records[contentsItem(want).Key()]
		switch err := c.observed[i].err; {
		case err == nil:
			p.State, p.Checked = report.Hashed, now
		case err != errNotReached: //nolint:errorlint // it is never wrapped
		case record.Current(c.Policy.Contents, now):
			p.State, p.Checked = report.Remembered, record.Last.At
		case c.selected.budget > 0:
			p.State, p.Checked = report.Overdue, record.Settled.At
		}
		c.report.Closure[i] = p
	}
}

// coverageWhy says, for the report, what a run with a budget relies on; "" if it hashed
// everything.
func (r *run) coverageWhy() string {
	c := r.report.Coverage
	switch {
	case c.Remembered+c.Overdue == 0:
		return ""
	case c.Overdue == 0:
		return fmt.Sprintf("%d of %s hashed now, the others by earlier runs within %s", c.Hashed, report.Quantity(c.Paths, "path"), days(r.Policy.Contents))
	}
	return fmt.Sprintf("%d of %s hashed now, %d by earlier runs within %s", c.Hashed, report.Quantity(c.Paths, "path"), c.Remembered, days(r.Policy.Contents))
}

// overdueFailure is how a contents tier ends that left paths overdue.
func (r *run) overdueFailure(overdue []closure.StorePath) error {
	return &failure{cause: report.CoverageOverdue, path: string(overdue[0]), err: fmt.Errorf(
		"%d of %s, this one first, not hashed by this run, nor within %s by those before it: its time for that was %s",
		len(overdue), report.Quantity(r.report.Coverage.Paths, "path"), days(r.Policy.Contents), r.ContentsBudget)}
}

// days formats a duration in days if it is long enough.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "1 day"
	case d > day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
