package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// fetcher fetches build inputs that the machine lacks into a scratch store of the run,
// from which they are bound into builds like all others. It is safe for concurrent use.
//
// Nothing that is under test comes from there: a build has no substituters itself, and
// fixed outputs, which are compared without a build, are not taken from it.
type fetcher struct {
	nix      Nix
	from     []string // substituters; none for those that Nix is configured with
	store    nix.Scratch
	storeDir closure.StoreDir
	space    space
	// limit is the time limit of each fetch, and of all failed fetches together: an
	// unreachable substituter costs its timeout each time.
	limit time.Duration
	// present are paths that the machine has with all their references. They are not
	// fetched again with what refers to them.
	present []closure.PathInfo
	// known reports whether a witness other than a substituter knows the path.
	known func(closure.StorePath) bool

	mu     sync.Mutex
	begun  bool
	opened *nixstore.Store // nil before anything was fetched
	infos  map[closure.StorePath]closure.PathInfo
	wasted time.Duration
}

// newFetcher returns the fetcher of a run; nil if the policy fetches nothing.
func (r *run) newFetcher() (*fetcher, error) {
	if !r.Substitution.Wanted {
		return nil, nil
	}
	in := r.inputs
	f := &fetcher{
		nix: r.Nix, from: r.Substitution.From, storeDir: r.req.Manifest.StoreDir, space: r.space, limit: r.Limits.Build,
		present: in.present(), infos: make(map[closure.StorePath]closure.PathInfo),
		known: func(p closure.StorePath) bool {
			_, manifest := in.manifest[p]
			_, locked := in.locked[p]
			_, fixed := in.fixed[p]
			return manifest || locked || fixed
		},
	}
	var err error
	if f.store.Dir, err = r.scratch.mkdir("fetched"); err != nil {
		return nil, err
	}
	f.store.Temp = r.temp
	return f, nil
}

// present returns the manifest's paths that exist on the machine together with all their
// references.
func (in *inputs) present() []closure.PathInfo {
	const (
		asked = iota + 1 // still being asked; paths refer to themselves
		here
		gone
	)
	state := make(map[closure.StorePath]int, len(in.manifest))
	var look func(closure.StorePath) bool
	look = func(p closure.StorePath) bool {
		if s := state[p]; s != 0 {
			return s != gone
		}
		state[p] = asked
		info, ok := in.manifest[p]
		exists, err := in.store.Exists(p)
		ok = ok && err == nil && exists
		for _, ref := range info.References {
			ok = ok && look(ref)
		}
		if state[p] = here; !ok {
			state[p] = gone
		}
		return ok
	}
	var infos []closure.PathInfo
	for _, p := range in.manifest.Paths() {
		if look(p) {
			infos = append(infos, in.manifest[p])
		}
	}
	return infos
}

// get fetches a path once. The error is that of ctx, wraps errNoRoom, or says why the
// path is unavailable.
func (f *fetcher) get(ctx context.Context, p closure.StorePath) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.infos[p]; ok {
		return nil
	}
	if f.limit > 0 && f.wasted >= f.limit {
		return fmt.Errorf("nothing more is fetched after %s without success", f.limit)
	}
	begin := time.Now()
	err := f.fetch(ctx, p)
	if err != nil {
		f.wasted += time.Since(begin)
	}
	return err
}

func (f *fetcher) fetch(ctx context.Context, p closure.StorePath) error {
	if err := f.space.check(); err != nil {
		return err
	}
	if !f.begun {
		if err := f.nix.Register(ctx, f.store, f.present); err != nil {
			return err
		}
		f.begun = true
	}
	err := f.space.guard(ctx, []string{f.store.Dir, f.store.Temp}, func(ctx context.Context) error {
		return f.nix.Fetch(ctx, f.store, nix.FetchRequest{Path: p, From: f.from, Timeout: f.limit})
	})
	if err != nil {
		return err
	}
	if f.opened == nil {
		if f.opened, err = nixstore.OpenStore(f.store.Dir, f.storeDir); err != nil {
			return err
		}
	}
	return f.note(ctx, p)
}

// note reads what was fetched along with p and checks its signatures.
func (f *fetcher) note(ctx context.Context, p closure.StorePath) error {
	db, err := nixstore.OpenDatabase(ctx, f.store.Dir, f.storeDir)
	if err != nil {
		return err
	}
	defer db.Close()
	all, malformed, err := db.Closure(ctx, p)
	switch {
	case err != nil:
		return err
	case len(malformed) > 0:
		return malformed[0]
	}
	for _, info := range f.present {
		delete(all, info.Path)
	}
	var unknown []closure.StorePath
	for _, q := range all.Paths() {
		if _, ok := f.infos[q]; !ok && !f.known(q) {
			unknown = append(unknown, q)
		}
	}
	if err := f.nix.CheckSignatures(ctx, f.store, unknown); err != nil {
		return err
	}
	maps.Copy(f.infos, all)
	if _, ok := f.infos[p]; !ok {
		return errors.New("it was on this machine a moment ago")
	}
	return nil
}

// found sets i to the path that was fetched, and reports whether there is one.
func (f *fetcher) found(i *input) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, ok := f.infos[i.info.Path]
	if ok {
		i.from, i.store, i.fetched = path.Join(f.store.Dir, string(info.Path)), f.opened, true
		switch i.witness {
		case ByManifest, ByLock, ByDerivation:
		default:
			i.info, i.witness = info, BySubstituter
		}
	}
	return ok
}

func (f *fetcher) close() error {
	if f == nil || f.opened == nil {
		return nil
	}
	return f.opened.Close()
}

// fetch fetches the missing part of i and compares it with what i should be. A path that
// is unavailable or different remains missing: the machine is not to blame.
func (in *inputs) fetch(ctx context.Context, i *input, missing *inputError) (*input, error) {
	still := func(why error) (*input, error) {
		missing.detail += "; " + why.Error()
		return nil, missing
	}
	err := in.fetcher.get(ctx, i.info.Path)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, errNoRoom):
		return nil, err
	case err != nil:
		return still(err)
	}
	fetched := &input{info: i.info, witness: i.witness, fixed: i.fixed}
	if !in.fetcher.found(fetched) {
		return still(errors.New("the fetched path has disappeared"))
	}
	var bad *inputError
	err = fetched.verify(ctx)
	switch {
	case errors.As(err, &bad):
		return still(fmt.Errorf("the fetched path differs: got %s, want %s by the %s", bad.input.Got, bad.input.Want, fetched.witness))
	case err != nil:
		return nil, err
	}
	return fetched, nil
}

// fetched returns, in ascending order, the inputs that were fetched and used, and how
// many of them only a signature vouches for.
func (in *inputs) fetched() (paths []closure.StorePath, signed int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for p, k := range in.known {
		if k.in == nil || !k.in.fetched {
			continue
		}
		paths = append(paths, p)
		if k.in.witness == BySubstituter {
			signed++
		}
	}
	slices.Sort(paths)
	return paths, signed
}
