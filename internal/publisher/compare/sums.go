package compare

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/excerpt"
)

// checksums compares two SHA256SUMS.txt line by line.
func (c *comparison) checksums(p pair) {
	a, b, ok := decoded(c, p, release.ParseSums)
	if !ok {
		return
	}
	f := c.r.in(p.name)
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

// checkSums compares the SHA256SUMS.txt of each side with that side's files, and marks the
// checksums that differ only because their files do.
func (c *comparison) checkSums(sides ...side) {
	for _, side := range sides {
		if side.sumsErr != nil {
			continue // there is none, or its comparison has failed
		}
		for _, raw := range c.r.Compared {
			name := string(raw)
			want, ok := side.sums.Digest(name)
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
func (c *comparison) checkListed(names []string, sides ...side) {
	missing := make(map[string]string)
	for _, side := range sides {
		listed := make(map[string]string)
		for name := range side.sums.All() {
			listed[name] = release.SumsName
		}
		for _, configuration := range side.info.Configurations {
			listed[release.ManifestName(configuration)] = release.InfoName
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
	return slices.ContainsFunc(c.r.Differences, func(d Difference) bool { return string(d.Asset) == asset })
}

// info compares two release.json. Their times differ from build to build.
func (c *comparison) info(p pair) {
	a, b, ok := decoded(c, p, release.ParseInfo)
	if !ok {
		return
	}
	f := c.r.in(p.name)
	f.field("", "tag", string(a.Tag), string(b.Tag))
	f.field("", "commit", a.Commit, b.Commit)
	f.field("", "configurations", joined(a.Configurations), joined(b.Configurations))
	if !a.CreatedAt.Equal(b.CreatedAt) || !a.BestBefore.Equal(b.BestBefore) {
		c.r.note("%s has other times (%s and %s), which vary from build to build; build both with the same SOURCE_DATE_EPOCH to have it equal",
			p.name, a.CreatedAt.Format(time.RFC3339), b.CreatedAt.Format(time.RFC3339))
	}
}
