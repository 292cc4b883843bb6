package verify

import (
	"cmp"
	"context"
	"slices"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// nearest returns the release from which the machine differs least, among releases with
// the toplevel that runs. An unreproducible path has the same name and other bytes in
// each release, so the name alone does not identify the release. The paths on which the
// releases disagree are hashed here, and again by the tiers, whose results count. Among
// equals it returns the newest, whatever their order. The error is that of ctx.
func (r *run) nearest(ctx context.Context, same []*candidate) (*candidate, error) {
	same = slices.Clone(same)
	slices.SortStableFunc(same, func(a, b *candidate) int {
		return cmp.Or(b.Release.Info().CreatedAt.Compare(a.Release.Info().CreatedAt), cmp.Compare(a.Tag, b.Tag))
	})
	if len(same) == 1 {
		return same[0], nil
	}
	observed, err := r.hashDisputed(ctx, disputed(same))
	if err != nil {
		return nil, err
	}
	embedded := same[0].manifest.Source.NarHash
	if slices.ContainsFunc(same, func(c *candidate) bool { return c.manifest.Source.NarHash != embedded }) {
		// If the source is unreadable, it matches none of them.
		src, err := r.findSource(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			embedded = src.sum.Hash
		} else {
			embedded = nar.Hash{}
		}
	}
	return slices.MinFunc(same, func(a, b *candidate) int {
		return cmp.Compare(differences(a.manifest, observed, embedded), differences(b.manifest, observed, embedded))
	}), nil
}

// disputed returns the paths on which the releases disagree, each with the largest size
// that one of them states.
func disputed(same []*candidate) map[closure.StorePath]closure.PathInfo {
	out := make(map[closure.StorePath]closure.PathInfo)
	first := same[0].manifest.Closure()
	for _, c := range same[1:] {
		other := c.manifest.Closure()
		for _, pair := range [][2]closure.Closure{{first, other}, {other, first}} {
			for p, info := range pair[0] {
				if info.NarHash != pair[1][p].NarHash && info.NarSize >= out[p].NarSize {
					out[p] = info
				}
			}
		}
	}
	return out
}

// hashDisputed returns the hashes of paths on disk; zero if one is unreadable.
func (r *run) hashDisputed(ctx context.Context, paths map[closure.StorePath]closure.PathInfo) (map[closure.StorePath]nar.Hash, error) {
	observed := make(map[closure.StorePath]nar.Hash, len(paths))
	store, err := r.openStore()
	if err != nil {
		return observed, nil //nolint:nilerr // the tiers say so
	}
	pace, leave := r.Pacer.Join()
	defer leave()
	h := nar.NewHasher(nar.Options{Read: r.Read, DropBehind: r.DropBehind, Pace: pace})
	for p, info := range paths {
		h.SetMaxSize(largest(info))
		sum, _ := h.Sum(ctx, store.File(), p.Base())
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		observed[p] = sum.Hash // zero with an error, which no release says
	}
	return observed, nil
}

// differences counts what of m the machine is seen not to be.
func differences(m *closure.Manifest, observed map[closure.StorePath]nar.Hash, embedded nar.Hash) int {
	n := 0
	for _, info := range m.Paths {
		if got, disputed := observed[info.Path]; disputed && got != info.NarHash {
			n++
		}
	}
	if embedded != m.Source.NarHash {
		n++
	}
	return n
}
