package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
)

func newReleaseVerifyCommand(a *app) *cobra.Command {
	var flags trustFlags
	cmd := &cobra.Command{
		Use:   "verify DIR|TAG",
		Short: "check a release",
		Long: `Check the signature of a release, its freshness, its files against SHA256SUMS.txt,
and its manifests and listings against their rules.

DIR is a directory with all files of a release, whatever its tag, and nothing else.
It is not compared with releases that this node accepted before. A directory in the
working directory called "latest" or "boot-v…" is written ./DIR.

TAG, or latest, is found as in a verification: in the cache, then in release.source.
The files that a node uses are checked, and the release must not be older than an
accepted one; images are checked when they are fetched.`,
		Example: `  ec-verify release verify dist/ --key release.pub
  ec-verify release verify boot-v2026.02.28
  ec-verify release verify latest --release https://forge.example.org/owner/repo/releases/download`,
		Args: argCount(1, 1, "one directory or tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.load(a, cmd)
			if err != nil {
				return err
			}
			progress := new(release.Progress)
			stop := a.watchFetch(progress)
			r, err := checkRelease(cmd.Context(), c, args[0], progress)
			stop()
			if err != nil {
				return a.refused(releaseKind, hinted(args[0], err))
			}
			return a.printRelease(cmd.Context(), r)
		},
	}
	flags.register(cmd)
	return cmd
}

// hinted adds to err what helps where the tag arg is also a directory here.
func hinted(arg string, err error) error {
	if isDir(arg) || !isDirectory(arg) {
		return err
	}
	return fmt.Errorf("%w (%s was taken for a tag; the directory of that name is ./%[2]s)", err, arg)
}

// checkRelease opens the release in a directory and reads all of it, or finds
// the one of a tag and reads what a node uses of it.
func checkRelease(ctx context.Context, c config.Config, arg string, progress *release.Progress) (*release.Release, error) {
	if !isDir(arg) {
		finder, err := newLooker(c, progress)
		if err != nil {
			return nil, err
		}
		r, err := findRelease(ctx, finder, arg)
		if err != nil {
			return nil, err
		}
		return r, r.CheckAssets(ctx, finder.Uses)
	}
	verifier, err := releaseVerifier(c)
	if err != nil {
		return nil, err
	}
	r, err := release.Open(ctx, release.NewDirSource(arg), "", verifier, append(releaseOptions(c), release.WithProgress(progress))...)
	if err != nil {
		return nil, err
	}
	return r, r.CheckComplete(ctx, arg)
}

// findRelease finds the release of a tag as a verification does.
func findRelease(ctx context.Context, finder *release.Finder, arg string) (*release.Release, error) {
	tag, err := release.ParseTag(arg)
	if err != nil {
		return nil, usageError{err}
	}
	return finder.Find(ctx, tag)
}
