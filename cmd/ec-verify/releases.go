package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"every.channel/ec-verify/internal/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/internal/verify"
)

// releases returns what opens the releases to compare with: the one of
// --against first, then those that the configuration accepts.
func (a *app) releases(c config.Config, against string) (func(context.Context) []verify.Candidate, error) {
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
		return nil, usageError{errNoRelease}
	}
	sources, err := releaseSources(c)
	if err != nil {
		return nil, err
	}
	verifier, err := releaseVerifier(c)
	if err != nil {
		return nil, err
	}
	opts := []release.Option{release.WithGrace(time.Duration(c.Release.Grace))}
	if c.UnsafeAllowRollback {
		opts = append(opts, release.WithUnsafeRollback())
	}
	return func(ctx context.Context) []verify.Candidate {
		var out []verify.Candidate
		for _, tag := range tags {
			rel, err := openFirst(ctx, sources, tag, verifier, opts)
			out = append(out, verify.Candidate{Tag: string(tag), Release: rel, Err: err})
		}
		return out
	}, nil
}

// openFirst opens the release from the first source that has it. One that is
// there and not trusted ends the search: a source that serves false releases
// is to be known, not passed over.
func openFirst(ctx context.Context, sources []release.Source, tag release.Tag, v release.Verifier, opts []release.Option) (*release.Release, error) {
	var missed []error
	for _, src := range sources {
		rel, err := release.Open(ctx, src, tag, v, opts...)
		var unavailable *release.UnavailableError
		switch {
		case err == nil:
			return rel, nil
		case errors.Is(err, release.ErrNotFound), errors.As(err, &unavailable):
			missed = append(missed, err)
		default:
			return nil, err
		}
	}
	return nil, errors.Join(missed...)
}

func releaseSources(c config.Config) ([]release.Source, error) {
	if len(c.Release.Source) == 0 {
		return nil, configError{errors.New("no release source: give --release DIR or URL, or list release.source in the configuration")}
	}
	var sources []release.Source
	for _, spec := range c.Release.Source {
		src, err := release.NewSource(spec)
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
	if err != nil {
		return nil, configError{fmt.Errorf("%w (or take the release unsigned with --unsafe-unsigned)", err)}
	}
	return v, nil
}
