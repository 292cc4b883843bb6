package node

import (
	"context"
	"slices"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// identifyMost is how many releases of the cache, and of each source, are searched
	// for the one that runs, and identifyWait how long that may take.
	identifyMost = 16
	identifyWait = time.Minute
)

// newIdentifier returns an Identifier that searches the cache and the sources for the
// release that runs here, the newest first. It keeps and remembers nothing. A source that
// can't be asked is no error: the machine is then compared with the requested release.
func newIdentifier(c config.Config, offline bool) (verify.Identifier, error) {
	verifier, err := configured.Verifier(c)
	if err != nil {
		return nil, err
	}
	sources, err := configured.Sources(c)
	if err != nil {
		return nil, err
	}
	sources = append([]release.Source{release.NewDirSource(configured.CacheDir(c))}, sources...)
	sources = slices.DeleteFunc(sources, func(s release.Source) bool { return offline && s.Remote() })
	return func(ctx context.Context, system closure.StorePath) (*release.Release, *closure.Manifest) {
		ctx, cancel := context.WithTimeout(ctx, identifyWait)
		defer cancel()
		// One that can't be read has ended the run before.
		memory, _ := release.ReadMemory(c.StateDir)
		for _, source := range sources {
			for _, tag := range newestOf(ctx, source) {
				rel, err := release.Open(ctx, source, tag, verifier, release.WithGrace(time.Duration(c.Release.Grace)), release.WithAnyAge(), release.WithRevocations(memory), release.WithRevoked())
				if err != nil {
					continue
				}
				if m := manifestOf(ctx, rel, c.Configuration, system); m != nil {
					return rel, m
				}
			}
		}
		return nil, nil
	}, nil
}

// newestOf returns the tags of the newest releases that a source has.
func newestOf(ctx context.Context, source release.Source) []release.Tag {
	lister, ok := source.(release.Lister)
	if !ok {
		return nil
	}
	tags, err := lister.Tags(ctx)
	if err != nil {
		return nil
	}
	return tags[:min(len(tags), identifyMost)]
}

// manifestOf returns the manifest of rel whose system is at a store path, of the
// configuration name unless that is empty; nil for none.
func manifestOf(ctx context.Context, rel *release.Release, name string, system closure.StorePath) *closure.Manifest {
	for _, configuration := range rel.Info().Configurations {
		if name != "" && name != configuration {
			continue
		}
		if m, err := rel.Manifest(ctx, configuration); err == nil && m.Toplevel.OutPath == system {
			return m
		}
	}
	return nil
}
