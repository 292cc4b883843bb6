package verify

import (
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// explainByMounts marks what is not there as the consequence of what is mounted over
// the store or the database. The tiers before may have found it first.
func (r *run) explainByMounts() {
	for i := range r.report.Findings {
		f := &r.report.Findings[i]
		if f.ConsequenceOf != "" && f.ConsequenceOf != report.SourceMissing {
			continue
		}
		hidden := ""
		switch f.Cause {
		case closure.Missing, report.SourceMissing:
			hidden = string(r.StoreDir)
		case closure.Unregistered, report.DatabaseUnreadable:
			hidden = r.databaseDir()
		}
		if cause, ok := r.mountedOver[hidden]; ok {
			f.ConsequenceOf = cause
		}
	}
}

// withoutProc returns the cause that explains why something could not be looked at
// where that is for want of /proc, with a finding of its own; "" where /proc is there.
func (r *run) withoutProc(tier report.TierName) report.Cause {
	err := nixstore.CheckProc()
	if err == nil {
		return ""
	}
	r.findOnce(report.Finding{Tier: tier, Cause: report.ProcUnavailable, Path: "/proc", Detail: err.Error()})
	return report.ProcUnavailable
}
