package publisher

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/publisher/compare"
	"every.channel/ec-verify/internal/report"
)

func newCompareCommand(a *app) *cobra.Command {
	var tempDir string
	var all, releases bool
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "compare two builds byte for byte",
		Long: `Compare two builds of one source: two directories, such as two unsigned
releases, or two files, such as two manifests or two images.

Files with equal bytes need no further comparison. Manifests that differ are
compared path by path, listings file by file, and images (tar, ISO, squashfs,
initrd) member by member. The report names the path, the file and, in images,
the bytes that differ.

Links in a directory are compared by their target and never followed. Files and
directories are also compared by their executable, set-ID and sticky bits;
other permissions depend on the umask and are only noted.

Signatures are not compared, because each signing makes a different one. Times
in release.json are only noted. Nothing in A or B is trusted or executed.

Exit codes: 0 everything is equal; 1 something differs; 4 something could not
be compared, or both sides list a file that neither has.`,
		Example: `  ec-verify compare build-a/ build-b/
  ec-verify compare build-a/ build-b/ --output json >difference.json
  ec-verify compare last/closure-ec-runner-x86_64.json \
    dist/closure-ec-runner-x86_64.json`,
		Args: terminal.ArgCount(2, 2, "two directories, or two files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.compare(cmd.Context(), args[0], args[1], compare.Options{TempDir: tempDir, Releases: releases}, all)
		},
	}
	cmd.Flags().StringVar(&tempDir, "temp-dir", "", "unpack nested images to `DIR` while they are read (default: TMPDIR)")
	cmd.Flags().BoolVar(&all, "all", false, "list all recorded differences, not only the first of each file")
	cmd.Flags().BoolVar(&releases, "releases", false, "require that A and B are complete releases")
	return cmd
}

func (a *app) compare(ctx context.Context, one, other string, opts compare.Options, all bool) error {
	for _, name := range []string{one, other} {
		if _, err := os.Stat(name); err != nil {
			return err
		}
	}
	if terminal.IsDirectory(one) != terminal.IsDirectory(other) {
		return terminal.UsageErrorf("%q and %q: want two directories, or two files", one, other)
	}
	if opts.Releases && !terminal.IsDirectory(one) {
		return terminal.UsageErrorf("--releases: want two directories, with a release in each")
	}
	run := compare.Files
	if terminal.IsDirectory(one) {
		run = compare.Dirs
	}
	r, err := run(ctx, one, other, opts)
	if errors.Is(err, compare.ErrSame) {
		return terminal.UsageErrorf("%q and %q: %w", one, other, err)
	}
	if err != nil {
		return err
	}
	if err := a.Show(newComparison(r, all)); err != nil {
		return err
	}
	switch r.Verdict() {
	case compare.Equal:
		return nil
	case compare.Different:
		return terminal.VerdictError(report.Drifted)
	}
	return terminal.VerdictError(report.Unsettled)
}
