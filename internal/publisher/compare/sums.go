package compare

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/excerpt"
)

// checksums compares two SHA256SUMS.txt line by line.
func (c *comparison) checksums(p pair) {
	f := c.r.in(p.name)
	rawA, rawB, err := p.read(release.MaxSumsSize)
	if err != nil {
		f.add(p.contents())
		return
	}
	a, errA := release.ParseSums(rawA)
	b, errB := release.ParseSums(rawB)
	if errA != nil || errB != nil {
		f.add(p.contents())
		for side, err := range map[string]error{"A": errA, "B": errB} {
			if err != nil {
				c.r.fail(p.name, side, err)
			}
		}
		return
	}
	for name, want := range a.All() {
		got, ok := b.Digest(name)
		switch {
		case !ok:
			f.add(Difference{Kind: Checksum, File: new(excerpt.Raw(name)), A: excerpt.Raw(want.String())})
		case got != want:
			f.add(Difference{Kind: Checksum, File: new(excerpt.Raw(name)), A: excerpt.Raw(want.String()), B: excerpt.Raw(got.String())})
		}
	}
	for name, got := range b.All() {
		if _, ok := a.Digest(name); !ok {
			f.add(Difference{Kind: Checksum, File: new(excerpt.Raw(name)), B: excerpt.Raw(got.String())})
		}
	}
	if f.n == 0 {
		f.add(p.contents())
	}
}

// checkSums compares each side's SHA256SUMS.txt with that side's files, and marks the
// checksums that differ only because their files do.
func (c *comparison) checkSums(dirA, dirB string) {
	for _, side := range []struct {
		name, dir string
		digest    func(pairSum) release.Digest
	}{
		{"A", dirA, func(p pairSum) release.Digest { return p.digestA }},
		{"B", dirB, func(p pairSum) release.Digest { return p.digestB }},
	} {
		data, err := hostfile.ReadSmallNoFollow(filepath.Join(side.dir, release.SumsName), release.MaxSumsSize)
		if err != nil {
			continue // there is none, or its comparison has failed
		}
		sums, err := release.ParseSums(data)
		if err != nil {
			continue
		}
		for _, raw := range c.r.Compared {
			name := string(raw)
			want, ok := sums.Digest(name)
			sum, file := c.sums[name]
			got := side.digest(sum).String()
			if !file {
				got = "a symbolic link"
			}
			if kind, _ := release.KindOf(name); !ok && kind == release.KindSums {
				continue
			}
			switch {
			case !ok:
				c.r.in(release.SumsName).add(Difference{Kind: FalseChecksum, File: new(excerpt.Raw(name)), Field: side.name, A: "no line for it", B: excerpt.Raw(got)})
			case got != want.String():
				c.r.in(release.SumsName).add(Difference{Kind: FalseChecksum, File: new(excerpt.Raw(name)), Field: side.name, A: excerpt.Raw(want.String()), B: excerpt.Raw(got)})
			}
		}
	}
	kept := c.r.Differences[:0]
	for _, d := range c.r.Differences {
		if d.Kind == Checksum {
			sum, ok := c.sums[string(*d.File)]
			d.Follows = ok && !sum.equal() || !ok
			if *d.File == release.InfoName && ok && !c.differs(release.InfoName) {
				continue // its times, which are a note
			}
		}
		kept = append(kept, d)
	}
	c.r.Differences = kept
}

// checkListed finds files that a side's SHA256SUMS.txt or release.json lists and that
// neither side has: nothing shows that they are equal. names are sorted.
func (c *comparison) checkListed(names []string, dirs ...string) {
	missing := make(map[string]string)
	for _, dir := range dirs {
		listed := make(map[string]string)
		if data, err := hostfile.ReadSmallNoFollow(filepath.Join(dir, release.SumsName), release.MaxSumsSize); err == nil {
			if sums, err := release.ParseSums(data); err == nil {
				for name := range sums.All() {
					listed[name] = release.SumsName
				}
			}
		}
		if data, err := hostfile.ReadSmallNoFollow(filepath.Join(dir, release.InfoName), release.MaxInfoSize); err == nil {
			if info, err := release.ParseInfo(data); err == nil {
				for _, configuration := range info.Configurations {
					listed[release.ManifestName(configuration)] = release.InfoName
				}
			}
		}
		for name, by := range listed {
			if _, ok := slices.BinarySearch(names, name); !ok {
				missing[name] = by
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		c.r.fail(name, "", fmt.Errorf("%s lists it, and neither A nor B has it", missing[name]))
	}
}

func (c *comparison) differs(asset string) bool {
	for _, d := range c.r.Differences {
		if string(d.Asset) == asset {
			return true
		}
	}
	return false
}

// info compares two release.json. Their times differ from build to build.
func (c *comparison) info(p pair) {
	f := c.r.in(p.name)
	rawA, rawB, err := p.read(release.MaxInfoSize)
	if err != nil {
		f.add(p.contents())
		return
	}
	a, errA := release.ParseInfo(rawA)
	b, errB := release.ParseInfo(rawB)
	if errA != nil || errB != nil {
		f.add(p.contents())
		return
	}
	f.field("", "tag", string(a.Tag), string(b.Tag))
	f.field("", "commit", a.Commit, b.Commit)
	f.field("", "configurations", joined(a.Configurations), joined(b.Configurations))
	if !a.CreatedAt.Equal(b.CreatedAt) || !a.BestBefore.Equal(b.BestBefore) {
		c.r.note("%s has other times (%s and %s), which vary from build to build; build both with the same SOURCE_DATE_EPOCH to have it equal",
			p.name, a.CreatedAt.Format(time.RFC3339), b.CreatedAt.Format(time.RFC3339))
	}
}
