package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// clockSkew is by how much a publisher's clock and this node's may differ.
	clockSkew = 24 * time.Hour
	// clockYears is how far past everything that is known a clock can be
	// believed to be. A node that was not updated for that long and one whose
	// clock jumped ahead look the same; neither is a finding against the
	// release.
	clockYears = 2 * 365 * 24 * time.Hour
)

// clockFloor is before this program existed: no right clock says less. A dead
// battery starts a clock at 1970 or 2000, or at its firmware's date.
var clockFloor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// checkClockFloor recognises a clock that is behind what this node knows
// without looking at the release.
func (r *Release) checkClockFloor() error {
	now, floor, what := r.opts.now(), clockFloor, "this program"
	if newest := r.opts.memory.newest(true); newest.CreatedAt.After(floor) {
		floor, what = newest.CreatedAt, fmt.Sprintf("the release %s, which this node has accepted before,", newest.Tag)
	}
	if now.Before(floor.Add(-clockSkew)) {
		return &ClockError{now, fmt.Sprintf("%s was made after that, on %s", what, day(floor))}
	}
	return nil
}

// checkFreshness holds the release's own times against the clock.
func (r *Release) checkFreshness() error {
	now := r.opts.now()
	if now.Before(r.info.CreatedAt.Add(-clockSkew)) {
		return &ClockError{now, fmt.Sprintf("the release %s was signed with a time of creation after that, %s", r.tag, day(r.info.CreatedAt))}
	}
	if !now.After(r.info.BestBefore) {
		return nil
	}
	known := r.info.BestBefore
	if newest := r.opts.memory.newest(true); newest.CreatedAt.After(known) {
		known = newest.CreatedAt
	}
	if known.Before(clockFloor) {
		known = clockFloor
	}
	if now.After(known.Add(clockYears)) {
		return &ClockError{now, fmt.Sprintf("that is more than two years after everything this node knows of (%s), so either the clock is ahead or the node was not updated for years", day(known))}
	}
	end := r.RefusedAfter()
	if now.After(end) && r.opts.anyAge {
		r.notes = append(r.notes, fmt.Sprintf("past its bestBefore of %s", day(r.info.BestBefore)))
		return nil
	}
	if now.After(end) {
		detail := fmt.Sprintf("best before %s", day(r.info.BestBefore))
		if r.opts.grace > 0 {
			detail += fmt.Sprintf(", with the grace of %s until %s", r.opts.grace, day(end))
		}
		return Untrusted(ReasonExpired, "%s; the clock says %s. Update to a newer release", detail, day(now))
	}
	r.notes = append(r.notes, fmt.Sprintf("past its bestBefore of %s, accepted for the grace of %s", day(r.info.BestBefore), r.opts.grace))
	return nil
}

// checkOrder refuses a step back, and remembers a release that is accepted.
func (r *Release) checkOrder(ctx context.Context) error {
	m := r.opts.memory
	if m == nil || r.Unsigned() {
		// What nobody signed must not decide what is refused later.
		return nil
	}
	entry, by := r.entry(), named
	entry.Seen = r.opts.provisional
	switch {
	case slices.Contains(r.opts.accept, r.tag):
		by = listed
	case r.opts.offered:
		by = offered
	}
	err := m.check(entry, by)
	if err == nil {
		err = m.remember(ctx, entry, by)
	}
	if isUntrusted(err) && r.opts.allowRollback {
		r.unsafe = append(r.unsafe, "rollback")
		return nil
	}
	if lost := (*unwrittenError)(nil); errors.As(err, &lost) {
		r.unkept = append(r.unkept, "nothing keeps this machine from being taken back behind this release: "+lost.Error())
		return nil
	}
	return err
}

func (r *Release) entry() Accepted {
	return Accepted{Tag: r.tag, CreatedAt: r.info.CreatedAt, Sums: r.Digest().String()}
}

// Confirm remembers, of a release that was opened [WithProvisional], that this node
// was shown to run it: it is not taken back behind it any more.
func (r *Release) Confirm(ctx context.Context) error {
	if m := r.opts.memory; m != nil && !r.Unsigned() && !slices.Contains(r.unsafe, "rollback") {
		return m.remember(ctx, r.entry(), listed)
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
