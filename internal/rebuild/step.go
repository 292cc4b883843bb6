package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// errTooLong is the cause of a context that the time limit of a build ended.
var errTooLong = errors.New("the build took too long")

// step takes step n of the plan.
func (r *run) step(ctx context.Context, n int, step Step) Result {
	result := Result{Step: step, Status: NotReached}
	if ctx.Err() != nil {
		return result
	}
	r.progress.current.Store(&step.Derivation)
	begin := time.Now()
	var err error
	if step.Fixed {
		err = r.compareFixed(ctx, &result)
	} else {
		err = r.rebuild(ctx, n, &result)
	}
	result.Took = time.Since(begin)
	if err != nil {
		result.fail(ctx, err)
	}
	return result
}

// fail sets the status for err. The context is the run's.
func (res *Result) fail(ctx context.Context, err error) {
	var input *inputError
	var build *nix.BuildError
	res.Outputs, res.Detail = nil, err.Error()
	switch {
	case ctx.Err() != nil:
		res.Status, res.Detail = NotReached, ""
	case errors.As(err, &input):
		res.Status, res.Input, res.Detail = input.status, input.input, input.detail
	case errors.Is(err, errTooLong):
		res.Status = TimedOut
	case errors.Is(err, errNoRoom):
		res.Status = NoRoom
	case errors.As(err, &build) && build.NoSpace():
		res.Status = NoRoom
	case errors.As(err, &build) && build.BuilderFailed():
		res.Status, res.Detail = Failed, build.Message
	default:
		res.Status = Unavailable
	}
}

// compareFixed compares the manifest's hashes of fixed outputs with the derivation's. The
// bytes on disk connect the two: they must be the manifest's, and must have the content
// hash that the derivation states.
func (r *run) compareFixed(ctx context.Context, res *Result) error {
	d := r.graph[res.Derivation]
	res.Status = Reproduced
	for _, name := range slices.Sorted(maps.Keys(res.Step.Outputs)) {
		out := d.Outputs[name]
		in, err := r.inputs.get(ctx, out.Path)
		if err != nil {
			return err
		}
		if in.fetched {
			// The same error as for an input.
			return &inputError{
				status: InputMissing, input: Input{Path: out.Path, Witness: in.witness, Want: in.info.NarHash},
				detail: "it is not on the disk, and is not fetched to be compared",
			}
		}
		o := Output{Name: name, Path: out.Path, Want: in.info.NarHash, Got: in.info.NarHash}
		want, got, err := fixedContent(ctx, in.from, out, nar.Sum{Hash: in.info.NarHash, Size: in.info.NarSize})
		if err != nil {
			return err
		}
		if want != got {
			res.Status, o.Got = Differs, nar.Hash{}
			o.FilesNote = fmt.Sprintf("its derivation states the contents %s, and the release's are %s", want, got)
		}
		res.Outputs = append(res.Outputs, o)
	}
	return nil
}

// rebuild builds a derivation and compares its outputs.
func (r *run) rebuild(ctx context.Context, n int, res *Result) (err error) {
	if err := r.space.check(); err != nil {
		return err
	}
	d := r.graph[res.Derivation]
	all, err := r.inputs.of(ctx, d)
	if err != nil {
		return err
	}
	for _, in := range all {
		for _, out := range d.Outputs {
			if out.Path == in.info.Path {
				// Nix would take it as already built.
				return fmt.Errorf("%s is both an input and an output", out.Path)
			}
		}
	}
	store := nix.Scratch{}
	if store.Dir, err = r.scratch.mkdir(buildDir(n)); err != nil {
		return err
	}
	temp := filepath.Join("temp", fmt.Sprint(n))
	if store.Temp, err = r.scratch.mkdir(temp); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.scratch.remove(buildDir(n)), r.scratch.remove(temp))
	}()
	if store.Binds, err = place(store.Dir, all); err != nil {
		return err
	}
	if err := r.Nix.Register(ctx, store, infosOf(all)); err != nil {
		return err
	}
	if err := r.build(ctx, store, res.Derivation); err != nil {
		if errors.As(err, new(*nix.BuildError)) {
			// If an input changed, the builder is not to blame.
			if bad := r.inputs.again(ctx, all); bad != nil {
				return bad
			}
		}
		return err
	}
	if err := r.compare(ctx, store.Dir, res); err != nil {
		return err
	}
	if res.Status == Differs {
		if err := r.inputs.again(ctx, all); err != nil {
			return err
		}
	}
	if r.built != nil {
		return r.built(ctx, store.Dir)
	}
	return nil
}

// build runs nix within the limits of a single build.
func (r *run) build(ctx context.Context, store nix.Scratch, drv closure.StorePath) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.Limits.Build > 0 {
		timer := time.AfterFunc(r.Limits.Build, func() {
			cancel(fmt.Errorf("%w: more than %v", errTooLong, r.Limits.Build))
		})
		defer timer.Stop()
	}
	return r.space.guard(ctx, []string{store.Dir, store.Temp}, func(ctx context.Context) error {
		return r.Nix.BuildIn(ctx, store, r.derivations, drv)
	})
}

// compare hashes the outputs and compares them with the manifest.
func (r *run) compare(ctx context.Context, dir string, res *Result) error {
	store, err := nixstore.OpenStore(dir, r.req.Manifest.StoreDir)
	if err != nil {
		return err
	}
	defer store.Close()
	res.Status = Reproduced
	for _, name := range slices.Sorted(maps.Keys(res.Step.Outputs)) {
		p := r.graph[res.Derivation].Outputs[name].Path
		sum, err := hashPath(ctx, store, r.inputs.manifest[p])
		tooLarge := errors.Is(err, nar.ErrTooLarge)
		if err != nil && !tooLarge {
			return fmt.Errorf("hash the rebuilt %s: %w", p, err)
		}
		o := Output{Name: name, Path: p, Want: res.Step.Outputs[name].Hash, Got: sum.Hash}
		o.Reason, o.Listed = r.listed[res.Derivation][name]
		if tooLarge {
			res.Status, o.FilesNote = Differs, "it is much larger than the release's: "+err.Error()
		} else if o.Differs() {
			res.Status = Differs
			if err := r.differingFiles(ctx, store, &o); err != nil {
				return err
			}
		}
		res.Outputs = append(res.Outputs, o)
	}
	return nil
}

// maxListed limits how many files of one path are kept for the comparison.
const maxListed = 1 << 20

// differingFiles adds to o the files in which a rebuilt output differs from the release's
// output on this machine, or why they are unknown.
func (r *run) differingFiles(ctx context.Context, rebuilt *nixstore.Store, o *Output) error {
	info := r.inputs.manifest[o.Path]
	// Hashed before it is listed: only the release's files are kept in memory, and not
	// what somebody put in their place.
	sum, err := read(ctx, r.inputs.store, info, nil)
	if err == nil && sum.Hash != o.Want {
		err = errors.New("the disk differs from the release as well")
	}
	var want []nar.Entry
	if err == nil {
		_, err = read(ctx, r.inputs.store, info, func(e nar.Entry) error {
			if len(want) == maxListed {
				return fmt.Errorf("it has more than %d files", maxListed)
			}
			want = append(want, e)
			return nil
		})
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		o.FilesNote = fmt.Sprintf("it is unknown which files differ: %v", err)
		return nil
	}
	c := closure.NewFileComparison(want)
	_, err = read(ctx, rebuilt, info, func(e nar.Entry) error { c.Add(e); return nil })
	o.Files, o.MoreFiles = c.End()
	return err
}

// read hashes a path, and calls onEntry for each of its files unless that is nil. The
// walks share no nar.Turn: there are at most Limits.Jobs of them, and the 12 MiB of names
// that each may keep are little compared with the build that the step waits for.
func read(ctx context.Context, store *nixstore.Store, info closure.PathInfo, onEntry func(nar.Entry) error) (nar.Sum, error) {
	h := nar.NewHasher(nar.Options{MaxSize: largest(info), OnEntry: onEntry})
	return h.Sum(ctx, store.File(), info.Path.Base())
}
