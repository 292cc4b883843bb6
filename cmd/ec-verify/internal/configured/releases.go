package configured

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// Looker returns a Finder that only inspects releases, and needs no right to write.
func Looker(c config.Config, progress *release.Progress) (*release.Finder, error) {
	return Finder(c, progress, true)
}

// Finder returns what finds releases by c: in the cache, then in its sources. It keeps
// and remembers what it finds, unless it is for a look: a look must not cause the release
// that this machine runs to be refused later. progress may be nil.
func Finder(c config.Config, progress *release.Progress, look bool) (*release.Finder, error) {
	verifier, err := Verifier(c)
	if err != nil {
		return nil, err
	}
	sources, err := Sources(c, release.WithNotice(progress.Notice))
	if err != nil {
		return nil, err
	}
	f := &release.Finder{
		Sources: sources, Verifier: verifier, Keep: c.Release.Keep,
		Options: append(Options(c), release.WithProgress(progress)), Look: look,
	}
	for _, tag := range c.Release.Accept {
		f.Accept = append(f.Accept, release.Tag(tag))
	}
	if c.Configuration != "" {
		f.Configurations = []string{c.Configuration}
	}
	if c.UnsafeUnsigned {
		// What nobody signed is neither kept nor remembered.
		return f, nil
	}
	if look {
		memory, err := release.ReadMemory(c.StateDir)
		if err != nil {
			return nil, err
		}
		f.Memory, f.Cache = memory, release.ReadCache(CacheDir(c))
		return f, nil
	}
	if err := CheckOwnState(c); err != nil {
		return nil, err
	}
	memory, err := release.OpenMemory(c.StateDir)
	if err != nil {
		return nil, fmt.Errorf("%w (stateDir in the configuration says where)", err)
	}
	f.Memory, f.Cache = memory, release.OpenCache(CacheDir(c))
	return f, nil
}

// CacheDir is where fetched releases are kept.
func CacheDir(c config.Config) string { return filepath.Join(c.StateDir, "releases") }

// Options returns the options for opening a release.
func Options(c config.Config) []release.Option {
	opts := []release.Option{release.WithGrace(time.Duration(c.Release.Grace))}
	if c.UnsafeAllowRollback {
		opts = append(opts, release.WithUnsafeRollback())
	}
	return opts
}

// Sources returns where releases are looked for, in this order.
func Sources(c config.Config, opts ...release.SourceOption) ([]release.Source, error) {
	if len(c.Release.Source) == 0 {
		return nil, terminal.ConfigErrorf("no release source: give --release DIR or URL, or list release.source in the configuration")
	}
	if c.Release.TokenFile != "" {
		token, err := release.ReadToken(c.Release.TokenFile)
		if err != nil {
			return nil, terminal.ConfigErrorf("release.tokenFile: %w", err)
		}
		opts = append(opts, release.WithToken(token))
	}
	var sources []release.Source
	for _, spec := range c.Release.Source {
		src, err := release.NewSource(spec, opts...)
		if err != nil {
			return nil, terminal.ConfigError(err)
		}
		sources = append(sources, src)
	}
	return sources, nil
}

// Verifier returns what judges the signatures of releases.
func Verifier(c config.Config) (release.Verifier, error) {
	if c.UnsafeUnsigned {
		return trust.UnsafeUnsigned(), nil
	}
	v, err := trust.New(c.Trust)
	if err != nil && len(c.Trust.Keys)+len(c.Trust.Identities) == 0 {
		return nil, terminal.ConfigErrorf("%w in the configuration, or give --key FILE (--unsafe-unsigned accepts the release unsigned)", err)
	}
	if err != nil {
		return nil, terminal.ConfigError(err)
	}
	return v, nil
}

// KnownTags returns the tags that can be completed without asking anybody: those
// that the configuration accepts, those in the cache, and latest.
func KnownTags(ctx context.Context, t *terminal.Terminal) []string {
	c, err := config.Load(t.ConfigFile)
	if err != nil {
		c = config.Default()
	}
	tags := append(slices.Clone(c.Release.Accept), string(release.Latest))
	if cached, err := release.NewDirSource(CacheDir(c)).Tags(ctx); err == nil {
		for _, tag := range cached {
			tags = append(tags, string(tag))
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// Look finds the release of a tag by c as a verification does, with the finder that did,
// and keeps and remembers nothing of it.
func Look(ctx context.Context, c config.Config, tag string, progress *release.Progress) (*release.Release, *release.Finder, error) {
	finder, err := Looker(c, progress)
	if err != nil {
		return nil, nil, err
	}
	r, err := Find(ctx, finder, tag)
	return r, finder, err
}

// CheckDir opens the release in the directory dir by c, whatever is known of others, and
// reads all of it. Its tag must be tag, unless that is "".
func CheckDir(ctx context.Context, c config.Config, dir string, tag release.Tag, progress *release.Progress) (*release.Release, error) {
	verifier, err := Verifier(c)
	if err != nil {
		return nil, err
	}
	r, err := release.Open(ctx, release.NewDirSource(dir), tag, verifier, append(Options(c), release.WithProgress(progress))...)
	if err != nil {
		return nil, err
	}
	return r, r.CheckComplete(ctx, dir)
}

// Find finds the release of a tag as a verification does.
func Find(ctx context.Context, finder *release.Finder, arg string) (*release.Release, error) {
	tag, err := release.ParseTag(arg)
	if err != nil {
		return nil, terminal.UsageError(err)
	}
	return finder.Find(ctx, tag)
}
