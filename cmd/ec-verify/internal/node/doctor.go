package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/doctor"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

func newDoctorCommand(a *app) *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "report what prevents a good verdict, with remedies",
		Long: `Examine everything that the systemd units need for a run: the configuration as
the units' sandboxes see it, the keys and their validity periods, the sources,
the last fetch, the accepted releases, the flake, the state and metrics
directories, the Nix database, nix, the clock, the units with their drop-ins,
the timer, and the gate. Each problem is printed with its remedy. The command
only reads. Run it as root.

Exit codes:
  0    nothing prevents a good verdict
  4    something does`,
		Example: `  ec-verify doctor
  ec-verify doctor --offline --output json`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), offline) },
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no release source over a network")
	return cmd
}

// examination is the result of doctor.
type examination struct {
	SchemaVersion int             `json:"schemaVersion"`
	Kind          string          `json:"kind"`
	Problems      int             `json:"problems"`
	Results       []doctor.Result `json:"results"`
}

func (a *app) doctor(ctx context.Context, offline bool) error {
	l, err := configured.Read(a.Terminal)
	var mistakes *config.Mistakes
	if err != nil && !errors.As(err, &mistakes) {
		return terminal.ConfigError(err)
	}
	m := a.machine(l, mistakes, offline)
	defer tempIn(m.Config.StateDir)() // where a run copies the database to
	results := doctor.Examine(ctx, m)
	if err := ctx.Err(); err != nil {
		return err
	}
	x := examination{SchemaVersion: 1, Kind: "ec-verify-doctor", Problems: doctor.Problems(results), Results: results}
	if err := a.Show(&x); err != nil || x.Problems == 0 {
		return err
	}
	return terminal.ReportedError(terminal.ExitInconclusive)
}

// machine returns this machine. l is nil where the configuration has mistakes.
func (a *app) machine(l *config.Loaded, mistakes *config.Mistakes, offline bool) doctor.Machine {
	file := a.configName()
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	m := doctor.Machine{
		File: file, Config: config.Default(), Now: time.Now(), Units: systemd.Units,
		Timers:       systemd.Timers,
		Synchronised: clockSynchronised,
	}
	if mistakes != nil {
		m.Mistakes = mistakes.All
	} else {
		m.Config = l.Config
	}
	c := m.Config
	m.Source = func(ctx context.Context, spec string) error { return askSource(ctx, c, spec, offline) }
	m.Release = func(ctx context.Context, tag string) (doctor.Valid, error) { return findAccepted(ctx, c, tag, offline) }
	m.Fetched = func() time.Time { return release.ReadCache(configured.CacheDir(c)).Listed() }
	m.Nix = func(ctx context.Context) (string, error) {
		v, err := configured.Nix(c).Version(ctx)
		return v.String(), err
	}
	m.Database = func(ctx context.Context) error {
		db, err := nixstore.OpenDatabase(ctx, c.StoreRoot, c.StoreDir)
		if err != nil {
			return err
		}
		return db.Close()
	}
	m.GateClosed = func() (bool, error) { return gateClosed(c.StoreDir) }
	m.LastRun = func(ctx context.Context) (time.Time, error) {
		if _, err := os.Stat(filepath.Join(ledger.Dir(c.StateDir), ledger.FileName)); err != nil {
			return time.Time{}, err
		}
		s, err := readStatus(ctx, c.StateDir, wants{c.Ledger.Policy(), c.Read, owedBy(c)}, m.Now)
		if err != nil || s.LastRun == nil {
			return time.Time{}, err
		}
		return s.LastRun.Finished, nil
	}
	return m
}

// askSource asks a source on a network for a release. A source that answers without
// having the release is fine.
func askSource(ctx context.Context, c config.Config, spec string, offline bool) error {
	if offline {
		return nil
	}
	c.Release.Source = []string{spec}
	sources, err := configured.Sources(c)
	if err != nil {
		return err
	}
	tag := release.Tag("boot-v1")
	for _, accepted := range c.Release.Accept {
		if accepted != string(release.Latest) {
			tag = release.Tag(accepted)
		}
	}
	in, err := sources[0].Open(ctx, tag, release.SumsName, 1<<20)
	if errors.As(err, new(*release.NotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return in.Close()
}

func findAccepted(ctx context.Context, c config.Config, tag string, offline bool) (doctor.Valid, error) {
	finder, err := configured.Looker(c, nil)
	if err != nil {
		return doctor.Valid{}, err
	}
	finder.Offline = offline
	rel, err := finder.Find(ctx, release.Tag(tag))
	if err != nil {
		return doctor.Valid{}, err
	}
	signer := rel.Signer()
	return doctor.Valid{Signer: signer.String(), BestBefore: rel.Info().BestBefore, RefusedAfter: rel.RefusedAfter(), KeyNotAfter: signer.Until}, nil
}

// clockSynchronised asks the kernel, which whatever sets the clock tells.
func clockSynchronised() (bool, error) {
	var now unix.Timex
	state, err := unix.Adjtimex(&now)
	return state != unix.TIME_ERROR, err
}

var stateColors = map[doctor.State]text.Color{
	doctor.OK: text.FgGreen, doctor.Notice: text.FgYellow, doctor.Problem: text.FgRed, doctor.Unknown: text.FgYellow,
}

// Text implements [terminal.Result].
func (x *examination) Text(screen terminal.Screen) string {
	var b strings.Builder
	notices := 0
	for _, r := range x.Results {
		if r.State == doctor.Notice {
			notices++
		}
		fmt.Fprintf(&b, "%s %-14s %s\n", paint(fmt.Sprintf("%-8s", r.State), stateColors[r.State], screen.Color), r.Check, report.Escape(r.Found))
		if r.Remedy != "" {
			fmt.Fprintf(&b, "         → %s\n", report.Escape(r.Remedy))
		}
	}
	fmt.Fprintf(&b, "\n%s, %s\n", report.Quantity(x.Problems, "problem"), report.Quantity(notices, "notice"))
	return screen.Fold(b.String())
}
