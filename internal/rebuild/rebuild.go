package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"every.channel/ec-verify/internal/flakelock"
	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Nix is the part of package nix that a rebuild uses.
type Nix interface {
	Register(ctx context.Context, s nix.Scratch, infos []closure.PathInfo) error
	InstantiateIn(ctx context.Context, s nix.Scratch, r nix.EvalRequest) (nix.Evaluation, error)
	BuildIn(ctx context.Context, s, derivations nix.Scratch, drv closure.StorePath) error
	Fetch(ctx context.Context, s nix.Scratch, r nix.FetchRequest) error
	CheckSignatures(ctx context.Context, s nix.Scratch, paths []closure.StorePath) error
}

// Memory remembers rebuilds from run to run.
type Memory interface {
	// LastRebuilt receives all derivations that the policy selects, in ascending order,
	// and returns when each was last rebuilt; nil if that is unknown.
	LastRebuilt(ctx context.Context, all []Step) map[closure.StorePath]Last
	// RecordRebuild remembers a result as soon as it exists. It is called by one
	// goroutine at a time, and not for steps that were not reached.
	RecordRebuild(r *Result)
}

// Substitution says where missing build inputs are fetched from. The zero value fetches
// nothing.
type Substitution struct {
	// Wanted turns fetching on: from From or, if that is empty, from the substituters
	// that Nix is configured with.
	Wanted bool
	From   []string
}

// Limits bound a run. Zero means no limit, unless stated otherwise.
type Limits struct {
	// Budget is how long a run starts builds, apart from the first one; Build is how long
	// a single build may take. A run takes at most both together and the time of the
	// evaluation.
	Budget, Build time.Duration
	// Scratch is how many bytes of disk one build may take, Reserve how many bytes of the
	// file system stay free.
	Scratch, Reserve int64
	// Jobs is how many builds run at once; 0 means 1.
	Jobs int
}

// Rebuilder rebuilds derivations. Its fields are set before use. Concurrent runs need
// separate directories.
type Rebuilder struct {
	Nix Nix
	// Dir is the absolute path of the scratch directory, which is created if needed and
	// used for nothing else.
	Dir    string
	Policy Policy
	Limits Limits
	// Substitution says where missing build inputs come from.
	Substitution Substitution
	// Ready, if not nil, is called before each step and may wait until the machine has
	// room for it, but no longer than until the given time, the end of the budget; the
	// zero time is no limit. Its error is that of its context.
	Ready func(ctx context.Context, until time.Time) error
	// Turn selects the share of a sample if nothing is remembered.
	Turn int
}

// Request says what to rebuild.
type Request struct {
	// Root is the root of the machine's file tree; "" means "/".
	Root     string
	Manifest *closure.Manifest
	// Source is the flake's source in the machine's store.
	Source closure.StorePath
	Memory Memory // nil remembers nothing
}

// DriftError means that the flake evaluates to another derivation than the manifest's, so
// that a rebuild says nothing about the manifest.
type DriftError struct{ Want, Got closure.StorePath }

func (e *DriftError) Error() string {
	return fmt.Sprintf("the flake evaluates to %s, not to %s", e.Got, e.Want)
}

// Error means that no derivation could be rebuilt. It says whether an input of the flake
// itself is bad or missing.
type Error struct {
	Status Status // InputBad, InputMissing, NoRoom or Unavailable
	Input  Input  // of InputBad and InputMissing
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *Error) Unwrap() error { return e.Err }

// Progress counts how far a run has come. The zero value is ready to use; all methods are
// safe for concurrent use.
type Progress struct {
	done, total atomic.Int64
	current     atomic.Pointer[closure.StorePath]
}

// ProgressSnapshot is a copy of the counts of a [Progress].
type ProgressSnapshot struct {
	Done, Total int64             // derivations; Total is 0 until it is known
	Current     closure.StorePath // begun last; "" before the first
}

// Snapshot returns the current counts.
func (p *Progress) Snapshot() ProgressSnapshot {
	s := ProgressSnapshot{Done: p.done.Load(), Total: p.total.Load()}
	if c := p.current.Load(); c != nil {
		s.Current = *c
	}
	return s
}

// Rebuild makes one run. Its error is a [*DriftError], an [*Error], or that of ctx if it
// ended before anything was built; the summary is then nil. If ctx ends later, the
// results of completed steps are kept. The progress may be nil.
func (r *Rebuilder) Rebuild(ctx context.Context, req Request, p *Progress) (*Summary, error) {
	if p == nil {
		p = new(Progress)
	}
	run, err := r.begin(ctx, req, p)
	if err != nil {
		if run != nil {
			err = errors.Join(err, run.close())
		}
		return nil, classify(ctx, err)
	}
	if want := req.Manifest.Toplevel.DrvPath; run.toplevel != want {
		return nil, classify(ctx, errors.Join(&DriftError{Want: want, Got: run.toplevel}, run.close()))
	}
	summary := run.all(ctx)
	if err := run.close(); err != nil {
		return nil, classify(ctx, err)
	}
	return summary, nil
}

// classify turns an error that prevented a run into the exported one.
func classify(ctx context.Context, err error) error {
	var drift *DriftError
	var input *inputError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &drift):
		return drift
	case errors.As(err, &input):
		return &Error{Status: input.status, Input: input.input, Err: err}
	case errors.Is(err, errNoRoom):
		return &Error{Status: NoRoom, Err: err}
	}
	return &Error{Status: Unavailable, Err: err}
}

// run is one run under way.
type run struct {
	*Rebuilder
	req      Request
	progress *Progress
	scratch  *scratch
	space    space
	temp     string

	inputs      *inputs
	graph       nixstore.Graph
	toplevel    closure.StorePath // what was evaluated
	derivations nix.Scratch
	database    *nixstore.Database // the machine's; nil until asked for
	listed      map[closure.StorePath]map[string]string
	// built, if not nil, is called with the root of each store that has build outputs,
	// before it is removed.
	built func(ctx context.Context, root string) error
}

// begin locks the scratch directory and evaluates. It returns the run, which must be
// closed, also with an error.
func (r *Rebuilder) begin(ctx context.Context, req Request, p *Progress) (*run, error) {
	s, err := openScratch(r.Dir)
	if err != nil {
		return nil, err
	}
	run := &run{
		Rebuilder: r, req: req, progress: p, scratch: s,
		space:  space{path: s.path, limit: r.Limits.Scratch, reserve: r.Limits.Reserve},
		listed: make(map[closure.StorePath]map[string]string),
	}
	for _, u := range req.Manifest.Unreproducible {
		run.listed[u.DrvPath] = make(map[string]string)
		for _, name := range u.Outputs {
			run.listed[u.DrvPath][name] = u.Reason
		}
	}
	if err := run.space.check(); err != nil {
		return run, err
	}
	if run.temp, err = s.mkdir("temp"); err != nil {
		return run, err
	}
	return run, run.evaluate(ctx)
}

// Derivations evaluates the flake's source and returns all derivations of the system, and
// the system's own. Errors are those of [Rebuilder.Rebuild].
func (r *Rebuilder) Derivations(ctx context.Context, req Request) (nixstore.Graph, closure.StorePath, error) {
	run, err := r.begin(ctx, req, new(Progress))
	if run != nil {
		err = errors.Join(err, run.close())
	}
	if err != nil {
		return nil, "", classify(ctx, err)
	}
	return run.graph, run.toplevel, nil
}

// close removes everything that the run wrote.
func (r *run) close() error {
	var errs []error
	if r.inputs != nil {
		errs = append(errs, r.inputs.store.Close(), r.inputs.fetcher.close())
		if r.inputs.made != nil {
			errs = append(errs, r.inputs.made.close())
		}
	}
	if r.database != nil {
		errs = append(errs, r.database.Close())
	}
	return errors.Join(append(errs, r.scratch.close())...)
}

// all plans and takes the steps.
func (r *run) all(ctx context.Context) *Summary {
	candidates, uncomparable := Candidates(r.graph, r.req.Manifest)
	steps := r.Policy.Choose(r.graph, candidates)
	var last map[closure.StorePath]Last
	if r.req.Memory != nil {
		last = r.req.Memory.LastRebuilt(ctx, steps)
	}
	steps = r.Policy.Plan(steps, last, r.Turn)
	summary := &Summary{
		Candidates: len(candidates), Planned: len(steps), Unmatched: r.Policy.Unmatched(r.graph, candidates), Uncomparable: uncomparable,
		Results: make([]Result, len(steps)), Sampled: r.Policy.Choice == Sample,
	}
	r.progress.total.Store(int64(len(steps)))
	within := budget{limit: r.Limits.Budget, begin: time.Now()}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(max(1, r.Limits.Jobs))
	for i, step := range steps {
		g.Go(func() error {
			result := &summary.Results[i]
			*result = Result{Step: step, Status: NotReached}
			// Waiting is part of the budget, so it comes first.
			if r.ready(ctx, within.end()) && within.begins(&step) {
				*result = r.step(ctx, i, step)
			}
			r.progress.done.Add(1)
			if r.req.Memory != nil && result.Status != NotReached {
				mu.Lock()
				defer mu.Unlock()
				r.req.Memory.RecordRebuild(result)
			}
			return nil
		})
	}
	// A step returns no error: a failure is its result.
	_ = g.Wait()
	summary.Claimed = r.inputs.claimed()
	summary.Fetched, summary.Signed = r.inputs.fetched()
	summary.BudgetSpent = within.spent
	return summary
}

// ready waits for the machine, and reports whether the run continues.
func (r *run) ready(ctx context.Context, until time.Time) bool {
	return ctx.Err() == nil && (r.Ready == nil || r.Ready(ctx, until) == nil)
}

// claimed returns the inputs that only the database vouches for.
func (in *inputs) claimed() []closure.StorePath {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []closure.StorePath
	for p, k := range in.known {
		if k.in != nil && k.in.witness == ByDatabase {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// evaluate writes the flake's derivations into a scratch store and reads their graph.
func (r *run) evaluate(ctx context.Context) error {
	m := r.req.Manifest
	store, err := nixstore.OpenStore(r.req.Root, m.StoreDir)
	if err != nil {
		return err
	}
	r.inputs = &inputs{
		store: store, root: r.req.Root, manifest: m.Closure(), known: make(map[closure.StorePath]*knownInput),
		database: sync.OnceValues(func() (*nixstore.Database, error) {
			db, err := nixstore.OpenDatabase(ctx, r.req.Root, m.StoreDir)
			r.database = db
			return db, err
		}),
	}
	sources, err := r.sources(ctx, store)
	if err != nil {
		return err
	}
	if r.derivations.Dir, err = r.scratch.mkdir("derivations"); err != nil {
		return err
	}
	r.derivations.Temp = r.temp
	if r.derivations.Binds, err = place(r.derivations.Dir, sources); err != nil {
		return err
	}
	request := nix.EvalRequest{StoreDir: m.StoreDir, Configuration: m.Configuration, Dir: m.Source.Dir, Flake: sources[0].source()}
	for _, in := range sources[1:] {
		request.Inputs = append(request.Inputs, in.source())
	}
	var got nix.Evaluation
	err = r.space.guard(ctx, []string{r.derivations.Dir}, func(ctx context.Context) error {
		got, err = r.Nix.InstantiateIn(ctx, r.derivations, request)
		return err
	})
	if err != nil {
		return err
	}
	r.toplevel = got.DrvPath
	return r.readGraph(ctx, got.DrvPath)
}

// readGraph reads what the evaluation wrote.
func (r *run) readGraph(ctx context.Context, toplevel closure.StorePath) error {
	dir := r.req.Manifest.StoreDir
	store, err := nixstore.OpenStore(r.derivations.Dir, dir)
	if err != nil {
		return err
	}
	db, err := nixstore.OpenDatabase(ctx, r.derivations.Dir, dir)
	if err != nil {
		store.Close()
		return err
	}
	r.inputs.made = &made{dir: r.derivations.Dir, store: store, database: db}
	if r.graph, err = nixstore.ReadDerivations(ctx, store, toplevel); err != nil {
		return err
	}
	r.inputs.graph, r.inputs.fixed = r.graph, make(map[closure.StorePath]nixstore.Output)
	for _, d := range r.graph {
		for _, out := range d.Outputs {
			if out.Hash != "" && out.Path != "" {
				r.inputs.fixed[out.Path] = out
			}
		}
	}
	r.inputs.fetcher, err = r.newFetcher()
	return err
}

// sources returns the flake's source and those of its locked inputs that the machine has,
// each verified.
func (r *run) sources(ctx context.Context, store *nixstore.Store) ([]*input, error) {
	m := r.req.Manifest
	r.inputs.locked = map[closure.StorePath]nar.Hash{r.req.Source: m.Source.NarHash}
	flake, err := r.inputs.get(ctx, r.req.Source)
	if err != nil {
		return nil, err
	}
	sources := []*input{flake}
	// The file is part of the source, which was just verified.
	lock, err := store.ReadFile(r.req.Source, m.Source.LockFile(), flakelock.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return sources, nil // no inputs
	}
	if err != nil {
		return nil, err
	}
	locked, err := flakelock.Parse(m.StoreDir, lock)
	if err != nil {
		return nil, err
	}
	for _, in := range locked {
		r.inputs.locked[in.Path] = in.Hash
	}
	for p := range r.inputs.locked {
		exists, err := store.Exists(p)
		if err != nil {
			return nil, err
		}
		if !exists || p == r.req.Source {
			continue // if it is needed, the evaluation says so
		}
		in, err := r.inputs.get(ctx, p)
		if err != nil {
			return nil, err
		}
		sources = append(sources, in)
	}
	return sources, nil
}

// buildDir returns the name of step n's store within the scratch directory.
func buildDir(n int) string { return filepath.Join("builds", fmt.Sprint(n)) }
