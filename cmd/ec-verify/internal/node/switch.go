package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/activate"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/importer"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

func newSwitchCommand(a *app) *cobra.Command {
	flags := verifyFlags{stall: defaultStall}
	var from string
	cmd := &cobra.Command{
		Use:   "switch TOPLEVEL|TAG [switch|boot|test]",
		Short: "switch to a system if it is verified",
		Long: `Judge a system as ec-verify candidate does, and hash each path of its closure.
Only if it is verified, set the system profile to the very path that was hashed
and run that path's bin/switch-to-configuration. Otherwise change nothing.

  switch  run it now, and boot it from now on (the default)
  boot    boot it from now on
  test    run it until the next boot, without setting the profile

The program of the running system judges the new one. No exception in the
configuration applies: an unsigned release is refused (unsafeUnsigned), and so
is one that is older than one accepted before, unless release.accept lists it.

A root protects the closure from the garbage collector throughout. The command
notices files that were touched between hashing and activation, and checks them
once more afterwards. No second switch begins meanwhile, and none begins during
a switch of NixOS's own tools. The system's script runs in
ec-verify-switch.service, so it completes even if this process ends. Its output
is shown on standard error, and kept as switch.log in the state directory.

With --from, paths that the store lacks are fetched first: from a directory
with a binary cache or a copy of a store, file:///DIR with one of these, or
https://HOST/… and ssh-ng://HOST, which nix reads. The release's signed
manifest lists these paths and their hashes. Each is hashed before any is
registered, so neither signatures of a cache nor trusted users are needed. With
--dry-run the store is only asked whether it has them, and the system is judged
if nothing is missing here.

Exit codes: 0 verified and switched to (with --dry-run: verified); 1 drifted, 3
untrusted, 4 inconclusive, or the switch failed or is incomplete, as the last
line says.`,
		Example: `  # Run and boot the release, if the store has all of it
  ec-verify switch boot-v2026.03.15

  # Boot it at the next start of the machine
  ec-verify switch boot-v2026.03.15 boot

  # The same, fetching missing paths from another machine, or from a stick
  ec-verify switch boot-v2026.03.15 --from ssh-ng://builder.example.org
  ec-verify switch boot-v2026.03.15 --from /media/stick

  # What would be fetched and changed?
  ec-verify switch boot-v2026.03.15 --from /media/stick --dry-run
  ec-verify switch \
    /nix/store/k3v4l5g0hwc9c1hgw8aq0yfybvkvj7a4-nixos-system-runner-25.11 \
    --dry-run`,
		Args: terminal.ArgCount(1, 2, "one toplevel or tag, and an action"),
		RunE: func(cmd *cobra.Command, args []string) error {
			action := activate.NowAndBoot
			if len(args) == 2 {
				action = activate.Action(args[1])
			}
			if !slices.Contains(activate.Actions(), action) {
				return terminal.UsageErrorf("%q: want switch, boot or test", args[1])
			}
			return a.switchTo(cmd, args[0], action, from, &flags)
		},
	}
	flags.registerShared(cmd)
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "judge it, print the planned steps and the changes of versions and sizes, and do nothing")
	cmd.Flags().StringVar(&from, "from", "", "fetch missing paths from `STORE`: a directory, file:///DIR, https://HOST/… or ssh-ng://HOST")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return configured.KnownTags(cmd.Context(), a.Terminal), cobra.ShellCompDirectiveDefault
		case 1:
			var words []string
			for _, action := range activate.Actions() {
				words = append(words, string(action))
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// switchTo judges the system that arg names, and carries out action if it is verified.
func (a *app) switchTo(cmd *cobra.Command, arg string, action activate.Action, from string, flags *verifyFlags) error {
	ctx := cmd.Context()
	g, err := a.newSwitch(ctx, arg, action, from, flags)
	if err == nil {
		defer tempIn(g.stateDir)()
		err = g.run(ctx, g.activate)
	}
	if err != nil {
		return a.Refused(switchKind, err)
	}
	if err := g.render(flags.text); err != nil {
		return err
	}
	switch verdict := g.report.Verdict(); {
	case verdict != report.Verified:
		return terminal.VerdictError(verdict)
	case g.err != nil && ctx.Err() != nil:
		return g.err
	case g.err != nil:
		return terminal.ReportedError(terminal.ExitInconclusive)
	}
	return nil
}

// newSwitch returns the gate for the system that arg names, which did nothing yet.
func (a *app) newSwitch(ctx context.Context, arg string, action activate.Action, from string, flags *verifyFlags) (*gate, error) {
	if unit := currentUnit(); strings.HasPrefix(unit, "ec-verify") {
		return nil, fmt.Errorf("%s verifies, and switches to nothing", unit)
	}
	c, system, err := a.candidateOf(arg, flags)
	if err != nil {
		return nil, err
	}
	if c.StoreRoot != "" {
		return nil, terminal.ConfigErrorf("storeRoot: a mounted disk can't be switched")
	}
	programs := configured.Nix(c)
	var source importer.Source
	if from != "" {
		if source, err = importer.ParseSource(from, programs); err != nil {
			return nil, terminal.UsageErrorf("--from: %w", err)
		}
	}
	if !flags.dryRun && os.Geteuid() != 0 {
		return nil, errors.New("only root can switch; any user can use --dry-run")
	}
	g, err := a.newGate(ctx, c, system, flags, flags.dryRun)
	if err != nil {
		return nil, err
	}
	g.action, g.dryRun, g.source, g.register = action, flags.dryRun, source, programs.Import
	g.machine = activate.This(c.StoreDir, filepath.Join(c.StateDir, "switch.log"), a.relay())
	return g, nil
}

// newGate returns the gate for the system of that name. Everything is hashed, whatever
// earlier runs have verified, and a look remembers nothing of a release.
func (a *app) newGate(ctx context.Context, c config.Config, system string, flags *verifyFlags, look bool) (*gate, error) {
	c.UnsafeUnsigned, c.UnsafeAllowRollback = false, false
	v, err := a.candidateVerifier(c, system, flags, look)
	if err != nil {
		return nil, err
	}
	g := &gate{app: a, verifier: v, stateDir: c.StateDir}
	l, before, err := earlier(ctx, c)
	if err != nil && !a.ForPeople() { // the text of a switch does not show the standing
		a.Note("the machine's standing is unknown: " + report.Escape(err.Error()))
	}
	if l != nil {
		l.Close()
	}
	g.before = before
	return g, nil
}

// gate is one judgement, and the action if the system is verified.
type gate struct {
	app      *app
	verifier *verify.Verifier
	machine  *activate.Machine
	action   activate.Action
	dryRun   bool

	before   standing.Standing // of the machine; it stays
	source   importer.Source   // nil to import nothing
	stateDir string
	register importer.Register

	// What is judged, how its files were before that, and what protects it until the end;
	// turn is nil in a dry run.
	system   closure.StorePath
	manifest *closure.Manifest
	marks    *activate.Marks
	turn     *activate.Switch

	report  *report.Report
	outcome activate.Outcome
	changes []activate.PackageChange // of a dry run
	imports *imports                 // with a source
	err     error                    // why not all was done of what is verified
}

// onlyPlanned reports whether missing paths were only planned to be fetched, so that the
// system was not judged.
func (g *gate) onlyPlanned() bool { return g.dryRun && g.imports != nil && g.imports.Paths > 0 }

// imports is what was fetched from a source, in a dry run what would be.
type imports struct {
	From  string `json:"from"`
	Paths int    `json:"paths"`
	Size  int64  `json:"size"` // of their NARs, in bytes
	Here  int    `json:"here"` // how many of the release's paths are not fetched
}

// run judges the system, and calls do if it is verified. Its error is why it was not
// judged.
func (g *gate) run(ctx context.Context, do func(context.Context)) error {
	open := g.verifier.Open(ctx)
	g.verifier.Open = func(context.Context) []verify.Candidate { return open } // the same for all steps
	m, first := g.verifier.Manifest(ctx)
	if m == nil || first.Verdict() == report.Drifted {
		// Either the system is unknown, so that nothing can be protected; or its release
		// is revoked, so that nothing of it may be fetched.
		g.report = g.app.judge(ctx, g.verifier, g.before)
		return nil
	}
	p, err := g.verifier.StoreDir.Parse(first.Candidate)
	if err != nil {
		return err
	}
	g.system, g.manifest = p, m
	if !g.dryRun {
		if err := g.hold(ctx); err != nil {
			return err
		}
		defer func() {
			if err := g.turn.End(); err != nil {
				g.app.Note(report.Escape(err.Error()))
			}
		}()
	}
	if g.source != nil {
		err = g.bring(ctx)
	} else {
		err = g.here(ctx)
	}
	if err != nil {
		return err
	}
	if g.onlyPlanned() {
		// What is not here yet can't be judged.
		g.report = first
		g.changes, g.err = g.plannedChanges(ctx)
		return nil
	}
	store, err := nixstore.OpenStore("", g.verifier.StoreDir)
	if err != nil {
		return err
	}
	defer store.Close()
	g.marks = activate.Take(ctx, store, m.Paths)
	g.report = g.app.judge(ctx, g.verifier, g.before)
	if g.report.Verdict() != report.Verified {
		return nil
	}
	if g.report.Candidate != string(p) {
		return fmt.Errorf("%s was judged, but %s is protected", g.report.Candidate, p)
	}
	if g.dryRun {
		g.changes, g.err = g.plannedChanges(ctx)
		return nil
	}
	do(ctx)
	return nil
}

// activate has the machine run and boot the system, as the action says.
func (g *gate) activate(ctx context.Context) {
	g.outcome, g.err = g.turn.Activate(ctx, g.system, g.action, func() bool {
		return g.untouched(ctx, "after it was hashed, before it was activated")
	})
	if errors.Is(g.err, activate.ErrTouched) {
		return
	}
	g.untouched(context.WithoutCancel(ctx), "while it was activated")
	if g.err == nil {
		g.confirm(ctx)
	}
}

// hold begins the switch, and protects the system from the garbage collector.
func (g *gate) hold(ctx context.Context) error {
	turn, err := activate.Begin(ctx, g.machine)
	if err != nil {
		return err
	}
	if err := turn.Hold(ctx, g.system); err != nil {
		return errors.Join(err, turn.End())
	}
	g.turn = turn
	return nil
}

// here fails if the system never was in the store. One that Nix has registered and that is
// gone is found when it is judged.
func (g *gate) here(ctx context.Context) error {
	store, err := nixstore.OpenStore("", g.verifier.StoreDir)
	if err != nil {
		return err
	}
	defer store.Close()
	if exists, err := store.Exists(g.system); exists || err != nil {
		return err
	}
	lacking, err := g.lacking(ctx, closure.Closure{g.system: {Path: g.system}})
	if err == nil && len(lacking) > 0 {
		err = fmt.Errorf("%s is not in the store yet: fetch it with --from STORE", g.system)
	}
	return err
}

// bring fetches the paths of the system that Nix has not registered here, and has them
// registered; in a dry run it only asks the source for them.
func (g *gate) bring(ctx context.Context) error {
	all := g.manifest.Closure()
	wanted, err := g.lacking(ctx, all)
	if err != nil {
		return err
	}
	var total int64
	for _, p := range wanted {
		total += p.NarSize
	}
	g.imports = &imports{From: g.source.String(), Paths: len(wanted), Size: total, Here: len(all) - len(wanted)}
	if g.dryRun {
		return importer.Ask(ctx, g.source, all, wanted, "")
	}
	var fetched, paths atomic.Int64
	stop := g.app.Watch(func() terminal.Sample {
		return terminal.Sample{What: "import", Done: fetched.Load(), Total: total, Detail: fmt.Sprintf("%d/%d paths", paths.Load(), g.imports.Paths)}
	})
	defer stop()
	const most = 4 // each time but the first it takes a collection that begins meanwhile
	for range most {
		fetched.Store(0)
		paths.Store(0)
		err := importer.Bring(ctx, g.source, all, wanted, g.stateDir, g.register, func(p closure.PathInfo) {
			fetched.Add(p.NarSize)
			paths.Add(1)
		})
		if err != nil {
			return err
		}
		// A garbage collector that read its roots before the system was registered may
		// remove all of it. Hold waits until that one has ended; every later one finds it.
		if err := g.turn.Hold(ctx, g.system); err != nil {
			return err
		}
		if wanted, err = g.lacking(ctx, all); err != nil || len(wanted) == 0 {
			return err
		}
	}
	return nil
}

// lacking returns the paths of all that Nix has not registered here.
func (g *gate) lacking(ctx context.Context, all closure.Closure) ([]closure.PathInfo, error) {
	database, err := nixstore.OpenDatabase(ctx, "", g.verifier.StoreDir)
	if err != nil {
		return nil, err
	}
	defer database.Close()
	lacking := maps.Clone(all)
	for p, err := range database.Registered(ctx) {
		if row := (*nixstore.RowError)(nil); err != nil && !errors.As(err, &row) {
			return nil, err
		}
		delete(lacking, p)
	}
	wanted := make([]closure.PathInfo, 0, len(lacking))
	for _, p := range lacking.Paths() {
		wanted = append(wanted, lacking[p])
	}
	return wanted, nil
}

// untouched reports whether the store still has what was hashed; otherwise it adds what
// changed to the report, with the step during which that was noticed.
func (g *gate) untouched(ctx context.Context, when string) bool {
	changes, err := g.marks.Recheck(ctx, g.manifest.Paths)
	if err != nil {
		g.report.Findings = append(g.report.Findings, report.Finding{Tier: report.TierContents, Cause: report.Interrupted, Detail: "it was ended before it was activated"})
		g.report.Sort()
		return false
	}
	covered, err := g.marks.Covered(g.manifest.Paths)
	if err != nil {
		covered = []string{string(g.verifier.StoreDir)}
		when += ", or may have been: " + err.Error()
	}
	for _, at := range covered {
		g.report.Findings = append(g.report.Findings, report.Finding{
			Tier: report.TierContents, Cause: report.MountedOver, Path: at, Detail: "something was mounted there " + when,
		})
	}
	for _, c := range changes {
		f := report.Finding{
			Tier: report.TierContents, Cause: closure.DiskAltered, Path: string(c.Want.Path),
			Want: c.Want.NarHash.String(), Got: c.Got.String(), Detail: "it was altered " + when,
		}
		if c.Err != nil {
			f.Detail += ": " + c.Err.Error()
		}
		g.report.Findings = append(g.report.Findings, f)
	}
	g.report.Sort()
	return len(changes)+len(covered) == 0
}

// confirm remembers that the machine is not to be taken back behind the release.
func (g *gate) confirm(ctx context.Context) {
	for _, c := range g.verifier.Open(ctx) {
		if c.Release == nil || c.Tag != g.report.Release.Tag {
			continue
		}
		if err := c.Release.Confirm(ctx); err != nil {
			g.app.Note("not remembered: " + report.Escape(err.Error()))
		}
	}
}

// plannedChanges returns the changes of packages that a switch would make, according to
// Nix's registration of the system that is replaced.
func (g *gate) plannedChanges(ctx context.Context) ([]activate.PackageChange, error) {
	link := verify.SystemProfile
	if !g.action.Boots() {
		link = verify.CurrentSystem
	}
	store, err := nixstore.OpenStore("", g.verifier.StoreDir)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	before, _, err := store.ResolveLink(link)
	if err != nil {
		return nil, err
	}
	database, err := nixstore.OpenDatabase(ctx, "", store.Dir())
	if err != nil {
		return nil, err
	}
	defer database.Close()
	now, _, err := database.Closure(ctx, before)
	if err != nil {
		return nil, err
	}
	return activate.Changes(now, g.manifest.Closure()), nil
}
