package verify

import (
	"slices"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// conclude judges what follows from what several tiers found, once all have ended.
func (r *run) conclude() {
	r.reportPending()
	r.forgetOnlyRelease()
	r.explainReplaced()
	r.explainByMounts()
}

// stateOf returns the state of the system that l leads to.
func (r *run) stateOf(l *lead) systemState {
	switch {
	case l.odd != "":
		return systemState{differs, l.odd}
	case l.release == nil:
		return systemState{}
	case l.unchecked:
		return graver(systemState{}, r.contents.systems[l.release])
	}
	return r.contents.systems[l.release]
}

// reportPending reports the system of the next boot, on a machine that runs or booted another
// accepted release. It is called after the contents tier, whether that has checked it or not.
func (r *run) reportPending() {
	next := systemState{grade: agrees}
	for i := range r.live.leads {
		if r.live.leads[i].next {
			next = graver(next, r.stateOf(&r.live.leads[i]))
		}
	}
	for i := range r.live.leads {
		l := &r.live.leads[i]
		f := l.pending
		if f.Path == "" {
			continue
		}
		switch own := r.stateOf(l); {
		case own.grade == differs:
			f.Cause, f.ConsequenceOf = report.BootedAltered, own.cause
			if l.next {
				f.Cause = report.PendingAltered
			}
		case next.grade == differs && own.grade == agrees:
			continue // another place leads to the altered system, and is named for that
		case next.grade == agrees && own.grade == agrees:
			f.Cause = report.PendingReboot
		default:
			f.Cause = report.PendingUnchecked
		}
		r.find(f)
	}
}

// forgetOnlyRelease removes from findings about boot files that they are of the release
// compared with, if the machine can come to run no other: that says nothing.
func (r *run) forgetOnlyRelease() {
	if r.chosen == nil || len(r.ledTo()) > 1 {
		return
	}
	for i := range r.report.Findings {
		r.report.Findings[i].Releases = nil
	}
}

func graver(a, b systemState) systemState {
	order := []grade{agrees, unchecked, differs}
	if slices.Index(order, b.grade) > slices.Index(order, a.grade) {
		return b
	}
	return a
}

// explainReplaced replaces the cause of findings where disk and database agree with each
// other but not with the release, as far as a rebuild of the same path explains them.
func (r *run) explainReplaced() {
	for i := range r.report.Findings {
		f := &r.report.Findings[i]
		if f.Tier != report.TierContents || f.Cause != closure.ReplacedUnexplained || f.Release != "" {
			continue
		}
		w := r.contents.witnesses[closure.StorePath(f.Path)]
		w.Rebuild = r.rebuilt[closure.StorePath(f.Path)]
		for _, cause := range w.Causes() {
			if cause == closure.CoverUp || cause == closure.OtherBuild {
				f.Cause = cause
			}
		}
	}
}

// explainByMounts marks missing paths as consequences of a mount over the store or the
// database, which may be found later.
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
