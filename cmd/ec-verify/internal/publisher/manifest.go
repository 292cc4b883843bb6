package publisher

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/publisher/publish"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

func newManifestCommand(a *app) *cobra.Command {
	return terminal.Group(&cobra.Command{Use: "manifest", Short: "write and check closure manifests"},
		newManifestCreateCommand(a), newManifestCheckCommand(a))
}

func newManifestCreateCommand(a *app) *cobra.Command {
	req := publish.Request{}
	var bestBefore time.Duration
	var rebuildChoice, previous string
	cmd := &cobra.Command{
		Use:   "create FLAKE#CONFIGURATION",
		Short: "build a system and write its closure manifest",
		Long: `Realise the system of nixosConfigurations.CONFIGURATION in FLAKE, hash its
closure from disk, and write to the output directory: the closure manifest, the
file listing, the derivations, the expected machine outside its store (/etc,
units, users, mounts), release.json and SHA256SUMS.txt.

The manifest depends on the source alone: every builder writes the same bytes.
For a release of several configurations, run the command once for each with the
same --out. Times are taken from SOURCE_DATE_EPOCH if it is set.

With --rebuild, derivations are built a second time, in a scratch store in the
state directory. The manifest lists those with a different result, so that a
machine that rebuilds them raises no alarm. This requires root.

Exit codes:
  0    the files are written
  4    they are not: the build, the evaluation or the writing failed
  64   the command line is not valid
  78   the configuration is not valid`,
		Example: `  ec-verify manifest create .#ec-runner-x86_64 --out dist/ \
    --tag boot-v2026.02.28
  ec-verify manifest create .#ec-runner-x86_64 --out dist/ --rebuild config \
    --previous last/closure-ec-runner-x86_64.json
  ec-verify manifest create /nix/store/…-source#ec-runner-aarch64 --out dist/`,
		Args: terminal.ArgCount(1, 1, "one FLAKE#CONFIGURATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			flake, name, ok := strings.Cut(args[0], "#")
			if !ok || flake == "" || name == "" {
				return terminal.UsageErrorf("%q: want FLAKE#CONFIGURATION, e.g. .#ec-runner-x86_64", args[0])
			}
			if err := closure.CheckConfiguration(name); err != nil {
				return terminal.UsageError(err)
			}
			// Now, and not when the system has been built.
			if req.Tag != "" {
				if _, err := release.ParseTag(req.Tag); err != nil {
					return terminal.UsageErrorf("--tag: %w", err)
				}
				if req.Tag == string(release.Latest) {
					return terminal.UsageErrorf("--tag %s: this means the newest release, and cannot name one", req.Tag)
				}
			}
			ref, err := localFlake(flake)
			if err != nil {
				return err
			}
			req.Flake, req.Configuration = ref, name
			now, err := buildTime()
			if err != nil {
				return err
			}
			if bestBefore < time.Hour {
				return terminal.UsageErrorf("--best-before %s: want at least 1h", bestBefore)
			}
			req.Created, req.BestBefore = now, now.Add(bestBefore.Truncate(time.Second))
			return a.createManifest(cmd.Context(), req, rebuildChoice, previous)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.OutDir, "out", "", "write to the directory `DIR`, created if missing (required)")
	f.StringVar(&req.Tag, "tag", "", "name the release `TAG` (default: boot- and the commit)")
	f.StringVar(&req.Commit, "commit", "", "record the commit `HASH` (default: the flake's own)")
	f.StringVar(&rebuildChoice, "rebuild", "none", "rebuild `CHOICE` in a scratch store and list the differences: none, config, sample, first-party or all")
	f.StringVar(&previous, "previous", "", "carry over the unreproducible derivations of the manifest `FILE`, except those that now reproduce")
	terminal.DurationVar(f, &bestBefore, "best-before", 90*24*time.Hour, "let the release expire after `DURATION` (bestBefore)")
	terminal.Complete(cmd, "rebuild", configured.Choices()...)
	return cmd
}

// localFlake makes the reference to a flake in a local directory absolute, and
// follows links to it, which nix itself does not. Other references are nix's.
func localFlake(ref string) (string, error) {
	if !strings.HasPrefix(ref, "/") && !strings.HasPrefix(ref, ".") {
		return ref, nil
	}
	dir, query, _ := strings.Cut(ref, "?")
	// First absolute: "." is made so by $PWD, which may lead through a link.
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", terminal.UsageErrorf("flake: %w", err)
	}
	if query != "" {
		dir += "?" + query
	}
	return dir, nil
}

// buildTime is now, or what SOURCE_DATE_EPOCH says; see
// https://reproducible-builds.org/specs/source-date-epoch/.
func buildTime() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, terminal.UsageErrorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// setRebuild has req build a second time what choice names. The list of the
// manifest in the file previous goes on; "" for none.
func setRebuild(req *publish.Request, c config.Config, choice, previous string) error {
	var err error
	if c.Rebuild.Choice, err = rebuild.ParseChoice(choice); err != nil {
		return terminal.UsageErrorf("--rebuild: %w", err)
	}
	if err := c.Check(); err != nil {
		return terminal.UsageError(err)
	}
	if c.Rebuild.Choice != rebuild.None {
		req.Rebuilder = configured.Rebuilder(c)
	}
	if previous == "" {
		return nil
	}
	req.Previous, err = readManifest(previous)
	return err
}

func readManifest(file string) (*closure.Manifest, error) {
	data, err := hostfile.ReadSmall(file, closure.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	m, err := closure.DecodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

func (a *app) createManifest(ctx context.Context, req publish.Request, rebuildChoice, previous string) error {
	if req.OutDir == "" {
		return terminal.UsageErrorf("--out DIR is missing: name the directory for the release")
	}
	c, err := configured.Load(a.Terminal)
	if err != nil {
		return err
	}
	req.StoreDir = c.StoreDir
	if err := setRebuild(&req, c, rebuildChoice, previous); err != nil {
		return err
	}
	progress := new(publish.Progress)
	stop := a.Watch(func() terminal.Sample {
		return lookAt(progress.Snapshot())
	})
	result, err := publish.Create(ctx, configured.Nix(c), req, progress)
	stop()
	if err != nil {
		return err
	}
	m := result.Manifest
	if !result.Embedded {
		a.Note("warning: the system's closure does not contain the flake that it was made from, so the source and eval tiers will have nothing to check")
	}
	if result.Untried != "" {
		a.Note("warning: whether a machine can evaluate the flake with nothing but the system's closure was not tried: " + report.Escape(result.Untried))
	}
	if result.Naming != nil {
		a.Note("warning: " + report.Escape(result.Naming.String()))
	}
	if req.Tag != "" && !release.Tag(req.Tag).MayBeLatest() {
		a.Note(onlyByName)
	}
	fmt.Fprintf(a.Stdout, "release %s, configuration %s: %d store paths, %s\n",
		result.Tag, m.Configuration, len(m.Paths), humanize.IBytes(uint64(m.Closure().NarSize())))
	if result.Rebuilt > 0 {
		fmt.Fprintf(a.Stdout, "built a second time: %d derivations; %d are listed as unreproducible\n", result.Rebuilt, len(m.Unreproducible))
	}
	for _, name := range result.Reproduced {
		fmt.Fprintf(a.Stdout, "reproducible now, and not listed any more: %s\n", name)
	}
	for _, name := range result.Files {
		fmt.Fprintln(a.Stdout, filepath.Join(req.OutDir, name))
	}
	return nil
}

// lookAt describes the progress of writing a manifest.
func lookAt(s publish.Snapshot) terminal.Sample {
	look := terminal.Sample{What: s.Stage}
	switch {
	case s.BuildTotal > 0:
		look.Done, look.Total, look.Items = s.Built, s.BuildTotal, true
		look.Detail = fmt.Sprintf("%d/%d derivations", s.Built, s.BuildTotal)
		if p, err := closure.ParseStorePath(s.Current); err == nil {
			look.Detail += "  " + strings.TrimSuffix(p.Name(), ".drv")
		}
	case s.PathsTotal > 0:
		look.Done, look.Total = s.Bytes, s.BytesTotal
		look.Detail = fmt.Sprintf("%d/%d paths", s.Paths, s.PathsTotal)
	}
	return look
}

func newManifestCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "check that a file is a well-formed manifest",
		Long: `Check FILE against every rule for manifests. The signature is not checked; use
ec-verify release verify for that.`,
		Example: "  ec-verify manifest check dist/closure-ec-runner-x86_64.json",
		Args:    terminal.ArgCount(1, 1, "one file"),
		RunE: func(_ *cobra.Command, args []string) error {
			if terminal.IsDirectory(args[0]) {
				return terminal.UsageErrorf("%s is a directory: name a manifest in it, closure-CONFIGURATION.json", args[0])
			}
			m, err := readManifest(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "configuration %s for %s: %d store paths, %s\n",
				m.Configuration, m.System, len(m.Paths), humanize.IBytes(uint64(m.Closure().NarSize())))
			return err
		},
	}
}
