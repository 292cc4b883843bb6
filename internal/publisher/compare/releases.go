package compare

import (
	"fmt"
	"path/filepath"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
)

// checkRelease requires dir to be a complete release except for its signature:
// checksums, release.json, and a manifest of each listed configuration. Otherwise two
// incomplete releases could be equal. Another function compares the checksums with
// the files.
func (c *comparison) checkRelease(side, dir string) {
	const want = "want a release as hack/build-release makes it"
	raw, err := hostfile.ReadSmallNoFollow(filepath.Join(dir, release.SumsName), release.MaxSumsSize)
	if err != nil {
		c.r.fail(release.SumsName, side, fmt.Errorf("%w; %s", err, want))
		return
	}
	sums, err := release.ParseSums(raw)
	if err != nil {
		c.r.fail(release.SumsName, side, err)
		return
	}
	raw, err = hostfile.ReadSmallNoFollow(filepath.Join(dir, release.InfoName), release.MaxInfoSize)
	if err != nil {
		c.r.fail(release.InfoName, side, fmt.Errorf("%w; %s", err, want))
		return
	}
	info, err := release.ParseInfo(raw)
	if err != nil {
		c.r.fail(release.InfoName, side, err)
		return
	}
	names := []string{release.InfoName}
	for _, configuration := range info.Configurations {
		names = append(names, release.ManifestName(configuration))
	}
	for _, name := range names {
		if _, ok := sums.Digest(name); !ok {
			c.r.fail(name, side, fmt.Errorf("%s has no line for it; %s", release.SumsName, want))
		}
	}
	for _, configuration := range info.Configurations {
		name := release.ManifestName(configuration)
		raw, err := hostfile.ReadSmallNoFollow(filepath.Join(dir, name), release.AssetLimit(name))
		if err != nil {
			c.r.fail(name, side, err)
			continue
		}
		if m, err := closure.DecodeManifest(raw); err != nil {
			c.r.fail(name, side, err)
		} else if m.Configuration != configuration {
			c.r.fail(name, side, fmt.Errorf("it is the manifest of configuration %s", m.Configuration))
		}
	}
}
