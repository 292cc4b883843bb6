package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// clockSkew is the tolerated difference between a publisher's clock and this
	// node's.
	clockSkew = 24 * time.Hour
	// clockYears is how far a plausible clock may be past the latest known time. A
	// node without updates for that long and one with a clock set ahead look the
	// same; neither is a finding against the release.
	clockYears = 2 * 365 * 24 * time.Hour
)

// clockFloor lies before this program existed: no correct clock shows less. With a
// dead battery, a clock starts at 1970, at 2000 or at its firmware's date.
var clockFloor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// checkClockFloor detects a clock that is behind times that this machine knows without
// the release.
func (r *Release) checkClockFloor() error {
	now, floor, what := r.opts.now(), clockFloor, "this program"
	if newest := r.opts.memory.newest(true); newest.CreatedAt.After(floor) {
		floor, what = newest.CreatedAt, fmt.Sprintf("the release %s, which this machine has accepted before,", newest.Tag)
	}
	if now.Before(floor.Add(-clockSkew)) {
		return &ClockError{now, fmt.Sprintf("%s was made after that, on %s", what, day(floor))}
	}
	return nil
}

// checkFreshness compares the release's own times with the clock.
func (r *Release) checkFreshness() error {
	now := r.opts.now()
	if now.Before(r.info.CreatedAt.Add(-clockSkew)) {
		return &ClockError{now, fmt.Sprintf("the signed creation time of release %s is later: %s", r.tag, day(r.info.CreatedAt))}
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
		return &ClockError{now, fmt.Sprintf("that is more than two years after the latest time that this machine knows (%s): the clock is ahead, or the machine was not updated for years", day(known))}
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

// checkOrder refuses a rollback, and records an accepted release.
func (r *Release) checkOrder(ctx context.Context) error {
	m := r.opts.memory
	if m == nil || r.Unsigned() {
		// An unsigned release must not affect later decisions.
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
		r.unkept = append(r.unkept, "a rollback behind this release can't be prevented: "+lost.Error())
		return nil
	}
	return err
}

func (r *Release) entry() Accepted {
	return Accepted{Tag: r.tag, CreatedAt: r.info.CreatedAt, Sums: r.Digest().String()}
}

// Confirm records that this machine was shown to run a release opened [WithProvisional].
// From then on, older releases are refused as rollbacks.
func (r *Release) Confirm(ctx context.Context) error {
	if m := r.opts.memory; m != nil && !r.Unsigned() && !slices.Contains(r.unsafe, "rollback") {
		return m.remember(ctx, r.entry(), listed)
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
