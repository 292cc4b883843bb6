package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Evaluator evaluates a flake, without writing to the store that has it.
type Evaluator interface {
	// Evaluate returns the result of evaluating the configuration. Its error is a
	// [*nix.EvaluationError] if the sources are at fault.
	Evaluate(ctx context.Context, r nix.EvalRequest) (nix.Evaluation, error)
	// Version is that of the program that evaluates, for the report.
	Version(ctx context.Context) (nix.Version, error)
}

// Candidate is a release that the policy accepts, or why it could not be
// opened.
type Candidate struct {
	Tag     string
	Release *release.Release // nil where Err is not
	Err     error
}

// Verifier verifies a machine. Its fields are set before use; without a Pacer, several
// goroutines may then use it, one run each.
type Verifier struct {
	// Root is the root of the machine's file tree; empty or "/" for this machine.
	Root     string
	StoreDir closure.StoreDir
	// Flake is the absolute path of the embedded flake, a link into the store; with
	// System, as that system has it.
	Flake string
	// System, unless it is empty, is a candidate: a system in the store, running or not,
	// that is judged instead of the machine. It is given by the store path of its
	// toplevel, or by the tag of the pinned release.
	System string
	// Open returns the releases to compare with, at least one.
	Open func(ctx context.Context) []Candidate
	// Revocations returns, once the releases were opened, how current the list of revoked
	// releases is; nil to leave that out.
	Revocations func() release.RevocationState
	// Pinned means that the machine is compared with the first candidate, and that the
	// others only identify what else the machine may have booted. Without it, the machine
	// is compared with the one that it runs.
	Pinned bool
	// Identify finds the release that runs, if it is none of these; nil leaves it
	// unknown.
	Identify Identifier
	// Configuration names the configuration; empty for the release's only one.
	Configuration string
	Evaluator     Evaluator
	// Explainer explains why the flake evaluates to something else; nil leaves that
	// unexplained.
	Explainer Explainer
	// Rebuilder rebuilds what the policy asks for; nil for nothing.
	Rebuilder Rebuilder
	// BuildTimeout is how long one build of the rebuild tier may take.
	BuildTimeout time.Duration
	// ToRebuild says that the run is there to rebuild, so that the report says where
	// Rebuilder is nil.
	ToRebuild bool
	// Ledger remembers what was verified; nil remembers nothing.
	Ledger Ledger
	Read   nar.ReadMode
	// DropBehind leaves the page cache as it was; see [nar.Options].
	DropBehind bool
	// Pacer paces the reading of one run; nil for as fast as can be.
	Pacer *neighbour.Pacer
	// Workers is how many paths are hashed at once; 0 for as many as pay.
	Workers int
	// ContentsBudget is how long a run hashes paths, 0 for no limit. Paths that it does
	// not reach must have been verified by earlier runs within the time that Policy
	// allows, according to the Ledger; without a Ledger everything is hashed.
	ContentsBudget time.Duration
	// Policy says how old a remembered check may be. With the zero value none counts.
	Policy ledger.Policy
	// NoticeBefore is how long before a release expires, or its key does, the report says
	// so; 0 for never.
	NoticeBefore time.Duration
	// StrictEntries says that an entry of the boot menu that leads to no accepted
	// release is drift, even if nobody is led there who does not choose it.
	StrictEntries bool
	// Machine says which parts of the running machine are checked.
	Machine running.Policy
	// Skip are the tiers that the operator left out.
	Skip []report.TierName
	// Unsafe names, for the report, what weakens this run.
	Unsafe []string
	// Died names the run before this one, if it died; "" if it did not.
	Died string
	Log  zerolog.Logger
	// Host, Tool: for the report.
	Host, Tool string

	namesOf func(dir string) []fileSystemName // for tests; nil for those that udev has
}

// run is one verification in progress. A tier passes data to later tiers in its result,
// which it alone sets.
type run struct {
	*Verifier
	opened
	compared // of the release tier
	live     liveResult
	contents contentsResult
	// rebuilt are the hashes of the outputs that the rebuild tier built, by path.
	rebuilt map[closure.StorePath]nar.Hash

	progress  *Progress
	report    *report.Report
	recorder  Recorder // nil where nothing is remembered
	forgotten bool     // the report says that something is not remembered
	absent    bool     // the candidate never was on this machine
	planning  bool     // nothing is compared; see findLeads
	logged    int      // findings
}

// opened has what the first tier that needs it looks up on the machine, once.
type opened struct {
	store *nixstore.Store // nil until openStore
	// accesses are the results of the first check of the store's permissions, before anything
	// contacted Nix's daemon, which repairs its mode.
	accesses []nixstore.Access
	database *nixstore.Database // nil until openDatabase
	source   *source            // nil until findSource
	// generations are the links of system profiles, by where they lead; nil until
	// they are asked for.
	generations map[closure.StorePath]string
	// identified are the results of identify.
	identified map[closure.StorePath]*candidate
	// specialised is the last result of specialisationOf.
	specialised *specialised
	// mountedOver maps a directory that was to be read to the cause of the finding about
	// the mount over it.
	mountedOver map[string]report.Cause
	bootReader  *bootReader // nil except while boot files are checked
}

// Verify runs every tier and returns the report. It returns no error: what could not be
// done is a finding. When ctx ends, the current tier is reported as failed and the rest
// as skipped. The progress may be nil.
func (v *Verifier) Verify(ctx context.Context, progress *Progress) *report.Report {
	r := v.begin(progress)
	if r.Died != "" {
		r.find(report.Finding{Tier: report.TierRelease, Cause: report.RunDied, Detail: r.Died})
	}
	if r.ToRebuild && r.Rebuilder == nil {
		r.find(report.Finding{Tier: report.TierRebuild, Cause: report.NoneChosen, Detail: "rebuild.choice is none"})
	}
	r.beginRemembering(ctx)
	for _, t := range tiers() {
		r.tier(ctx, t)
		if t.name == report.TierRelease {
			r.lookForCandidate(ctx)
		}
	}
	r.conclude()
	r.reportPauses()
	r.endRemembering(ctx)
	return r.end()
}

// Manifest runs the release tier alone and returns the manifest that a run would compare
// with, nil if there is none, and the report of that tier.
func (v *Verifier) Manifest(ctx context.Context) (*closure.Manifest, *report.Report) {
	r := v.begin(nil)
	r.tier(ctx, tiers()[0])
	return r.manifest, r.end()
}

func (v *Verifier) begin(progress *Progress) *run {
	if progress == nil {
		progress = new(Progress)
	}
	progress.pacer.Store(v.Pacer)
	r := &run{Verifier: v, progress: progress, report: &report.Report{
		Started: time.Now(), Host: v.Host, StoreRoot: v.Root, Tool: v.Tool,
		Configuration: v.Configuration, Unsafe: slices.Clone(v.Unsafe),
		Candidate: v.System, Coverage: report.Coverage{Read: v.Read},
	}}
	if v.Root == "/" {
		r.report.StoreRoot = ""
	}
	return r
}

func (r *run) end() *report.Report {
	if r.database != nil {
		r.database.Close()
	}
	if r.store != nil {
		r.store.Close()
	}
	if r.report.Finished.IsZero() {
		r.report.Finished = time.Now()
	}
	r.logFound()
	r.report.Sort()
	return r.report
}

// failure ends a tier: its check could not be made.
type failure struct {
	cause report.Cause
	path  string
	err   error
	// consequence is the cause of a finding that explains it, if there is one.
	consequence report.Cause
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// elsewhereError ends a tier that can't be run here, which a notice says.
type elsewhereError struct {
	cause report.Cause // of the notice
	path  string
	why   string
}

func (e *elsewhereError) Error() string { return e.why }

// tier runs one tier and records how it ended.
func (r *run) tier(ctx context.Context, tier tier) {
	name := tier.name
	t := report.Tier{Name: name, Asked: true}
	if tier.unasked != nil {
		if why := tier.unasked(r.Verifier); why != "" {
			t.Status, t.Why, t.Asked = report.Skipped, why, false
			r.report.Tiers = append(r.report.Tiers, t)
			return
		}
	}
	var grace time.Duration
	if tier.grace != nil {
		grace = tier.grace(r.Verifier)
	}
	r.progress.enter(name, grace)
	begin := time.Now()
	switch {
	case slices.Contains(r.Skip, name):
		t.Status, t.Why, t.Asked = report.Skipped, "skipped on request", false
		r.find(report.Finding{Tier: name, Cause: report.CheckSkipped, Detail: fmt.Sprintf("the %s tier was not run", name)})
	case ctx.Err() != nil:
		t.Status, t.Why = report.Skipped, "the run was ended"
		r.noteEnd(name)
	case name != report.TierRelease && r.manifest == nil:
		t.Status, t.Why = report.Skipped, "there is no trusted release to compare with"
	case r.absent:
		t.Status, t.Why = report.Skipped, "the system is not here"
	default:
		err := tier.check(r, ctx, &t)
		var elsewhere *elsewhereError
		switch {
		case errors.As(err, &elsewhere):
			t.Status, t.Why, t.Asked = report.Skipped, elsewhere.why, false
			r.find(report.Finding{Tier: name, Cause: elsewhere.cause, Path: elsewhere.path, Detail: elsewhere.why})
		case err != nil:
			t.Status, t.Why = report.Failed, r.fail(ctx, name, err)
		default:
			t.Status = report.Done
		}
	}
	t.Took = time.Since(begin)
	r.report.Tiers = append(r.report.Tiers, t)
	r.logFound()
	event := r.Log.Info().Str("tier", string(name)).Str("status", string(t.Status)).Int("checked", t.Checked).
		Stringer("took", t.Took.Round(time.Millisecond))
	if t.Why != "" {
		event = event.Str("why", t.Why)
	}
	event.Msg("tier ended")
}

// noteEnd adds the finding that the run was ended before the tier name began,
// unless a tier under way has said so.
func (r *run) noteEnd(name report.TierName) {
	if !slices.ContainsFunc(r.report.Findings, func(f report.Finding) bool { return f.Cause == report.Interrupted }) {
		r.find(report.Finding{Tier: name, Cause: report.Interrupted, Detail: fmt.Sprintf("it was ended before the %s tier", name)})
	}
}

// fail turns the error that ended a tier into its finding, and returns the
// tier's Why.
func (r *run) fail(ctx context.Context, name report.TierName, err error) string {
	f := report.Finding{Tier: name, Detail: err.Error()}
	var failed *failure
	switch {
	case ctx.Err() != nil:
		f.Cause, f.Detail = report.Interrupted, fmt.Sprintf("the %s tier was stopped before its end", name)
	case errors.As(err, &failed):
		f.Cause, f.Path, f.ConsequenceOf = failed.cause, failed.path, failed.consequence
	default:
		f.Cause = report.Unreadable
	}
	r.find(f)
	return report.Title(f.Cause)
}

// find adds a finding to the report.
func (r *run) find(f report.Finding) { r.report.Findings = append(r.report.Findings, f) }

// logFound logs the findings since the last call: only at the end of a tier are they
// complete, for instance with the release that they concern.
func (r *run) logFound() {
	for ; r.logged < len(r.report.Findings); r.logged++ {
		f := &r.report.Findings[r.logged]
		e := r.Log.Warn()
		if f.Class() == report.Notice {
			e = r.Log.Info()
		}
		if f.Release != "" {
			e = e.Str("release", f.Release)
		}
		e.Str("tier", string(f.Tier)).Str("cause", string(f.Cause)).Str("class", string(f.Class())).
			Str("path", f.Path).Str("want", f.Want).Str("got", f.Got).Msg(report.Title(f.Cause))
	}
}

// openStore opens the store once, for the first tier that needs it.
func (r *run) openStore() (*nixstore.Store, error) {
	if r.store == nil {
		store, err := nixstore.OpenStore(r.Root, r.StoreDir)
		if err != nil {
			return nil, &failure{cause: report.Unreadable, path: string(r.StoreDir), err: err}
		}
		r.store = store
		// If it fails now, it fails again later, and is reported then.
		r.accesses, _ = store.Accesses()
	}
	return r.store, nil
}

// openDatabase opens the Nix database once, for the first tier that needs it, because it
// makes a copy, which takes time and space.
func (r *run) openDatabase(ctx context.Context) (*nixstore.Database, error) {
	if r.database == nil {
		database, err := nixstore.OpenDatabase(ctx, r.Root, r.StoreDir)
		if err != nil {
			return nil, err
		}
		r.database = database
	}
	return r.database, nil
}

// outside reports whether another machine's store is examined.
func (v *Verifier) outside() bool { return v.Root != "" && v.Root != "/" }

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
