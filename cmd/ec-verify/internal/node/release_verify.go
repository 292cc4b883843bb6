package node

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
)

func newReleaseVerifyCommand(a *app) *cobra.Command {
	var flags configured.Flags
	cmd := &cobra.Command{
		Use:   "verify DIR|TAG",
		Short: "check a release",
		Long: `Check the signature of a release, its freshness, its files against
SHA256SUMS.txt, and its manifests and listings against their rules.

DIR is a directory with all files of a release, whatever its tag, and nothing
else. It is not compared with releases that this machine accepted before. Write
./DIR for a directory in the working directory that is called "latest" or
"boot-v…".

TAG, or latest, is found as in a verification: in the cache, then in
release.source. The files that a machine uses are checked, and the release must
not be older than an accepted one. Images are checked when they are fetched.`,
		Example: `  ec-verify release verify dist/ --key release.pub
  ec-verify release verify boot-v2026.02.28
  ec-verify release verify latest \
    --release https://forge.example.org/owner/repo/releases/download`,
		Args: terminal.ArgCount(1, 1, "one directory or tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			progress := new(release.Progress)
			stop := a.WatchFetch(progress)
			r, err := checkRelease(cmd.Context(), c, args[0], progress)
			stop()
			if err != nil {
				return a.Refused(terminal.ReleaseKind, hinted(args[0], err))
			}
			return a.Show(terminal.Summarize(cmd.Context(), r))
		},
	}
	flags.RegisterRelease(cmd)
	flags.RegisterUnsafe(cmd)
	return cmd
}

// hinted adds to err what helps if arg was taken for a tag and a directory was meant.
func hinted(arg string, err error) error {
	switch {
	case isDir(arg):
		return err
	case terminal.IsDirectory(arg):
		return fmt.Errorf("%w (%s was taken for a tag; the directory of that name is ./%[2]s)", err, arg)
	case arg == string(release.Latest) || strings.HasPrefix(arg, release.LatestPrefix):
		return err
	}
	return fmt.Errorf("%w (%s was taken for a tag, because there is no directory of that name)", err, arg)
}

// checkRelease opens the release in a directory and reads all of it, or finds the release
// of a tag and reads the parts that a node uses.
func checkRelease(ctx context.Context, c config.Config, arg string, progress *release.Progress) (*release.Release, error) {
	if isDir(arg) {
		return configured.CheckDir(ctx, c, arg, "", progress)
	}
	r, finder, err := configured.Look(ctx, c, arg, progress)
	if err != nil {
		return nil, err
	}
	return r, r.CheckAssets(ctx, finder.Uses)
}

// isDir reports whether the argument of a command means a directory rather
// than a tag.
func isDir(arg string) bool {
	if strings.ContainsRune(arg, os.PathSeparator) || arg == "." || arg == ".." {
		return true
	}
	// A directory is accepted whatever its tag and age are, so one in the working
	// directory must not stand in for the requested release.
	if arg == string(release.Latest) || strings.HasPrefix(arg, release.LatestPrefix) {
		return false
	}
	info, err := os.Stat(arg)
	return err == nil && info.IsDir()
}
