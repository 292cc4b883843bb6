package boothost

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/release"
)

func newNetbootStageCommand(a *app) *cobra.Command {
	var flags configured.Flags
	var dir, url, tarball string
	cmd := &cobra.Command{
		Use:   "stage TAG",
		Short: "verify a release and serve its netboot bundle",
		Long: `Fetch the release TAG, or latest, check it, unpack its netboot bundle into a
new directory in DIR, and point DIR/current to it.

The last step is one rename, after everything was synced to disk: DIR always
serves one complete verified release, and if anything fails, it continues to
serve the previous one. After a switch, the previous release is also kept for a
while (DIR/previous), for machines in the middle of a boot.

A stage that already exists is not fetched again. It is checked byte for byte
against its signed release, as by ec-verify netboot check, and recreated if it
was altered. The bundle is kept beside the served files for that comparison, so
a stage takes twice the space of its images. The next run resumes an incomplete
fetch.

If the newest release is refused because it is unsigned or misnamed, latest
does not fall back to an older valid one: name that release by its tag.`,
		Example: `  ec-verify netboot stage boot-v2026.02.28 --dir /srv/netboot \
    --url http://10.0.0.2
  ec-verify netboot stage latest --dir /srv/netboot --url http://10.0.0.2 \
    --tarball 'ec-runner-x86_64-netboot-*.tar.gz'`,
		Args: terminal.ArgCount(1, 1, "one tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			base, err := parseURLFlag(url)
			if err != nil {
				return err
			}
			if _, err := release.ParseTag(args[0]); err != nil {
				return terminal.UsageError(err)
			}
			if _, err := filepath.Match(tarball, ""); err != nil {
				return terminal.UsageErrorf("--tarball %q: %w", tarball, err)
			}
			staged, err := a.stage(cmd, args[0], &flags, netboot.Stager{Dir: dir, URL: base, Tarball: tarball})
			if err != nil {
				return a.Refused(netbootKind, err)
			}
			headline := fmt.Sprintf("release %s is served", staged.Tag)
			if !staged.Switched {
				headline += ", as before"
			}
			return a.Show(changedStage(headline, staged))
		},
	}
	flags.RegisterRelease(cmd)
	flags.RegisterUnsafe(cmd)
	f := cmd.Flags()
	f.StringVar(&url, "url", "", "the `URL` at which machines reach this host, e.g. http://10.0.0.2 (required)")
	f.StringVar(&tarball, "tarball", "*-netboot*.tar.gz", "serve the one asset whose name matches `PATTERN`")
	registerStageDir(cmd, &dir)
	return cmd
}

func (a *app) stage(cmd *cobra.Command, tag string, flags *configured.Flags, s netboot.Stager) (*netboot.Staged, error) {
	c, err := flags.Load(a.Terminal)
	if err != nil {
		return nil, err
	}
	progress := new(release.Progress)
	finder, err := configured.Finder(c, progress, flags.Foreign)
	if err != nil {
		return nil, err
	}
	// By the memory that finding the release adds to.
	if s.Open, err = openStaged(c, finder.Memory); err != nil {
		return nil, err
	}
	stop := a.WatchFetch(progress)
	defer stop()
	return s.Stage(cmd.Context(), func(ctx context.Context) (*release.Release, error) {
		return configured.Find(ctx, finder, tag)
	})
}
