package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/explain"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// Limits of what diffoscope may take for one file.
const (
	diffoscopeTime   = 5 * time.Minute
	diffoscopeOutput = 1 << 20
)

type explainFlags struct {
	trust     configured.Flags
	against   string
	storeRoot string
	from      string
	report    string
	rebuild   bool
	with      string
}

func newExplainCommand(a *app) *cobra.Command {
	var flags explainFlags
	cmd := &cobra.Command{
		Use:   "explain PATH|FINDING",
		Short: "explain the differences in a path, to the byte, and its origin",
		Long: `Explain a store path, a file in one, or a link to one: the files that differ
from the release, and the differences within them. A path that a report has
shortened, such as /nix/store/…-bash-5.2, is found if one store path has that
name. FINDING is the number of a finding in the JSON report that --report
names, counted from 1.

The release states the hash of each file. Without --against it is an accepted
one that has the path; if several have it, the one that runs. The others are
named. Bytes are compared if an original is available: --from names the root of
another system or store, such as a mounted medium, or a store built with "nix
build --eval-store auto --store DIR"; --rebuild builds the path here in a
scratch store, as the tier rebuild does, and removes the store afterwards. An
original is trusted only if its NAR hash is the release's. If the path matches
the release and the original does not, for example after an unreproducible
rebuild, the differences in the original are explained. Texts are compared by
line, ELF files by section and symbol, archives and images by member, headers
by field; for anything else, the bytes around the first difference are shown.
Differences that look like a usual cause of unreproducible builds are named: a
date, a host name, a build directory, a number of cores, an order, a random id.
An attacker who altered a file can imitate such a cause.

The command also prints the shortest chain of references by which the path is
in the system, the derivation that builds the path, and the locked flake input
of that derivation.

Nothing is changed or recorded. No file of the examined store is executed,
except the inputs of --rebuild, which are verified first.

Exit codes: 0 the path is the release's; 1 it differs; 3 the release is not
trusted; 4 the answer is unknown.`,
		Example: `  ec-verify explain --from /mnt \
    /nix/store/qcim1ycpqg48c391gk5bjdgyay4q2y74-program-01-1.1
  ec-verify explain /run/current-system/sw/bin/bash --rebuild
  ec-verify explain 1 --report report.json --from /mnt --with diffoscope`,
		Args: terminal.ArgCount(1, 1, "one path, or the number of a finding"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.explain(cmd, args[0], flags) },
	}
	flags.trust.RegisterRelease(cmd)
	flags.trust.RegisterUnsafe(cmd)
	flags.trust.RegisterConfiguration(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.against, "against", "", "compare with the release `TAG` (default: an accepted one that has the path)")
	f.StringVar(&flags.storeRoot, "store-root", "", "examine the disk mounted at `DIR` instead of this machine")
	f.StringVar(&flags.from, "from", "", "compare with the store below the root `DIR`")
	f.BoolVar(&flags.rebuild, "rebuild", false, "rebuild the path in a scratch store and compare with the result")
	f.StringVar(&flags.report, "report", "", "take FINDING from the JSON report in `FILE`")
	f.StringVar(&flags.with, "with", "", "also compare files with `PROGRAM`: diffoscope")
	terminal.Complete(cmd, "with", "diffoscope")
	return cmd
}

// asked is what to explain.
type asked struct {
	finding *report.Finding
	name    string // a path
	tag     string // the release that the finding is about
	// configuration is the one of the finding's report; that release may have it too.
	configuration string
}

func (a *app) explain(cmd *cobra.Command, arg string, flags explainFlags) error {
	ctx := cmd.Context()
	c, err := flags.trust.Load(a.Terminal)
	if err != nil {
		return err
	}
	what, err := flags.asked(arg, &c)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("store-root") {
		c.StoreRoot = flags.storeRoot
	}
	x, err := flags.explainer(c)
	if err != nil {
		return err
	}
	defer x.Store.Close()
	if original := x.Original; original != nil {
		defer original.Close()
	}
	path, file, err := storePath(x.Store, what.name)
	switch {
	case err != nil && what.finding != nil:
		return a.explainFinding(what.finding)
	case err != nil:
		return terminal.UsageError(err)
	}
	others, err := a.explainedBy(ctx, c, x, what, path)
	if err != nil {
		return err
	}
	var e *explain.Explanation
	examine := func(ctx context.Context) error {
		e, err = x.Explain(ctx, path, file)
		return err
	}
	from := flags.from
	if flags.rebuild {
		from = "a rebuild"
		err = a.rebuilt(ctx, c, x, path, examine)
	} else {
		err = examine(ctx)
	}
	if err != nil {
		return err
	}
	out := newExplained(x, e)
	out.finding, out.from, out.others = what.finding, from, others
	if err := a.Show(out); err != nil {
		return err
	}
	switch out.State {
	case explain.Same:
		return nil
	case explain.Unreadable:
		return terminal.VerdictError(report.Unsettled)
	}
	return terminal.VerdictError(report.Drifted)
}

// explainer returns an explainer with the stores that c and the flags name, and without
// a release.
func (f *explainFlags) explainer(c config.Config) (*explain.Explainer, error) {
	if f.rebuild && f.from != "" {
		return nil, terminal.UsageErrorf("--rebuild and --from each give an original: want one of them")
	}
	x := new(explain.Explainer)
	var err error
	if f.with != "" {
		if x.Diffoscope, err = f.diffoscope(); err != nil {
			return nil, err
		}
	}
	if x.Store, err = openStore(c.StoreRoot, c.StoreDir); err != nil || f.from == "" {
		return x, err
	}
	if x.Original, err = openStore(f.from, c.StoreDir); err != nil {
		x.Store.Close()
		return nil, fmt.Errorf("--from: %w", err)
	}
	return x, nil
}

func openStore(root string, dir closure.StoreDir) (*nixstore.Store, error) {
	if err := checkStoreRoot(root, dir); err != nil {
		return nil, err
	}
	return nixstore.OpenStore(root, dir)
}

// rebuilt rebuilds path and calls examine while the result is x's original.
func (a *app) rebuilt(ctx context.Context, c config.Config, x *explain.Explainer, path closure.StorePath, examine func(context.Context) error) error {
	manifest, err := x.Release.Manifest(ctx, x.Configuration)
	if err != nil {
		return err
	}
	want, ok := manifest.Closure()[path]
	switch {
	case !ok:
		return fmt.Errorf("--rebuild: release %s does not have %s, so that no derivation of it is known", x.Release.Tag(), path)
	case want.Deriver == "":
		return fmt.Errorf("--rebuild: %s is a source, which is not built; name a store that has it: --from", path)
	}
	if err := configured.CheckOwnState(c); err != nil {
		return err
	}
	link := c.Flake
	if c.StoreRoot != "" {
		link = flakeOnDisk(link)
	}
	flake, _, err := x.Store.ResolveLink(link)
	if err != nil {
		return fmt.Errorf("--rebuild: the flake of the derivation: %w", err)
	}
	a.Note(fmt.Sprintf("%s is being rebuilt, for at most %s", want.Deriver, time.Duration(c.Rebuild.BuildTimeout)))
	req := rebuild.Request{Root: c.StoreRoot, Manifest: manifest, Source: flake}
	err = configured.Rebuilder(c).One(ctx, req, want.Deriver, func(ctx context.Context, root string) error {
		if x.Original, err = nixstore.OpenStore(root, manifest.StoreDir); err != nil {
			return err
		}
		defer x.Original.Close()
		return examine(ctx)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("--rebuild: %w", err)
	}
	return err
}

// asked parses arg: a path, or the number of a finding.
func (f *explainFlags) asked(arg string, c *config.Config) (asked, error) {
	what := asked{name: arg, tag: f.against}
	n, noNumber := strconv.Atoi(arg)
	switch {
	case noNumber != nil && f.report != "":
		return what, terminal.UsageErrorf("%q is not the number of a finding in --report %q", arg, f.report)
	case noNumber != nil:
		return what, nil //nolint:nilerr // it is a path
	case f.report == "":
		return what, terminal.UsageErrorf("finding %d: --report FILE is missing: name the JSON report that has it", n)
	}
	r, err := readReport(f.report)
	if err != nil {
		return what, err
	}
	if n < 1 || n > len(r.Findings) {
		return what, terminal.UsageErrorf("finding %d: the report lists %d", n, len(r.Findings))
	}
	what.finding = &r.Findings[n-1]
	what.name = what.finding.Path
	if what.tag == "" {
		what.tag = what.finding.Release
	}
	if what.tag == "" && r.Release != nil {
		what.tag = r.Release.Tag
	}
	if r.Release != nil {
		what.configuration = r.Configuration
	}
	if c.StoreRoot == "" {
		c.StoreRoot = r.StoreRoot
	}
	return what, nil
}

// maxReport limits a JSON report that is read, in bytes.
const maxReport = 64 << 20

// readReport reads the JSON report in the file name, "-" for standard input.
func readReport(name string) (*report.Report, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	return parseReport(name, data)
}

func parseReport(name string, data []byte) (*report.Report, error) {
	r, err := report.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (ec-verify --output json writes one)", name, err)
	}
	return r, nil
}

func (f *explainFlags) diffoscope() (*explain.Diffoscope, error) {
	switch {
	case f.with != "diffoscope":
		return nil, terminal.UsageErrorf("--with %q: want diffoscope", f.with)
	case f.from == "" && !f.rebuild:
		return nil, terminal.UsageErrorf("--with diffoscope compares with an original: give --from DIR or --rebuild as well")
	}
	program, err := explain.FindDiffoscope()
	if err != nil {
		return nil, fmt.Errorf("--with diffoscope: %w", err)
	}
	return &explain.Diffoscope{Program: program, Time: diffoscopeTime, Output: diffoscopeOutput}, nil
}

// storePath returns the store path that name is, is in, or leads to, and the rest.
func storePath(store *nixstore.Store, name string) (closure.StorePath, string, error) {
	name, err := unshortened(store, name)
	if err != nil {
		return "", "", err
	}
	if p, rest, err := store.Dir().Within(filepath.Clean(name)); err == nil {
		return p, strings.TrimPrefix(rest, "/"), nil
	}
	if !filepath.IsAbs(name) {
		return "", "", fmt.Errorf("%q is neither a store path nor an absolute path that leads to one", name)
	}
	p, rest, err := store.ResolveLink(name)
	if err != nil && p == "" {
		return "", "", fmt.Errorf("%q does not lead to a store path: %w", name, err)
	}
	return p, strings.TrimPrefix(rest, "/"), nil
}

// unshortened returns name with the hash that a report on a terminal leaves out, as in
// /nix/store/…-bash-5.2/bin/sh or /nix/store/abcdefgh…-bash-5.2.
func unshortened(store *nixstore.Store, name string) (string, error) {
	const most = 1 << 20 // store paths
	dir := string(store.Dir())
	begin, rest, short := strings.Cut(strings.TrimPrefix(name, dir+"/"), "…-")
	if !short || !strings.HasPrefix(name, dir+"/") || strings.Contains(begin, "/") {
		return name, nil
	}
	object, file, _ := strings.Cut(rest, "/")
	all, err := store.List(dir, most)
	if err != nil {
		return "", err
	}
	var fitting []string
	for _, n := range all {
		if hash, is := strings.CutSuffix(n, "-"+object); is && strings.HasPrefix(hash, begin) && !strings.Contains(hash, "-") {
			fitting = append(fitting, n)
		}
	}
	switch len(fitting) {
	case 0:
		return "", fmt.Errorf("%q: no store path has this name; the report has its whole path with --long", name)
	case 1:
		return filepath.Join(dir, fitting[0], file), nil
	}
	slices.Sort(fitting)
	return "", fmt.Errorf("%q: %d store paths have this name: add the first letters of the hash, as in %s/%s…-%s", name, len(fitting), dir, fitting[0][:8], object)
}

// otherRelease is an accepted release that a path was not compared with.
type otherRelease struct {
	tag string
	has bool // the path
}

// explainedBy sets x's release to that of what.tag. Without a tag, it takes an accepted
// release that has path; if several have it, the one that the machine runs, or else the one
// that it boots. It returns the other accepted releases.
func (a *app) explainedBy(ctx context.Context, c config.Config, x *explain.Explainer, what asked, path closure.StorePath) ([]otherRelease, error) {
	progress := new(release.Progress)
	finder, err := configured.Looker(c, progress)
	if err != nil {
		return nil, err
	}
	// A revoked release can be explained too, if it runs.
	finder.Options = append(finder.Options, release.WithRevoked())
	defer a.WatchFetch(progress)()
	if what.tag != "" {
		if x.Release, err = configured.Find(ctx, finder, what.tag); err != nil {
			return nil, err
		}
		if c.Configuration == "" && slices.Contains(x.Release.Info().Configurations, what.configuration) {
			c.Configuration = what.configuration
		}
		x.Configuration, err = onlyConfiguration(c, x.Release)
		return nil, err
	}
	if len(c.Release.Accept) == 0 {
		return nil, terminal.ConfigError(errNoRelease)
	}
	return explainedByAccepted(ctx, c, x, finder, path)
}

// explainedByAccepted is explainedBy without a tag.
func explainedByAccepted(ctx context.Context, c config.Config, x *explain.Explainer, finder *release.Finder, path closure.StorePath) ([]otherRelease, error) {
	var system closure.StorePath
	for _, link := range []string{verify.CurrentSystem, verify.SystemProfile} {
		if p, _, err := x.Store.ResolveLink(link); err == nil {
			system = p
			break
		}
	}
	var all []otherRelease
	rank, best := 0, 0 // best is its index in all
	var failed error
	for _, found := range finder.FindAccepted(ctx) {
		m, err := manifestFor(ctx, c, found)
		if err != nil {
			failed = err
			continue
		}
		_, has := m.Closure()[path]
		now := 1
		if m.Toplevel.OutPath == system {
			now++
		}
		if has {
			now += 2
		}
		if now > rank {
			x.Release, x.Configuration, rank, best = found.Release, m.Configuration, now, len(all)
		}
		all = append(all, otherRelease{string(found.Release.Tag()), has})
	}
	switch {
	case x.Release == nil:
		return nil, failed
	case failed != nil && !all[best].has:
		return nil, fmt.Errorf("no accepted release that is available has %s: %w", path, failed)
	}
	return slices.Delete(all, best, best+1), nil
}

// manifestFor returns the manifest of the configuration that c names, or else of the only
// one.
func manifestFor(ctx context.Context, c config.Config, found release.Found) (*closure.Manifest, error) {
	if found.Err != nil {
		return nil, found.Err
	}
	configuration, err := onlyConfiguration(c, found.Release)
	if err != nil {
		return nil, err
	}
	return found.Release.Manifest(ctx, configuration)
}

// onlyConfiguration returns the configuration that c names, or else the only one of r.
func onlyConfiguration(c config.Config, r *release.Release) (string, error) {
	all := r.Info().Configurations
	switch {
	case c.Configuration != "":
		return c.Configuration, nil
	case len(all) == 1:
		return all[0], nil
	}
	return "", terminal.UsageErrorf("release %s has the configurations %s: choose one with --configuration", r.Tag(), strings.Join(all, ", "))
}

// explainFinding explains a finding that concerns no store path.
func (a *app) explainFinding(f *report.Finding) error {
	if err := a.TextOnly("--output json: the finding is about no store path; the report has all of it"); err != nil {
		return err
	}
	text := f.Line() + "\n"
	if next := report.Next(f.Cause); next != "" {
		text += "  → " + next + "\n"
	}
	if err := a.Print(text); err != nil {
		return err
	}
	switch f.Class() {
	case report.Drift:
		return terminal.VerdictError(report.Drifted)
	case report.Untrusted:
		return terminal.VerdictError(report.Refused)
	case report.Inconclusive:
		return terminal.VerdictError(report.Unsettled)
	}
	return nil
}
