package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// input is a verified path that something is built from.
type input struct {
	info    closure.PathInfo
	witness Witness
	// from is the file or directory to bind, in store.
	from  string
	store *nixstore.Store
	// fixed is set if the witness is ByDerivation.
	fixed *nixstore.Output
	// fetched means that the machine lacks the path.
	fetched bool
}

// inputError says why nothing can be built from a path.
type inputError struct {
	status Status // InputBad, InputMissing or Unavailable
	input  Input
	detail string
}

func (e *inputError) Error() string {
	switch e.status {
	case InputBad:
		return fmt.Sprintf("input %s differs from the %s: got %s, want %s", e.input.Path, e.input.Witness, e.input.Got, e.input.Want)
	case InputMissing:
		return fmt.Sprintf("input %s is missing: %s", e.input.Path, e.detail)
	}
	return fmt.Sprintf("input %s: %s", e.input.Path, e.detail)
}

// inputs finds paths that derivations are built from and verifies each once. It is safe
// for concurrent use.
type inputs struct {
	store    *nixstore.Store // the machine's
	root     string          // the directory of its file tree
	manifest closure.Closure
	locked   map[closure.StorePath]nar.Hash // by the lock file
	graph    nixstore.Graph
	fixed    map[closure.StorePath]nixstore.Output
	made     *made // by the evaluation; nil before it
	// fetcher fetches what the machine lacks; nil if the policy fetches nothing.
	fetcher *fetcher
	// database opens the machine's database, once.
	database func() (*nixstore.Database, error)

	mu    sync.Mutex
	known map[closure.StorePath]*knownInput
}

// knownInput is the result of a request for an input.
type knownInput struct {
	once sync.Once
	in   *input
	err  error
}

// made is what the evaluation wrote to the scratch store dir.
type made struct {
	dir      string
	store    *nixstore.Store
	database *nixstore.Database
}

func (m *made) close() error { return errors.Join(m.store.Close(), m.database.Close()) }

// of returns everything that d is built from: the paths that it names and all their
// references, in ascending order. An error is an *inputError, that of ctx, or wraps
// errNoRoom.
func (in *inputs) of(ctx context.Context, d *nixstore.Derivation) ([]*input, error) {
	var todo []closure.StorePath
	for drv, names := range d.InputDerivations {
		for _, name := range names {
			out, ok := in.graph[drv].Outputs[name]
			if !ok || out.Path == "" {
				return nil, &inputError{
					status: Unavailable, input: Input{Path: drv},
					detail: fmt.Sprintf("the path of its output %q is not known before the build", name),
				}
			}
			todo = append(todo, out.Path)
		}
	}
	todo = append(todo, d.InputSources...)
	// Sorted, so that the same path is named first each time.
	slices.Sort(todo)
	found := make(map[closure.StorePath]*input)
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		if found[p] != nil {
			continue
		}
		i, err := in.get(ctx, p)
		if err != nil {
			return nil, err
		}
		found[p] = i
		todo = append(todo, i.info.References...)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *input) int { return cmp.Compare(a.info.Path, b.info.Path) }), nil
}

// get finds and verifies a path, once.
func (in *inputs) get(ctx context.Context, p closure.StorePath) (*input, error) {
	in.mu.Lock()
	k := in.known[p]
	if k == nil {
		k = new(knownInput)
		in.known[p] = k
	}
	in.mu.Unlock()
	k.once.Do(func() { k.in, k.err = in.find(ctx, p) })
	if k.err != nil && ctx.Err() == nil && (errors.Is(k.err, context.Canceled) || errors.Is(k.err, context.DeadlineExceeded)) {
		// The time of another request was up, not of this one.
		return in.find(ctx, p)
	}
	return k.in, k.err
}

// find compares the disk with the best witness for p. If the policy allows, a path that
// the machine lacks is fetched and compared with the same witness.
func (in *inputs) find(ctx context.Context, p closure.StorePath) (*input, error) {
	i, err := in.identify(ctx, p)
	if err == nil {
		err = i.verify(ctx)
	}
	var missing *inputError
	if in.fetcher != nil && errors.As(err, &missing) && missing.status == InputMissing {
		return in.fetch(ctx, i, missing)
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}

// identify finds the best witness for p, and where p is. It returns an input, of an
// unknown path, also with an error.
func (in *inputs) identify(ctx context.Context, p closure.StorePath) (*input, error) {
	i := &input{info: closure.PathInfo{Path: p}, from: path.Join("/", in.root, string(p)), store: in.store}
	if hash, ok := in.locked[p]; ok {
		// Before the manifest: the caller says which source is evaluated.
		i.info.NarHash, i.witness = hash, ByLock
		return i, nil
	}
	if info, ok := in.manifest[p]; ok {
		i.info, i.witness = info, ByManifest
		return i, nil
	}
	if out, ok := in.fixed[p]; ok {
		i.fixed, i.witness = &out, ByDerivation
		return i, nil
	}
	info, err := in.byEvaluation(ctx, p)
	if err != nil {
		return i, err
	}
	if info != nil {
		i.info, i.witness, i.from, i.store = *info, ByEvaluation, path.Join(in.made.dir, string(p)), in.made.store
		return i, nil
	}
	if in.fetcher != nil && in.fetcher.found(i) {
		return i, nil
	}
	if info, err = in.byDatabase(ctx, p); err != nil {
		return i, err
	}
	if info == nil {
		return i, &inputError{status: InputMissing, input: Input{Path: p}, detail: "neither the release nor this machine has it"}
	}
	i.info, i.witness = *info, ByDatabase
	return i, nil
}

// verify compares the path on disk with what i should be.
func (i *input) verify(ctx context.Context) error {
	wrong := &inputError{input: Input{Path: i.info.Path, Witness: i.witness, Want: i.info.NarHash}}
	sum, err := hashPath(ctx, i.store, i.info)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && i.fixed != nil:
		return i.checkFixed(ctx, *i.fixed, sum)
	case err == nil:
		return i.check(sum)
	case isMissing(err, i.info.Path):
		wrong.status, wrong.detail = InputMissing, "it is not on the disk"
	case errors.Is(err, nar.ErrUnsupported), errors.Is(err, nar.ErrTooLarge) && i.info.NarSize > 0:
		// No NAR can represent it, or none of the expected size.
		wrong.status, wrong.detail = InputBad, err.Error()
	default:
		wrong.status, wrong.detail = Unavailable, err.Error()
	}
	return wrong
}

// check compares the observed sum with the wanted one.
func (i *input) check(sum nar.Sum) error {
	if sum.Hash != i.info.NarHash {
		return &inputError{status: InputBad, input: Input{Path: i.info.Path, Witness: i.witness, Want: i.info.NarHash, Got: sum.Hash}}
	}
	i.info.NarSize = sum.Size
	return nil
}

// checkFixed compares a path with the content hash that its derivation states.
func (i *input) checkFixed(ctx context.Context, out nixstore.Output, sum nar.Sum) error {
	i.info.NarHash, i.info.NarSize = sum.Hash, sum.Size
	bad := &inputError{status: InputBad, input: Input{Path: i.info.Path, Witness: ByDerivation, Got: sum.Hash}}
	want, got, err := fixedContent(ctx, i.from, out, sum)
	switch {
	case err != nil:
		bad.status, bad.detail = Unavailable, err.Error()
		return bad
	case want != got:
		bad.detail = fmt.Sprintf("its contents are %s, not %s", got, want)
		return bad
	}
	return nil
}

// byEvaluation returns what the evaluation wrote at p; nil if nothing.
func (in *inputs) byEvaluation(ctx context.Context, p closure.StorePath) (*closure.PathInfo, error) {
	if in.made == nil {
		return nil, nil
	}
	return pathInfo(ctx, in.made.database, p)
}

// byDatabase returns the claim of this machine's database about p; nil if there is none.
func (in *inputs) byDatabase(ctx context.Context, p closure.StorePath) (*closure.PathInfo, error) {
	db, err := in.database()
	if err != nil {
		return nil, &inputError{status: InputMissing, input: Input{Path: p}, detail: fmt.Sprintf("the release lacks it, and this machine's copy is unreadable: %v", err)}
	}
	return pathInfo(ctx, db, p)
}

func pathInfo(ctx context.Context, db *nixstore.Database, p closure.StorePath) (*closure.PathInfo, error) {
	info, err := db.PathInfo(ctx, p)
	var row *nixstore.RowError
	switch {
	case err == nil:
		return &info, nil
	case errors.Is(err, nixstore.ErrNotValid):
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &row):
		return nil, &inputError{status: InputBad, input: Input{Path: p, Witness: ByDatabase}, detail: row.Error()}
	}
	return nil, &inputError{status: Unavailable, input: Input{Path: p, Witness: ByDatabase}, detail: err.Error()}
}

// again hashes verified inputs a second time and returns the first that changed.
func (in *inputs) again(ctx context.Context, all []*input) error {
	for _, i := range all {
		sum, err := hashPath(ctx, i.store, i.info)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && sum.Hash == i.info.NarHash:
			continue
		}
		bad := &inputError{status: InputBad, input: Input{Path: i.info.Path, Witness: i.witness, Want: i.info.NarHash, Got: sum.Hash}, detail: "it changed during a build that used it"}
		if err != nil && !errors.Is(err, nar.ErrTooLarge) {
			bad.status, bad.detail = Unavailable, err.Error()
		}
		return bad
	}
	return nil
}

// maxUnknown limits, in bytes, the NAR of a path of unknown size: one whose hash a
// derivation or the lock file states. All of nixpkgs is less than 1 GiB, the largest
// downloads are some GiB.
const maxUnknown = 64 << 30

// largest returns how much of a path's NAR is read. A path that is far larger than
// expected differs in any case; one that is a little larger is read to its end, because
// its sum may identify it.
func largest(info closure.PathInfo) int64 {
	const atLeast = 1 << 30
	if info.NarSize <= 0 {
		return maxUnknown
	}
	return info.NarSize + max(info.NarSize, atLeast)
}

// hashPath hashes a path from disk, and again if it changed while it was read. For its
// memory see read.
func hashPath(ctx context.Context, store *nixstore.Store, info closure.PathInfo) (nar.Sum, error) {
	h := nar.NewHasher(nar.Options{MaxSize: largest(info)})
	sum, err := h.Sum(ctx, store.File(), info.Path.Base())
	if errors.Is(err, nar.ErrChanged) && ctx.Err() == nil {
		sum, err = h.Sum(ctx, store.File(), info.Path.Base())
	}
	return sum, err
}

// isMissing reports whether err means that p does not exist, as opposed to a file within
// it that disappeared.
func isMissing(err error, p closure.StorePath) bool {
	var at *nar.PathError
	return errors.As(err, &at) && at.Path == p.Base() && errors.Is(err, fs.ErrNotExist) && !errors.Is(err, nar.ErrChanged)
}
