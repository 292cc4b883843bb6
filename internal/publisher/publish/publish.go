package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"every.channel/ec-verify/internal/flakelock"
	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Request says what release to write.
type Request struct {
	Flake         string // a flake reference as nix takes it, without "#…"
	Configuration string
	OutDir        string
	StoreDir      closure.StoreDir
	// Tag, Commit, Created and BestBefore are for release.json. An empty Tag is derived
	// from the source; an empty Commit means the flake's own, if it has one.
	Tag        string
	Commit     string
	Created    time.Time
	BestBefore time.Time
	// Rebuilder, if set, builds what its policy selects a second time; outputs that
	// differ are listed in the manifest as unreproducible.
	Rebuilder Rebuilder
	// Previous is a manifest whose list of unreproducible derivations remains valid
	// unless a rebuild contradicts it; nil for none.
	Previous *closure.Manifest
}

// Progress counts how far Create has come. The zero value is ready to use; all methods
// are safe for concurrent use.
type Progress struct {
	Build nix.Progress
	Hash  nar.Progress
	// Rebuild is the progress of the second build.
	Rebuild rebuild.Progress
	paths   atomic.Int64
	total   atomic.Int64
	bytes   atomic.Int64
	stage   atomic.Pointer[string]
}

// Snapshot is a copy of the counts of a [Progress].
type Snapshot struct {
	Stage string // "evaluate", "build", "hash", "evaluate again", "rebuild", "write"
	// Of the stage "hash"; 0 in others.
	Paths, PathsTotal int64
	Bytes, BytesTotal int64
	// Built of BuildTotal derivations are built, in the stages "build" and "rebuild";
	// Current is the store path under way, "" for none. 0 in others.
	Built, BuildTotal int64
	Current           string
}

// Snapshot returns the current counts.
func (p *Progress) Snapshot() Snapshot {
	var s Snapshot
	if stage := p.stage.Load(); stage != nil {
		s.Stage = *stage
	}
	switch s.Stage {
	case "build":
		b := p.Build.Snapshot()
		s.Built, s.BuildTotal, s.Current = b.Done, b.Expected, b.Current
	case "hash":
		s.Paths, s.PathsTotal, s.Bytes, s.BytesTotal = p.paths.Load(), p.total.Load(), p.Hash.Snapshot().Bytes, p.bytes.Load()
	case "rebuild":
		r := p.Rebuild.Snapshot()
		s.Built, s.BuildTotal, s.Current = r.Done, r.Total, string(r.Current)
	}
	return s
}

func (p *Progress) enter(stage string) { p.stage.Store(&stage) }

// Result is the result of Create.
type Result struct {
	Manifest *closure.Manifest
	Tag      string
	Files    []string // names in the output directory
	// Embedded means that the system contains the flake that it was made from; without
	// it, the source of a machine can't be verified.
	Embedded bool
	// Untried says why the flake was not evaluated as a machine evaluates it; "" if it
	// was, or if the system does not contain it.
	Untried string
	// Naming is set if the flake evaluates to another system by its name.
	Naming *Naming
	// Rebuilt is how many derivations were built a second time. Reproduced are, by name,
	// those that the previous manifest lists as unreproducible and that reproduced this
	// time; they are no longer listed.
	Rebuilt    int
	Reproduced []string
}

// creation is the making of one configuration's files.
type creation struct {
	*nix.Nix
	req    Request
	p      *Progress
	store  *nixstore.Store
	src    nix.Source
	source closure.Source
	inputs []flakelock.Input
	graph  nixstore.Graph
}

// Create realises the configuration with n, hashes its closure from disk and writes the
// release's files for it into the output directory, which may contain those of other
// configurations of the same source. It writes all files or none.
func Create(ctx context.Context, n *nix.Nix, req Request, p *Progress) (*Result, error) {
	if err := closure.CheckConfiguration(req.Configuration); err != nil {
		return nil, err
	}
	out, err := openOutDir(req.OutDir)
	if err != nil {
		return nil, err
	}
	c := &creation{Nix: n, req: req, p: p}
	p.enter("evaluate")
	if c.src, err = n.FlakeSource(ctx, req.Flake); err != nil {
		return nil, err
	}
	if c.store, err = nixstore.OpenStore("", req.StoreDir); err != nil {
		return nil, err
	}
	defer c.store.Close()
	if c.source, err = hashSource(ctx, c.store, c.src); err != nil {
		return nil, err
	}
	if c.inputs, err = lockedInputs(c.store, c.src.Path, c.source); err != nil {
		return nil, err
	}
	eval, err := n.Instantiate(ctx, c.src, req.Configuration)
	if err != nil {
		return nil, err
	}
	// A root protects the closure from garbage collection while it is read.
	roots, err := os.MkdirTemp("", "ec-verify-roots-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(roots)
	m, files, err := c.build(ctx, eval, filepath.Join(roots, "toplevel"))
	if err != nil {
		return nil, err
	}
	return c.finish(ctx, out, m, files)
}

// build realises the evaluated system, with a root that keeps it, and hashes it.
func (c *creation) build(ctx context.Context, eval nix.Evaluation, root string) (*closure.Manifest, []closure.PathFiles, error) {
	c.p.enter("build")
	if _, err := c.Realise(ctx, eval.DrvPath, root, &c.p.Build); err != nil {
		return nil, nil, err
	}
	infos, err := registered(ctx, c.req.StoreDir, eval.OutPath)
	if err != nil {
		return nil, nil, err
	}
	files, err := hashAll(ctx, c.store, infos, c.p)
	if err != nil {
		return nil, nil, err
	}
	if c.graph, err = nixstore.ReadDerivations(ctx, c.store, eval.DrvPath); err != nil {
		return nil, nil, fmt.Errorf("read the derivations of %s: %w", eval.DrvPath, err)
	}
	if err := describeOrigin(c.graph, infos); err != nil {
		return nil, nil, err
	}
	return &closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: c.req.Configuration, System: eval.System, StoreDir: c.req.StoreDir, Source: c.source,
		Toplevel: closure.Toplevel{DrvPath: eval.DrvPath, OutPath: eval.OutPath},
		Paths:    infos, Unreproducible: []closure.Unreproducible{},
	}, files, nil
}

// finish evaluates and builds once more, and writes the files.
func (c *creation) finish(ctx context.Context, out *outDir, m *closure.Manifest, files []closure.PathFiles) (*Result, error) {
	naming, err := c.compareNaming(ctx, m.Toplevel.DrvPath)
	if err != nil {
		return nil, err
	}
	untried := ""
	if embedded(m, c.src.Path) {
		c.p.enter("evaluate again")
		if untried, err = c.tryEvaluation(ctx, m); err != nil {
			return nil, err
		}
	}
	second, err := rebuildAgain(ctx, c.req, c.src.Path, m, c.p)
	if err != nil {
		return nil, err
	}
	c.p.enter("write")
	looks, err := machine(ctx, c.store, m)
	if err != nil {
		return nil, err
	}
	result, err := out.write(ctx, c.req, c.src, m, listing(m, files), derivations(ctx, c.store, c.graph, m), looks)
	if err != nil {
		return nil, err
	}
	result.Naming = naming
	result.Rebuilt, result.Reproduced, result.Untried = second.rebuilt, second.reproduced, untried
	return result, nil
}

// registered returns the closure of the system as Nix registered it, in ascending order.
func registered(ctx context.Context, dir closure.StoreDir, root closure.StorePath) ([]closure.PathInfo, error) {
	db, err := nixstore.OpenDatabase(ctx, "", dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c, malformed, err := db.Closure(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("read the closure of %s: %w", root, err)
	}
	if len(malformed) > 0 {
		return nil, fmt.Errorf("this builder's Nix database is damaged: %w", malformed[0])
	}
	infos := make([]closure.PathInfo, 0, len(c))
	for _, p := range c.Paths() {
		infos = append(infos, c[p])
	}
	return infos, nil
}

// hashAll hashes the paths from disk and returns their files. A path that differs from
// its registration on this builder is an error: a damaged store must not become a
// release.
func hashAll(ctx context.Context, store *nixstore.Store, infos []closure.PathInfo, p *Progress) ([]closure.PathFiles, error) {
	p.enter("hash")
	files := make([]closure.PathFiles, len(infos))
	p.total.Store(int64(len(infos)))
	for _, info := range infos {
		p.bytes.Add(info.NarSize)
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	names := nar.NewTurn()
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			var entries []nar.Entry
			h := nar.NewHasher(nar.Options{Progress: &p.Hash, Turn: names, OnEntry: func(e nar.Entry) error {
				entries = append(entries, e)
				return nil
			}})
			for {
				i := int(next.Add(1)) - 1
				if i >= len(infos) {
					return ctx.Err()
				}
				entries = nil
				info := &infos[i]
				sum, err := h.Sum(ctx, store.File(), info.Path.Base())
				if err != nil {
					return fmt.Errorf("hash %s: %w", info.Path, err)
				}
				if sum.Hash != info.NarHash || info.NarSize != 0 && sum.Size != info.NarSize {
					return fmt.Errorf("%s on this builder differs from Nix's database (hash %s, registered %s): nothing was written; repair the store with nix store repair %[1]s", info.Path, sum.Hash, info.NarHash)
				}
				info.NarSize = sum.Size
				files[i] = closure.PathFiles{Path: info.Path, NarHash: sum.Hash, Files: entries}
				p.paths.Add(1)
			}
		})
	}
	return files, g.Wait()
}

// describeOrigin sets the deriver and content address of each path from the derivations,
// which are a function of the source; the database's claims depend on whether a path was
// built or substituted here.
func describeOrigin(graph nixstore.Graph, infos []closure.PathInfo) error {
	derivers := graph.Derivers()
	addresses, err := graph.ContentAddresses()
	if err != nil {
		return err
	}
	for i := range infos {
		info := &infos[i]
		if d, ok := derivers[info.Path]; ok {
			info.Deriver, info.CA = d, addresses[info.Path]
		} else {
			info.Deriver = "" // a source; its content address is its own
		}
	}
	return nil
}

// hashSource hashes the flake that nix put into the store.
func hashSource(ctx context.Context, store *nixstore.Store, src nix.Source) (closure.Source, error) {
	exists, err := store.Exists(src.Path)
	if err != nil {
		return closure.Source{}, err
	}
	if !exists {
		return closure.Source{}, fmt.Errorf("nix says that the flake is at %s, and there is nothing", src.Path)
	}
	sum, err := nar.NewHasher(nar.Options{}).Sum(ctx, store.File(), src.Path.Base())
	if err != nil {
		return closure.Source{}, fmt.Errorf("hash the flake %s: %w", src.Path, err)
	}
	if !src.NarHash.IsZero() && sum.Hash != src.NarHash {
		return closure.Source{}, fmt.Errorf("nix reports for the flake %s the hash %s, but it is %s", src.Path, src.NarHash, sum.Hash)
	}
	s := closure.Source{NarHash: sum.Hash, Dir: src.Dir}
	if s.LockNarHash, err = store.HashFile(ctx, src.Path, s.LockFile()); err != nil {
		return closure.Source{}, fmt.Errorf("hash the flake's lock file: %w", err)
	}
	return s, nil
}

// lockedInputs returns the inputs in the flake's lock file. An input without a hash is an
// error: nothing made from such a flake can be verified.
func lockedInputs(store *nixstore.Store, flake closure.StorePath, s closure.Source) ([]flakelock.Input, error) {
	if s.LockNarHash.IsZero() {
		return nil, nil
	}
	lock, err := store.ReadFile(flake, s.LockFile(), flakelock.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read the flake's lock file: %w", err)
	}
	return flakelock.Parse(flake.Dir(), lock)
}

var errSigned = errors.New("it has a signed release, whose signature new files would break; choose another --out")

// embedded reports whether the flake's source is part of the closure.
func embedded(m *closure.Manifest, src closure.StorePath) bool {
	return slices.ContainsFunc(m.Paths, func(info closure.PathInfo) bool { return info.Path == src })
}
