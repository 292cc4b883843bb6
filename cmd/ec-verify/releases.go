package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

// releases returns what opens the releases to compare with: the one of
// --against first, then those that the configuration accepts. For a look nothing is
// kept or remembered. One that is revoked is among them: it may be the one that runs.
// foreign says that other keys are believed than this machine's policy names. The
// second function says how good what is known of revoked releases is.
func (a *app) releases(c config.Config, against string, offline, look, foreign bool) (func(context.Context) []verify.Candidate, func() release.RevocationState, error) {
	tags, err := acceptedTags(c, against)
	if err != nil {
		return nil, nil, err
	}
	progress := new(release.Progress)
	progress.OnNotice(a.waits(offline))
	finder, err := finder(c, progress, look)
	if err != nil {
		return nil, nil, err
	}
	finder.Offline, finder.Foreign = offline, foreign
	// To compare with a release is not to run it; the verifier confirms the one
	// that runs.
	finder.Options = append(finder.Options, release.WithProvisional(), release.WithRevoked())
	return func(ctx context.Context) []verify.Candidate {
		var out []verify.Candidate
		for _, tag := range tags {
			rel, err := finder.Find(ctx, tag)
			out = append(out, verify.Candidate{Tag: string(tag), Release: rel, Err: err})
		}
		return out
	}, finder.RevocationState, nil
}

// waits returns what says on stderr for which source a run waits, and the first
// time that it need not.
func (a *app) waits(offline bool) func(line string) {
	var once sync.Once
	return func(line string) {
		a.note(report.Escape(line))
		if !offline {
			once.Do(func() {
				a.note("--offline asks no source on a network, and compares with what release refresh has fetched")
			})
		}
	}
}

// acceptedTags returns the tag of --against, and those that the configuration
// accepts.
func acceptedTags(c config.Config, against string) ([]release.Tag, error) {
	var tags []release.Tag
	if against != "" {
		tag, err := release.ParseTag(against)
		if err != nil {
			return nil, usageError{fmt.Errorf("--against: %w", err)}
		}
		tags = append(tags, tag)
	}
	for _, accepted := range c.Release.Accept {
		if accepted != against {
			tags = append(tags, release.Tag(accepted))
		}
	}
	if len(tags) == 0 {
		// The units name no release, so that it is the configuration which lacks one.
		return nil, configError{errNoRelease}
	}
	return tags, nil
}

// checkReleases looks at what the releases are to be found by, without a look at
// any and without touching the state directory.
func checkReleases(c config.Config, against string) error {
	if _, err := acceptedTags(c, against); err != nil {
		return err
	}
	if _, err := releaseVerifier(c); err != nil {
		return err
	}
	_, err := releaseSources(c)
	return err
}

// newFinder returns what finds releases as c says: in the cache, then in its
// sources; what it finds is kept and remembered. progress may be nil.
func newFinder(c config.Config, progress *release.Progress) (*release.Finder, error) {
	return finder(c, progress, false)
}

// newLooker returns what finds releases as newFinder does, for somebody who looks
// at one: this machine neither keeps nor remembers it, so that nothing it runs is
// refused because of that. It takes no right to write.
func newLooker(c config.Config, progress *release.Progress) (*release.Finder, error) {
	return finder(c, progress, true)
}

func finder(c config.Config, progress *release.Progress, look bool) (*release.Finder, error) {
	verifier, err := releaseVerifier(c)
	if err != nil {
		return nil, err
	}
	sources, err := releaseSources(c, release.WithNotice(progress.Notice))
	if err != nil {
		return nil, err
	}
	f := &release.Finder{
		Sources: sources, Verifier: verifier, Keep: c.Release.Keep,
		Options: append(releaseOptions(c), release.WithProgress(progress)), Look: look,
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
		f.Memory, f.Cache = memory, release.ReadCache(cacheDir(c))
		return f, nil
	}
	if err := checkOwnState(c); err != nil {
		return nil, err
	}
	memory, err := release.OpenMemory(c.StateDir)
	if err != nil {
		return nil, fmt.Errorf("%w (stateDir in the configuration says where)", err)
	}
	f.Memory, f.Cache = memory, release.OpenCache(cacheDir(c))
	return f, nil
}

func cacheDir(c config.Config) string { return filepath.Join(c.StateDir, "releases") }

func releaseOptions(c config.Config) []release.Option {
	opts := []release.Option{release.WithGrace(time.Duration(c.Release.Grace))}
	if c.UnsafeAllowRollback {
		opts = append(opts, release.WithUnsafeRollback())
	}
	return opts
}

func releaseSources(c config.Config, opts ...release.SourceOption) ([]release.Source, error) {
	if len(c.Release.Source) == 0 {
		return nil, configError{errors.New("no release source: give --release DIR or URL, or list release.source in the configuration")}
	}
	if c.Release.TokenFile != "" {
		token, err := release.ReadToken(c.Release.TokenFile)
		if err != nil {
			return nil, configError{fmt.Errorf("release.tokenFile: %w", err)}
		}
		opts = append(opts, release.WithToken(token))
	}
	var sources []release.Source
	for _, spec := range c.Release.Source {
		src, err := release.NewSource(spec, opts...)
		if err != nil {
			return nil, configError{err}
		}
		sources = append(sources, src)
	}
	return sources, nil
}

func releaseVerifier(c config.Config) (release.Verifier, error) {
	if c.UnsafeUnsigned {
		return trust.UnsafeUnsigned(), nil
	}
	v, err := trust.New(c.Trust)
	if err != nil && len(c.Trust.Keys)+len(c.Trust.Identities) == 0 {
		return nil, configError{fmt.Errorf("%w in the configuration (release commands take --key FILE as well; --unsafe-unsigned takes the release unsigned)", err)}
	}
	if err != nil {
		return nil, configError{err}
	}
	return v, nil
}
