package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/release"
)

func newNetbootStageCommand(a *app) *cobra.Command {
	var flags trustFlags
	var dir, url, tarball string
	cmd := &cobra.Command{
		Use:   "stage TAG",
		Short: "verify a release and serve its netboot bundle",
		Long: `Fetch the release TAG, or latest, check it, unpack its netboot bundle into a
directory of its own in DIR, and have DIR/current lead there.

That last step is one rename, after everything was brought to the disk: what is
served is always the whole of one verified release, and when anything fails, the
one before goes on being served. That one is also kept for a while after a
switch (DIR/previous), for machines that are in the midst of a boot.

A stage that is there already is checked as by ec-verify netboot check, byte for
byte against its signed release, and not fetched again; one that was altered is
made anew. The bundle is kept beside what is served, to compare that with: a stage
takes twice the room of its images. A fetch that breaks off is taken up again by
the next run.

A newest release that is refused, unsigned or misnamed, keeps latest from taking an
older one that is good: name that one by its tag.`,
		Example: `  ec-verify netboot stage boot-v2026.02.28 --dir /srv/netboot --url http://10.0.0.2
  ec-verify netboot stage latest --dir /srv/netboot --url http://10.0.0.2 --tarball 'ec-runner-x86_64-netboot-*.tar.gz'`,
		Args: argCount(1, 1, "one tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			base, err := parseURLFlag(url)
			if err != nil {
				return err
			}
			if _, err := release.ParseTag(args[0]); err != nil {
				return usageError{err}
			}
			if _, err := filepath.Match(tarball, ""); err != nil {
				return usageError{fmt.Errorf("--tarball %q: %w", tarball, err)}
			}
			staged, err := a.stage(cmd, args[0], &flags, netboot.Stager{Dir: dir, URL: base, Tarball: tarball})
			if err != nil {
				return a.refused(netbootKind, err)
			}
			headline := fmt.Sprintf("release %s is served", staged.Tag)
			if !staged.Switched {
				headline += ", as before"
			}
			return a.printStage(headline, changedStage(staged))
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&url, "url", "", "the `URL` at which machines reach this host, e.g. http://10.0.0.2 (required)")
	f.StringVar(&tarball, "tarball", "*-netboot*.tar.gz", "serve the one asset whose name matches `PATTERN`")
	registerStageDir(cmd, &dir)
	return cmd
}

func (a *app) stage(cmd *cobra.Command, tag string, flags *trustFlags, s netboot.Stager) (*netboot.Staged, error) {
	c, err := flags.load(a, cmd)
	if err != nil {
		return nil, err
	}
	if s.Open, err = openStaged(c); err != nil {
		return nil, err
	}
	progress := new(release.Progress)
	find := newFinder
	if flags.foreign {
		find = newLooker
	}
	finder, err := find(c, progress)
	if err != nil {
		return nil, err
	}
	stop := a.watchFetch(progress)
	defer stop()
	return s.Stage(cmd.Context(), func(ctx context.Context) (*release.Release, error) {
		return findRelease(ctx, finder, tag)
	})
}
