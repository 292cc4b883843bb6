package compare

import (
	"path/filepath"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

// side is one of the two directories, with its own statements about its files.
type side struct {
	name, dir string
	digest    func(pairSum) release.Digest // of this side's file in a pair
	// sums and info are the zero value if their error is set.
	sums    release.Sums
	sumsErr error
	info    release.Info
	infoErr error
}

func readSide(name, dir string, digest func(pairSum) release.Digest) side {
	s := side{name: name, dir: dir, digest: digest}
	s.sums, s.sumsErr = readAsset(dir, release.SumsName, release.ParseSums)
	s.info, s.infoErr = readAsset(dir, release.InfoName, release.ParseInfo)
	return s
}

// readAsset decodes the asset name in dir, which must not be a link.
func readAsset[T any](dir, name string, decode func([]byte) (T, error)) (asset T, err error) {
	data, err := hostfile.ReadSmallNoFollow(filepath.Join(dir, name), release.AssetLimit(name))
	if err != nil {
		return asset, err
	}
	return decode(data)
}

// decoded decodes both files of p. If one is malformed, it records a failure, compares the
// bytes of the two, and ok is false.
func decoded[T any](c *comparison, p pair, decode func([]byte) (T, error)) (a, b T, ok bool) {
	rawA, rawB, err := p.read(release.AssetLimit(p.name))
	if err != nil {
		c.r.fail(p.name, "", err)
		c.r.in(p.name).add(p.contents())
		return a, b, false
	}
	a, errA := decode(rawA)
	if errA != nil {
		c.r.fail(p.name, "A", errA)
	}
	b, errB := decode(rawB)
	if errB != nil {
		c.r.fail(p.name, "B", errB)
	}
	if errA != nil || errB != nil {
		c.r.in(p.name).add(p.contents())
		return a, b, false
	}
	return a, b, true
}
