package node

import (
	"context"
	"sync"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

// releases returns the function that opens the releases to compare with: the one of
// --against first, then those that the configuration accepts. For a look it keeps and
// remembers nothing. It includes revoked releases, because one of them may run. foreign
// means that other keys are trusted than those of this machine's policy. The second
// function says how current the list of revoked releases is.
func (a *app) releases(c config.Config, against string, offline, look, foreign bool) (func(context.Context) []verify.Candidate, func() release.RevocationState, error) {
	tags, err := acceptedTags(c, against)
	if err != nil {
		return nil, nil, err
	}
	progress := new(release.Progress)
	progress.OnNotice(a.waits(offline))
	finder, err := configured.Finder(c, progress, look)
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
		a.Note(report.Escape(line))
		if !offline {
			once.Do(func() {
				a.Note("--offline asks no source on a network, and uses the releases that release refresh has fetched")
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
			return nil, terminal.UsageErrorf("--against: %w", err)
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
		return nil, terminal.ConfigError(errNoRelease)
	}
	return tags, nil
}

// checkReleases checks the settings by which releases are found, without opening any and
// without touching the state directory.
func checkReleases(c config.Config, against string) error {
	if _, err := acceptedTags(c, against); err != nil {
		return err
	}
	if _, err := configured.Verifier(c); err != nil {
		return err
	}
	_, err := configured.Sources(c)
	return err
}
