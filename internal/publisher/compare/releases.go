package compare

import (
	"fmt"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
)

// checkRelease requires a side to be a complete release except for its signature:
// checksums, release.json, and a manifest of each listed configuration. Otherwise two
// incomplete releases could be equal. Another function compares the checksums with
// the files.
func (c *comparison) checkRelease(s side) {
	fail := func(name string, err error) {
		c.r.fail(name, s.name, fmt.Errorf("%w; want a release as hack/build-release makes it", err))
	}
	if s.sumsErr != nil {
		fail(release.SumsName, s.sumsErr)
		return
	}
	if s.infoErr != nil {
		fail(release.InfoName, s.infoErr)
		return
	}
	names := []string{release.InfoName}
	for _, configuration := range s.info.Configurations {
		names = append(names, release.ManifestName(configuration))
	}
	for _, name := range names {
		if _, ok := s.sums.Digest(name); !ok {
			fail(name, fmt.Errorf("%s has no line for it", release.SumsName))
		}
	}
	for _, configuration := range s.info.Configurations {
		name := release.ManifestName(configuration)
		m, err := readAsset(s.dir, name, closure.DecodeManifest)
		if err == nil && m.Configuration != configuration {
			err = fmt.Errorf("it is the manifest of configuration %s", m.Configuration)
		}
		if err != nil {
			fail(name, err)
		}
	}
}
