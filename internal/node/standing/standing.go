package standing

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/report"
)

// Standing is what is known of a machine. The zero value means nothing.
type Standing struct {
	Verdict report.Verdict `json:"verdict"`
	// Since is when a run of the policy first came to Verdict, with no better one after
	// it; zero if none ended.
	Since time.Time `json:"since"`
	// Verified is when the last run of the policy ended that verified the machine without
	// being weakened; zero for none.
	Verified time.Time `json:"verified,omitzero"`
	// Run is the last run of the policy; nil if none ended.
	Run *Run `json:"run"`
	// Findings are those that count, gravest first, at most [MaxFindings]; More counts
	// the rest: as far as runs that were not completed tell, it may be more.
	Findings []Finding `json:"findings"`
	More     int       `json:"more"`
	// Rest is what More counts, by class, tier and part, of each of which Findings has one.
	Rest []Rest `json:"rest,omitzero"`
}

// Rest counts findings of one class, tier and part that are not listed.
type Rest struct {
	Class report.Class    `json:"class"`
	Tier  report.TierName `json:"tier"`
	Part  string          `json:"part,omitzero"`
	Count int             `json:"count"`
}

// Run is a run of the policy.
type Run struct {
	ID       int64          `json:"id"` // in the ledger
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished"`
	Verdict  report.Verdict `json:"verdict"`
	Release  *Release       `json:"release"` // nil where none was trusted
	// BestBefore, RefusedAfter and KeyNotAfter are as in [report.Release].
	BestBefore    time.Time `json:"bestBefore,omitzero"`
	RefusedAfter  time.Time `json:"refusedAfter,omitzero"`
	KeyNotAfter   time.Time `json:"keyNotAfter,omitzero"`
	Configuration string    `json:"configuration"`
	// System is the system that ran when the run began; "" if that is unknown.
	System   string               `json:"system,omitzero"`
	Findings map[report.Class]int `json:"findings"`
	Unsafe   string               `json:"unsafe"` // what weakened it
	Tool     string               `json:"tool"`
}

// Release identifies the release that a run compared with.
type Release struct {
	Tag            string `json:"tag"`
	ManifestSHA256 string `json:"manifestSha256"`
}

// Finding is a finding that no later run of the policy has cleared.
type Finding struct {
	Class report.Class    `json:"class"`
	Cause report.Cause    `json:"cause"`
	Tier  report.TierName `json:"tier"`
	// Part is the part of the tier machine; empty in another tier, and from an earlier
	// program.
	Part  string    `json:"part,omitzero"`
	Path  string    `json:"path"` // at most [maxPath] bytes
	Since time.Time `json:"since"`
}

// Owed reports whether a policy requests a tier in any run, and of the tier machine a
// part; the part is "" for the whole tier.
type Owed func(tier report.TierName, part string) bool

const (
	// MaxFindings limits the findings of a standing.
	MaxFindings = 100
	maxPath     = 256
)

// Decode decodes the result of [Standing.Encode]; "" is the zero Standing.
func Decode(encoded string) (Standing, error) {
	var s Standing
	if encoded == "" {
		return s, nil
	}
	err := json.Unmarshal([]byte(encoded), &s)
	return s, err
}

// Encode returns s as one line of JSON.
func (s Standing) Encode() (string, error) {
	data, err := json.Marshal(&s, json.Deterministic(true))
	return string(data), err
}

// grave orders verdicts, the gravest last.
var grave = []report.Verdict{report.Verified, report.Unsettled, report.Drifted, report.Refused}

// Worse returns the graver of two verdicts.
func Worse(a, b report.Verdict) report.Verdict {
	return slices.MaxFunc([]report.Verdict{a, b}, func(a, b report.Verdict) int {
		return cmp.Compare(slices.Index(grave, a), slices.Index(grave, b))
	})
}

// verdictOf is what findings of a class make of a machine.
var verdictOf = map[report.Class]report.Verdict{
	report.Untrusted: report.Refused, report.Drift: report.Drifted, report.Inconclusive: report.Unsettled,
}

// Next returns the standing after a run of the policy with the report r, given the standing
// before it. A difference stays until a run has completed its tier and verified the
// machine, or has found other differences in that tier: those replace it, unless its path
// or part could not be checked. A release stays untrusted until a run trusts one. An
// inconclusive finding stays only until the next run. Differences of a tier or a part that
// the policy no longer requests are forgotten. A lost standing stays lost until a run of
// everything that the policy requests verifies the machine.
func Next(before Standing, r *report.Report, owed Owed) Standing {
	ended := r.Finished.Truncate(time.Millisecond) // as status tells times
	s := Standing{Verified: before.Verified, Verdict: r.Verdict(), Since: ended}
	now := findings(r)
	for i := range now {
		now[i].Since = ended
		if at := slices.IndexFunc(before.Findings, now[i].same); at >= 0 {
			now[i].Since = before.Findings[at].Since
		}
	}
	found := slices.Clone(now)
	for _, f := range before.Findings {
		if f.remains(r, now, owed) {
			found = append(found, f)
		}
	}
	for _, f := range found {
		s.Verdict = Worse(s.Verdict, verdictOf[f.Class])
	}
	if s.Verdict == before.Verdict && !before.Since.IsZero() {
		s.Since = before.Since
	}
	for _, f := range found {
		if verdictOf[f.Class] == s.Verdict && f.Since.Before(s.Since) {
			s.Since = f.Since
		}
	}
	if r.Verdict() == report.Verified && !r.Weakened() {
		s.Verified = ended
	}
	s.Findings, s.Rest = bounded(found, r.Tiers)
	for _, rest := range before.Rest {
		of := Finding{Class: rest.Class, Tier: rest.Tier, Part: rest.Part}
		if !of.remains(r, now, owed) {
			continue
		}
		for _, f := range now {
			// It may be one of those that are not listed.
			if of.alike(f) && rest.Count > 0 && !slices.ContainsFunc(before.Findings, f.same) {
				rest.Count--
			}
		}
		s.Rest = addRest(s.Rest, of, rest.Count)
	}
	for _, rest := range s.Rest {
		s.More += rest.Count
	}
	return s
}

// alike reports whether two findings are of the same class, tier and part.
func (f Finding) alike(other Finding) bool {
	return f.Class == other.Class && f.Tier == other.Tier && f.Part == other.Part
}

// addRest counts n more findings that are like f.
func addRest(all []Rest, f Finding, n int) []Rest {
	if n == 0 {
		return all
	}
	at := slices.IndexFunc(all, func(r Rest) bool { return f.alike(Finding{Class: r.Class, Tier: r.Tier, Part: r.Part}) })
	if at < 0 {
		return append(all, Rest{f.Class, f.Tier, f.Part, n})
	}
	all[at].Count += n
	return all
}

// remains reports whether an earlier finding counts beside those that r has now.
func (f Finding) remains(r *report.Report, now []Finding, owed Owed) bool {
	switch {
	case f.Cause == report.StandingLost:
		return !whole(r, owed) // it may have been of any tier
	case f.Class == report.Inconclusive, !owed(f.Tier, f.Part), slices.ContainsFunc(now, f.same):
		return false
	case !done(r, f.Tier), f.Class == report.Drift && slices.ContainsFunc(now, f.unseen):
		return true
	}
	replaced := f.Class == report.Untrusted || r.Verdict() == report.Verified ||
		slices.ContainsFunc(now, func(n Finding) bool { return n.Tier == f.Tier && n.Class == f.Class })
	return !replaced
}

// Dropped counts the differences of a standing that [Next] forgets because the policy no
// longer requests their tiers or parts.
func Dropped(before Standing, owed Owed) int {
	n := 0
	for _, f := range before.Findings {
		if f.Class != report.Inconclusive && !owed(f.Tier, f.Part) {
			n++
		}
	}
	for _, rest := range before.Rest {
		if rest.Class != report.Inconclusive && !owed(rest.Tier, rest.Part) {
			n += rest.Count
		}
	}
	return n
}

// Without returns the standing after a run of the policy that could not be made, given the
// standing before it. The run was tried at the time at.
func Without(before Standing, at time.Time) Standing {
	s := before
	if s.Verdict = Worse(before.Verdict, report.Unsettled); s.Verdict != before.Verdict || s.Since.IsZero() {
		s.Since = at.Truncate(time.Millisecond)
	}
	return s
}

// findings returns those of r that count: no notices, and of what follows from something
// else only where it makes a reboot unsafe, unless that is all there is.
func findings(r *report.Report) []Finding {
	var out, follow []Finding
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Class() == report.Notice {
			continue
		}
		one := Finding{Class: f.Class(), Cause: f.Cause, Tier: f.Tier, Part: f.Part, Path: clipped(f.Path)}
		switch {
		case f.ConsequenceOf != "" && !report.IsPending(f.Cause):
			follow = append(follow, one)
		case !slices.ContainsFunc(out, one.same):
			out = append(out, one)
		}
	}
	if len(out) == 0 {
		return follow
	}
	return out
}

func clipped(path string) string {
	return strings.ToValidUTF8(path[:min(len(path), maxPath)], "�")
}

func (f Finding) same(other Finding) bool {
	return f.Tier == other.Tier && f.Cause == other.Cause && f.Path == other.Path
}

// unseen reports whether another finding says that what f is about, or all of its part,
// could not be checked.
func (f Finding) unseen(other Finding) bool {
	return other.Class == report.Inconclusive && other.Tier == f.Tier && (f.Part != "" && other.Part == f.Part || f.Path != "" && other.Path == f.Path)
}

// done reports whether r did all of a tier that it was asked to.
func done(r *report.Report, tier report.TierName) bool {
	return slices.ContainsFunc(r.Tiers, func(t report.Tier) bool {
		return t.Name == tier && t.Asked && t.Status == report.Done
	})
}

// whole reports whether r verified the machine and left out nothing that the policy
// asks for in some run.
func whole(r *report.Report, owed Owed) bool {
	return r.Verdict() == report.Verified && !slices.ContainsFunc(r.Tiers, func(t report.Tier) bool {
		return t.Asked && t.Status != report.Done || !t.Asked && t.Name == report.TierRebuild && owed(t.Name, "")
	})
}

// bounded puts findings into their order and returns the first of them, of each
// class, tier and part at least one, and the number of the others.
func bounded(all []Finding, tiers []report.Tier) (kept []Finding, others []Rest) {
	classes := []report.Class{report.Untrusted, report.Drift, report.Inconclusive}
	turn := func(f Finding) int {
		return slices.IndexFunc(tiers, func(t report.Tier) bool { return t.Name == f.Tier })
	}
	order := func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(classes, a.Class), slices.Index(classes, b.Class)),
			report.CompareGravity(a.Cause, b.Cause),
			cmp.Compare(turn(a), turn(b)), cmp.Compare(a.Tier, b.Tier),
			cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Path, b.Path),
		)
	}
	slices.SortStableFunc(all, order)
	kept = []Finding{}
	var rest []Finding
	for _, f := range all {
		if !slices.ContainsFunc(kept, f.alike) {
			kept = append(kept, f)
		} else {
			rest = append(rest, f)
		}
	}
	n := min(len(rest), max(0, MaxFindings-len(kept)))
	kept = append(kept, rest[:n]...)
	slices.SortStableFunc(kept, order)
	for _, f := range rest[n:] {
		others = addRest(others, f, 1)
	}
	return kept, others
}
