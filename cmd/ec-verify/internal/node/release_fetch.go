package node

import (
	"context"
	"fmt"
	"path"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
)

func newReleaseFetchCommand(a *app) *cobra.Command {
	var flags configured.Flags
	var out string
	var assets []string
	cmd := &cobra.Command{
		Use:   "fetch TAG",
		Short: "fetch a release into a directory",
		Long: `Fetch the release TAG, or latest, check it, and write it to the directory OUT,
which must be empty or missing. OUT appears complete and in one step: only
checked bytes ever reach it.

SHA256SUMS.txt, its signature and release.json are always among the files. A
run that fails or is interrupted or killed leaves the fetched files beside OUT,
in a directory that only this user can read and that the error names. The next
run resumes there; files with a wrong checksum are removed.`,
		Example: `  ec-verify release fetch boot-v2026.02.28 --out boot/
  ec-verify release fetch latest --out boot/ --asset '*-netboot-*.tar.gz'`,
		Args: terminal.ArgCount(1, 1, "one tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return terminal.UsageErrorf("--out DIR is missing: name the directory for the release")
			}
			for _, pattern := range assets {
				if _, err := path.Match(pattern, ""); err != nil {
					return terminal.UsageErrorf("--asset %q: %w", pattern, err)
				}
			}
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			progress := new(release.Progress)
			stop := a.WatchFetch(progress)
			r, err := fetchRelease(cmd.Context(), c, args[0], out, assets, progress)
			stop()
			if err != nil {
				return a.Refused(terminal.ReleaseKind, err)
			}
			return a.Show(terminal.Summarize(cmd.Context(), r))
		},
	}
	flags.RegisterRelease(cmd)
	flags.RegisterUnsafe(cmd)
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "write the release to the directory `OUT` (required)")
	f.StringArrayVar(&assets, "asset", nil, "fetch only assets whose names match `PATTERN`, e.g. '*.iso'; may be repeated")
	return cmd
}

func fetchRelease(ctx context.Context, c config.Config, arg, out string, patterns []string, progress *release.Progress) (*release.Release, error) {
	r, _, err := configured.Look(ctx, c, arg, progress)
	if err != nil {
		return nil, err
	}
	want := func(name string) bool {
		for _, pattern := range patterns {
			// The patterns are known to be well-formed.
			if ok, _ := path.Match(pattern, name); ok {
				return true
			}
		}
		return len(patterns) == 0
	}
	found := false
	for name := range r.Sums().All() {
		found = found || want(name)
	}
	if !found {
		return nil, &release.NotFoundError{What: fmt.Sprintf("any asset that matches %q", patterns), Source: r.Source(), Hint: "the release's " + release.SumsName + " lists its files"}
	}
	return r, r.CopyTo(ctx, out, want)
}
