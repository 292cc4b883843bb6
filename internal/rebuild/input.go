package rebuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/nix-community/go-nix/pkg/nixhash"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// input is a path that something is built from, as it was found and verified.
type input struct {
	info    closure.PathInfo
	witness Witness
	// from is the file or directory to bind.
	from string
}

// inputError says why a path cannot be built from.
type inputError struct {
	status Status // InputBad, InputMissing or Unavailable
	input  Input
	detail string
}

func (e *inputError) Error() string {
	switch e.status {
	case InputBad:
		return fmt.Sprintf("input %s is not what the %s says: got %s, want %s", e.input.Path, e.input.Witness, e.input.Got, e.input.Want)
	case InputMissing:
		return fmt.Sprintf("input %s is missing: %s", e.input.Path, e.detail)
	}
	return fmt.Sprintf("input %s: %s", e.input.Path, e.detail)
}

// inputs finds paths that derivations are built from, and verifies each once.
// It is safe for concurrent use.
type inputs struct {
	store    *nixstore.Store // the machine's
	root     string          // where its file tree lies
	manifest closure.Closure
	locked   map[closure.StorePath]nar.Hash // by the lock file
	graph    nixstore.Graph
	fixed    map[closure.StorePath]nixstore.Output
	made     *made // by the evaluation; nil before it
	// database opens the machine's database, once.
	database func() (*nixstore.Database, error)

	mu    sync.Mutex
	known map[closure.StorePath]*knownInput
}

// knownInput is an input that was asked for.
type knownInput struct {
	once sync.Once
	in   *input
	err  error
}

// made is what the evaluation wrote, in the scratch store dir.
type made struct {
	dir      string
	store    *nixstore.Store
	database *nixstore.Database
}

func (m *made) close() error { return errors.Join(m.store.Close(), m.database.Close()) }

// of returns all that d is built from: what it names, and everything that this
// refers to, in ascending order. An error is an *inputError, or that of ctx.
func (in *inputs) of(ctx context.Context, d *nixstore.Derivation) ([]*input, error) {
	var todo []closure.StorePath
	for drv, names := range d.InputDerivations {
		for _, name := range names {
			out, ok := in.graph[drv].Outputs[name]
			if !ok || out.Path == "" {
				return nil, &inputError{
					status: Unavailable, input: Input{Path: drv},
					detail: fmt.Sprintf("where its output %q lies is not known beforehand", name),
				}
			}
			todo = append(todo, out.Path)
		}
	}
	todo = append(todo, d.InputSources...)
	// In this order so that the same path is named first each time.
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
	all := make([]*input, 0, len(found))
	for _, i := range found {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *input) int { return compare(a.info.Path, b.info.Path) })
	return all, nil
}

func compare(a, b closure.StorePath) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// get finds and verifies one path, the first time that it is asked for.
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
		// It was somebody else's time that was up.
		return in.find(ctx, p)
	}
	return k.in, k.err
}

// find looks for whoever knows best what p is, and holds the disk to it.
func (in *inputs) find(ctx context.Context, p closure.StorePath) (*input, error) {
	i := &input{info: closure.PathInfo{Path: p}, from: path.Join("/", in.root, string(p))}
	store := in.store
	check := func(sum nar.Sum) error { return i.check(sum) }
	if hash, ok := in.locked[p]; ok {
		// Before the manifest, since the caller says which source is evaluated.
		i.info.NarHash, i.witness = hash, ByLock
	} else if info, ok := in.manifest[p]; ok {
		i.info, i.witness = info, ByManifest
	} else if out, ok := in.fixed[p]; ok {
		i.witness = ByDerivation
		check = func(sum nar.Sum) error { return i.checkFixed(ctx, out, sum) }
	} else if info, err := in.byEvaluation(ctx, p); err != nil {
		return nil, err
	} else if info != nil {
		i.info, i.witness, i.from, store = *info, ByEvaluation, path.Join(in.made.dir, string(p)), in.made.store
	} else if info, err := in.byDatabase(ctx, p); err != nil {
		return nil, err
	} else if info != nil {
		i.info, i.witness = *info, ByDatabase
	} else {
		return nil, &inputError{status: InputMissing, input: Input{Path: p}, detail: "neither the release nor this machine has it"}
	}
	sum, err := hashPath(ctx, store, p)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case isMissing(err, p):
		return nil, &inputError{status: InputMissing, input: Input{Path: p, Witness: i.witness, Want: i.info.NarHash}, detail: "it is not on the disk"}
	case errors.Is(err, nar.ErrUnsupported):
		return nil, &inputError{status: InputBad, input: Input{Path: p, Witness: i.witness, Want: i.info.NarHash}, detail: err.Error()}
	case err != nil:
		return nil, &inputError{status: Unavailable, input: Input{Path: p, Witness: i.witness, Want: i.info.NarHash}, detail: err.Error()}
	}
	if err := check(sum); err != nil {
		return nil, err
	}
	return i, nil
}

// check holds what was hashed to what is wanted.
func (i *input) check(sum nar.Sum) error {
	if sum.Hash != i.info.NarHash {
		return &inputError{status: InputBad, input: Input{Path: i.info.Path, Witness: i.witness, Want: i.info.NarHash, Got: sum.Hash}}
	}
	i.info.NarSize = sum.Size
	return nil
}

// checkFixed holds a path to the content that its derivation states.
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

// byEvaluation returns what the evaluation wrote at p, nil for nothing.
func (in *inputs) byEvaluation(ctx context.Context, p closure.StorePath) (*closure.PathInfo, error) {
	if in.made == nil {
		return nil, nil
	}
	return pathInfo(ctx, in.made.database, p)
}

// byDatabase returns what this machine's database claims of p, nil for nothing.
func (in *inputs) byDatabase(ctx context.Context, p closure.StorePath) (*closure.PathInfo, error) {
	db, err := in.database()
	if err != nil {
		return nil, &inputError{status: InputMissing, input: Input{Path: p}, detail: fmt.Sprintf("the release does not have it, and what this machine has cannot be told: %v", err)}
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

// again hashes inputs that were verified once more and returns the first that
// is not what it was.
func (in *inputs) again(ctx context.Context, all []*input) error {
	for _, i := range all {
		store := in.store
		if i.witness == ByEvaluation {
			store = in.made.store
		}
		sum, err := hashPath(ctx, store, i.info.Path)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && sum.Hash == i.info.NarHash:
			continue
		}
		bad := &inputError{status: InputBad, input: Input{Path: i.info.Path, Witness: i.witness, Want: i.info.NarHash, Got: sum.Hash}, detail: "it changed while something was built from it"}
		if err != nil {
			bad.status, bad.detail = Unavailable, err.Error()
		}
		return bad
	}
	return nil
}

// hashPath hashes a path from disk, a second time where it changed meanwhile.
func hashPath(ctx context.Context, store *nixstore.Store, p closure.StorePath) (nar.Sum, error) {
	h := nar.NewHasher(nar.Options{})
	sum, err := h.Sum(ctx, store.File(), p.Base())
	if errors.Is(err, nar.ErrChanged) && ctx.Err() == nil {
		sum, err = h.Sum(ctx, store.File(), p.Base())
	}
	return sum, err
}

// isMissing reports whether err says that there is nothing at p, as opposed to
// something in it having gone.
func isMissing(err error, p closure.StorePath) bool {
	var at *nar.PathError
	return errors.As(err, &at) && at.Path == p.Base() && errors.Is(err, fs.ErrNotExist) && !errors.Is(err, nar.ErrChanged)
}

// maxLockSize bounds a flake.lock in bytes.
const maxLockSize = 16 << 20

// lockedInputs returns the store paths of the inputs of a flake that its lock
// file states hashes of. Whether anything lies there is another matter: not
// every input is needed.
func lockedInputs(dir closure.StoreDir, lock []byte) (map[closure.StorePath]nar.Hash, error) {
	var v struct {
		Nodes map[string]struct {
			Locked struct {
				NarHash string `json:"narHash"`
			} `json:"locked"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(lock, &v); err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	locked := make(map[closure.StorePath]nar.Hash)
	for name, node := range v.Nodes {
		if node.Locked.NarHash == "" {
			continue // the flake itself
		}
		h, err := nar.ParseHash(node.Locked.NarHash)
		if err != nil {
			return nil, fmt.Errorf("lock file: input %q: %w", name, err)
		}
		locked[sourcePath(dir, h, "source")] = h
	}
	return locked, nil
}

// sourcePath returns the store path of a file tree that refers to nothing, as
// Nix computes it from its NAR hash.
func sourcePath(dir closure.StoreDir, h nar.Hash, name string) closure.StorePath {
	sum := sha256.Sum256([]byte("source:sha256:" + hex.EncodeToString(h[:]) + ":" + string(dir) + ":" + name))
	return closure.StorePath(string(dir) + "/" + nixbase32.EncodeToString(nixhash.CompressHash(sum[:], 20)) + "-" + name)
}
