package verify

import (
	"fmt"
	"time"

	"every.channel/ec-verify/internal/report"
)

// reportRevocations adds the findings about the lists of revoked releases.
func (r *run) reportRevocations() {
	if r.Revocations == nil {
		return
	}
	s := r.Revocations()
	if s.Refused != "" {
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.RevocationsRefused, Detail: s.Refused})
	}
	if s.Stale {
		since := "they never have"
		if !s.Asked.IsZero() {
			since = "they last did on " + s.Asked.UTC().Format(time.RFC3339)
		}
		r.find(report.Finding{
			Tier: report.TierRelease, Cause: report.RevocationsStale,
			Detail: fmt.Sprintf("all sources should answer at least every %s; %s", s.Allowed, since),
		})
	}
	if s.Unkept != "" {
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.NotRemembered, Detail: s.Unkept})
	}
}

// reportRevoked adds the findings about the releases that are revoked: the one that is
// compared with, and others that the policy accepts.
func (r *run) reportRevoked() {
	if why := r.chosen.revoked(); why != nil {
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.ReleaseRevoked, Path: r.chosen.Tag, Detail: why.String()})
	}
	for i := range r.candidates {
		c := &r.candidates[i]
		if why := c.revoked(); why != nil && c.Tag != r.chosen.Tag {
			r.find(report.Finding{Tier: report.TierRelease, Cause: report.AcceptedRevoked, Path: c.Tag, Detail: why.String()})
		}
	}
}
