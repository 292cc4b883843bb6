package verify

import (
	"context"
	"errors"
	"fmt"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// maxSource limits, in bytes, the embedded flake and each of its inputs, whose sizes are
// stated nowhere; all of nixpkgs is less than 1 GiB.
const maxSource = 16 << 30

// source is the embedded flake in the store.
type source struct {
	path closure.StorePath
	rest string // where in path the flake is, "" or "/…"
	sum  nar.Sum
}

// findSource returns the embedded flake, which is hashed once. The evaluation states that
// hash, so a flake that changed since is refused.
func (r *run) findSource(ctx context.Context) (source, error) {
	if r.source == nil {
		src, err := r.hashSource(ctx)
		if err != nil {
			return source{}, err
		}
		r.source = &src
	}
	// While the release is being chosen, no manifest says which directory has the flake.
	if rest := r.source.rest; rest != "" && r.manifest != nil && rest != "/"+r.manifest.Source.Dir {
		return source{}, &failure{cause: report.SourceAltered, path: r.flake(), err: fmt.Errorf("it leads to %s inside of %s, not to %s", rest, r.source.path, r.flakePlace())}
	}
	return *r.source, nil
}

// hashSource follows the link of the embedded flake into the store and hashes the source
// there.
func (r *run) hashSource(ctx context.Context) (source, error) {
	store, err := r.openStore()
	if err != nil {
		return source{}, err
	}
	flake := r.flake()
	p, rest, err := store.ResolveLink(flake)
	switch {
	case isAbsent(err) && r.System != "":
		return source{}, r.candidateWithoutFlake(flake, p)
	case isAbsent(err) && p == "":
		return source{}, &failure{cause: report.SourceMissing, path: flake, err: err}
	case isAbsent(err):
		return source{}, &failure{cause: report.SourceMissing, path: flake, err: fmt.Errorf("it leads to %s, which is not there", p)}
	case errors.Is(err, nixstore.ErrNotLink), errors.Is(err, nixstore.ErrOutsideStore):
		// A source outside the store is not the one that the release embedded.
		return source{}, &failure{cause: report.SourceAltered, path: flake, err: err}
	case err != nil:
		return source{}, &failure{cause: report.SourceUnreadable, path: flake, err: err}
	}
	sum, err := r.hashSourceTree(ctx, p)
	switch {
	case errors.Is(err, nar.ErrUnsupported):
		return source{}, &failure{cause: report.SourceAltered, path: string(p), err: err}
	case err != nil:
		return source{}, &failure{cause: report.SourceUnreadable, path: string(p), err: err}
	}
	return source{p, rest, sum}, nil
}

// hashSourceTree hashes a source in the store.
func (r *run) hashSourceTree(ctx context.Context, p closure.StorePath) (nar.Sum, error) {
	h := nar.NewHasher(nar.Options{Read: r.Read, DropBehind: r.DropBehind, MaxSize: maxSource})
	return h.Sum(ctx, r.store.File(), p.Base())
}

// flakePlace says where in the store the release has its flake.
func (r *run) flakePlace() string {
	if dir := r.manifest.Source.Dir; dir != "" {
		return "/" + dir
	}
	return "a store path"
}

func planSource(r *run) string {
	return "hash the flake at " + r.Flake + " and its lock file"
}

// checkSource compares the embedded flake and its lock file with the release's.
func (r *run) checkSource(ctx context.Context, t *report.Tier) error {
	src, err := r.findSource(ctx)
	if err != nil {
		return err
	}
	t.Checked++
	lock, err := r.hashLock(ctx, src.path)
	if err != nil {
		return err
	}
	t.Checked++
	want := r.manifest.Source
	if lock != want.LockNarHash {
		r.find(report.Finding{
			Tier: report.TierSource, Cause: report.LockAltered, Path: string(src.path) + "/" + want.LockFile(),
			Want: hashOrNone(want.LockNarHash), Got: hashOrNone(lock),
		})
	}
	if src.sum.Hash != want.NarHash {
		r.find(report.Finding{
			Tier: report.TierSource, Cause: report.SourceAltered, Path: string(src.path),
			Want: want.NarHash.String(), Got: src.sum.Hash.String(), Detail: "embedded at " + r.flake(),
		})
	}
	return nil
}

// hashLock returns the NAR hash of the flake's lock file; zero if there is none.
func (r *run) hashLock(ctx context.Context, flake closure.StorePath) (nar.Hash, error) {
	hash, err := r.store.HashFile(ctx, flake, r.manifest.Source.LockFile())
	if err != nil {
		return nar.Hash{}, &failure{cause: report.SourceUnreadable, path: string(flake) + "/" + r.manifest.Source.LockFile(), err: err}
	}
	return hash, nil
}

func hashOrNone(h nar.Hash) string {
	if h.IsZero() {
		return "none"
	}
	return h.String()
}
