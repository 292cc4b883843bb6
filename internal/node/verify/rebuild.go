package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// Rebuilder builds derivations of a release afresh, without writing to the machine's
// store. Its errors are a [*rebuild.DriftError], a [*rebuild.Error], or that of ctx; if
// ctx ends later, the summary has the completed steps.
type Rebuilder interface {
	Rebuild(ctx context.Context, req rebuild.Request, p *rebuild.Progress) (*rebuild.Summary, error)
}

func unaskedRebuild(v *Verifier) string {
	if v.Rebuilder == nil {
		return "the policy requests no rebuild"
	}
	return ""
}

func planRebuild(r *run) string {
	if r.Rebuilder == nil {
		return "nothing (--rebuild none)"
	}
	return "rebuild what the policy chooses in a scratch store, and compare it with the release"
}

func graceRebuild(v *Verifier) time.Duration { return v.BuildTimeout }

// checkRebuild builds what the policy selects afresh and compares the outputs with the
// release.
func (r *run) checkRebuild(ctx context.Context, t *report.Tier) error {
	src, err := r.findSource(ctx)
	if err != nil {
		return r.noRebuild(err)
	}
	req := rebuild.Request{Root: r.Root, Manifest: r.manifest, Source: src.path}
	memory := &rebuildMemory{run: r}
	if r.recorder != nil {
		req.Memory = memory
	}
	summary, err := r.Rebuilder.Rebuild(ctx, req, &r.progress.rebuild)
	if err != nil {
		return r.noRebuild(err)
	}
	r.rebuilt = make(map[closure.StorePath]nar.Hash)
	blocked := make(map[closure.StorePath][]*rebuild.Result)
	for i := range summary.Results {
		result := &summary.Results[i]
		switch result.Status {
		case rebuild.Reproduced, rebuild.Differs:
			t.Checked++
			r.judgeRebuilt(result)
		case rebuild.InputBad, rebuild.InputMissing:
			blocked[result.Input.Path] = append(blocked[result.Input.Path], result)
		case rebuild.NotReached:
		default:
			r.find(report.Finding{
				Tier: report.TierRebuild, Cause: rebuildCauses[result.Status], Path: string(result.Derivation), Detail: result.Detail,
			})
		}
	}
	for _, results := range blocked {
		r.judgeInput(results)
	}
	t.Why = rebuiltOf(t.Checked, summary)
	r.findUnmatched(summary)
	r.findUnproven(summary)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.findUnreached(t, summary, memory)
}

// rebuildCauses are the causes of what became of a derivation.
var rebuildCauses = map[rebuild.Status]report.Cause{
	rebuild.Failed:       report.BuildFailed,
	rebuild.TimedOut:     report.BuildTimedOut,
	rebuild.InputBad:     report.InputBad,
	rebuild.InputMissing: report.InputMissing,
	rebuild.NoRoom:       report.RebuildNoRoom,
	rebuild.Unavailable:  report.RebuildUnavailable,
	rebuild.NotReached:   report.BudgetSpent,
}

// noRebuild returns the failure that ends the tier if err prevented every rebuild. If a
// finding of another tier explains err, the failure is its consequence.
func (r *run) noRebuild(err error) error {
	f := &failure{cause: report.RebuildUnavailable, err: err}
	var told *failure // of findSource
	var drift *rebuild.DriftError
	var failed *rebuild.Error
	switch {
	case errors.As(err, &told):
		f.path, f.consequence = told.path, r.explaining(told.path, report.TierSource)
	case errors.As(err, &drift):
		f.cause, f.path, f.consequence = report.NotRebuilt, string(drift.Want), r.explaining("", report.TierEval)
	case errors.As(err, &failed):
		f.cause, f.path = rebuildCauses[failed.Status], string(failed.Input.Path)
		// Without a path it is for a reason of its own, such as a directory that
		// can't be written to, and whatever else was found explains nothing.
		if f.path != "" {
			f.consequence = cmp.Or(r.explaining(f.path, report.TierSource), r.explaining(f.path, report.TierContents))
		}
	default:
		return err
	}
	return f
}

// explaining returns the cause of a finding of tier about path, or about anything if path
// is empty. Notices do not count; "" means that there is none.
func (r *run) explaining(path string, tier report.TierName) report.Cause {
	for i := range r.report.Findings {
		f := &r.report.Findings[i]
		if f.Tier == tier && f.Class() != report.Notice && (path == "" || f.Path == path) {
			return f.Cause
		}
	}
	return ""
}

// judgeRebuilt adds the findings about a rebuilt derivation, and records the hashes of
// its outputs as witnesses for the findings of the contents tier.
func (r *run) judgeRebuilt(result *rebuild.Result) {
	var reproduced []string
	for i := range result.Outputs {
		o := &result.Outputs[i]
		switch {
		case o.Listed && !o.Differs():
			reproduced = append(reproduced, o.Name)
		case o.Listed:
			// It comes out otherwise each time, so that it testifies to nothing.
			r.find(report.Finding{
				Tier: report.TierRebuild, Cause: report.UnreproducibleListed, Path: string(o.Path),
				Want: o.Want.String(), Got: o.Got.String(), Detail: o.Reason,
			})
			continue
		}
		r.rebuilt[o.Path] = o.Got
		w := r.contents.witnesses[o.Path]
		w.Manifest, w.Rebuild = o.Want, o.Got
		if o.Differs() && !slices.Contains(w.Causes(), closure.OtherBuild) {
			f := report.Finding{
				Tier: report.TierRebuild, Cause: closure.UnreproducibleBuild, Path: string(o.Path),
				Want: o.Want.String(), Got: o.Got.String(), Detail: o.FilesNote, Files: o.Files, MoreFiles: o.MoreFiles,
			}
			r.find(f)
		}
	}
	if len(reproduced) == 0 || result.Status != rebuild.Reproduced {
		return
	}
	r.find(report.Finding{
		Tier: report.TierRebuild, Cause: report.ReproducesThoughListed, Path: string(result.Derivation),
		Detail: fmt.Sprintf("outputs %q were rebuilt identically this time", reproduced),
	})
}

// judgeInput adds the finding about a path that derivations could not be built
// for want of, and what follows from it for each of them.
func (r *run) judgeInput(results []*rebuild.Result) {
	in, cause := results[0].Input, rebuildCauses[results[0].Status]
	f := report.Finding{
		Tier: report.TierRebuild, Cause: cause, Path: string(in.Path), Got: in.Got.String(), Detail: results[0].Detail,
		ConsequenceOf: r.explaining(string(in.Path), report.TierContents),
	}
	if in.Want != (nar.Hash{}) {
		f.Want = in.Want.String()
	}
	if in.Witness != "" {
		f.Detail = joinDetail(f.Detail, "what it should be is known by the "+string(in.Witness))
	}
	f.Detail = joinDetail(f.Detail, report.Quantity(len(results), "derivation")+" could not be rebuilt for it")
	r.find(f)
	for _, result := range results {
		r.find(report.Finding{
			Tier: report.TierRebuild, Cause: report.NotRebuilt, Path: string(result.Derivation),
			Detail: "it is built from " + string(in.Path), ConsequenceOf: cause,
		})
	}
}

func joinDetail(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// rebuiltOf says, for the report, how much was rebuilt, and if the run did not complete a
// sample, that too.
func rebuiltOf(checked int, s *rebuild.Summary) string {
	if checked == s.Candidates {
		return ""
	}
	why := fmt.Sprintf("%d of %s", checked, report.Quantity(s.Candidates, "derivation"))
	if left := s.Count(rebuild.NotReached); s.Sampled && left > 0 {
		why += fmt.Sprintf(", a sample of %d of which %d had no turn", s.Planned, left)
		if s.BudgetSpent {
			why += " when the time was up"
		}
	}
	return why
}

// findUnmatched adds a finding about patterns that match nothing while others do: a
// misspelt one would go unnoticed. If none matches, the tier fails.
func (r *run) findUnmatched(s *rebuild.Summary) {
	if len(s.Unmatched) > 0 && s.Planned > 0 {
		r.find(report.Finding{
			Tier: report.TierRebuild, Cause: report.PatternUnmatched,
			Detail: fmt.Sprintf("%s, of %s", quote(s.Unmatched), report.Quantity(s.Candidates, "derivation")),
		})
	}
}

// choseNothing says why there was nothing to rebuild.
func choseNothing(s *rebuild.Summary) error {
	if len(s.Unmatched) > 0 {
		return fmt.Errorf("rebuild.firstParty: %s: none of the %s that make a path of the system is called so", quote(s.Unmatched), report.Quantity(s.Candidates, "derivation"))
	}
	return fmt.Errorf("rebuild.choice: it chooses none of the %s that make a path of the system", report.Quantity(s.Candidates, "derivation"))
}

// quote lists the first few patterns.
func quote(patterns []rebuild.Pattern) string {
	quoted := make([]string, len(patterns))
	for i, p := range patterns {
		quoted[i] = strconv.Quote(string(p))
	}
	return excerpt.List(quoted, ", ", 5)
}

// findUnproven adds the findings about what no rebuild can prove here.
func (r *run) findUnproven(s *rebuild.Summary) {
	if n := len(s.Claimed); n > 0 {
		r.find(report.Finding{
			Tier: report.TierRebuild, Cause: report.InputClaimed, Path: string(s.Claimed[0]),
			Detail: fmt.Sprintf("%s known by this machine's Nix database alone, this one first", are(n, "build input")),
		})
	}
	if n := len(s.Fetched); n > 0 {
		r.find(report.Finding{
			Tier: report.TierRebuild, Cause: report.InputFetched, Path: string(s.Fetched[0]),
			Detail: fmt.Sprintf("%d in all; what %d of them should be is known by a signature alone, of a key that Nix trusts", n, s.Signed),
		})
	}
	if n := len(s.Uncomparable); n > 0 {
		r.find(report.Finding{
			Tier: report.TierRebuild, Cause: report.RebuildUnavailable, Path: string(s.Uncomparable[0]),
			Detail: fmt.Sprintf("%s of derivations whose output paths are not known before the build, this one first", are(n, "path")),
		})
	}
}

// findUnreached adds a finding where the run ended before it came to everything
// that it was to rebuild, and the ledger does not answer for the rest; of a
// sample, before it came to anything.
func (r *run) findUnreached(t *report.Tier, s *rebuild.Summary, memory *rebuildMemory) error {
	left := s.Count(rebuild.NotReached)
	remembered := 0
	for i := range s.Results {
		if result := &s.Results[i]; result.Status == rebuild.NotReached && memory.answersFor(&result.Candidate) {
			remembered++
		}
	}
	if remembered > 0 {
		t.Why += fmt.Sprintf(", %d more by earlier runs within %s", remembered, days(r.Policy.Rebuild))
	}
	switch {
	case s.Planned == 0:
		// Nothing to be done is nothing proven.
		return &failure{cause: report.ChoseNothing, err: choseNothing(s)}
	case left == remembered, s.Sampled && left < s.Planned:
		return nil
	}
	return &failure{cause: report.BudgetSpent, err: fmt.Errorf("%d of %s not reached, nor rebuilt within %s by earlier runs%s",
		left-remembered, were(s.Planned, "derivation"), days(r.Policy.Rebuild), moreRuns(left-remembered, s.Planned-left))}
}

// moreRuns says how many more runs like this one, which reached some steps, the rest
// takes; "" if it reached none.
func moreRuns(rest, reached int) string {
	if reached <= 0 {
		return ""
	}
	return fmt.Sprintf("; with this budget, about %s to go", report.Quantity((rest+reached-1)/reached, "more run"))
}
