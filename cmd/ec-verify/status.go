package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/ledger"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/systemd"
	"every.channel/ec-verify/pkg/nar"
)

func newStatusCommand(a *app) *cobra.Command {
	var contentsEvery, rebuildEvery time.Duration
	var stateDir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "tell what was verified, when, and what comes next",
		Long: `Tell from the ledger how the last run ended, how much of the system was verified
in time at each tier, and what is to be checked next; and from the machine whether
a run is under way, whether a reboot is pending, and when the timer starts the next
run. Nothing is verified, and nothing is written.

The exit code is 0 if that could be told, whatever it is, and 4 if not: because
no run was ever remembered, or because the ledger can't be read.`,
		Example: `  ec-verify status
  ec-verify status --output json | jq '.tiers[] | {name, covered, overdue}'
  ec-verify status --contents-every 24h`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			policy := c.Ledger.Policy()
			if cmd.Flags().Changed("contents-every") {
				policy.Contents = contentsEvery
			}
			if cmd.Flags().Changed("rebuild-every") {
				policy.Rebuild = rebuildEvery
			}
			if policy.Contents <= 0 || policy.Rebuild <= 0 {
				return usageError{errors.New("--contents-every and --rebuild-every: want a duration above 0")}
			}
			if cmd.Flags().Changed("state-dir") {
				if c.StateDir, err = filepath.Abs(stateDir); err != nil || stateDir == "" {
					return usageError{fmt.Errorf("--state-dir %q: want a directory", stateDir)}
				}
			}
			s, err := readStatus(cmd.Context(), c.StateDir, policy, c.Read, time.Now())
			if err != nil {
				return err
			}
			s.statusMachine = lookAtMachine(cmd.Context(), c)
			// That systemd can't be asked is said of its timers.
			s.Forgotten = []statusExit{}
			if !cmd.Flags().Changed("state-dir") { // the units have the configuration's
				exits, _ := systemd.Exits(cmd.Context(), verifyService, rebuildService)
				s.Forgotten = s.forgotten(exits)
			}
			if a.output == "json" {
				return a.printJSON(s)
			}
			return s.writeText(a.stdout, a.colors(a.stdout))
		},
	}
	f := cmd.Flags()
	f.StringVar(&stateDir, "state-dir", "", "read the ledger in `DIR` (default /var/lib/ec-verify)")
	f.DurationVar(&contentsEvery, "contents-every", 0, "every store path is to be hashed at least once in `DURATION` (default: ledger.contentsEvery, 168h)")
	f.DurationVar(&rebuildEvery, "rebuild-every", 0, "every derivation is to be rebuilt at least once in `DURATION` (default: ledger.rebuildEvery, 2160h)")
	if err := cmd.MarkFlagDirname("state-dir"); err != nil {
		panic(err)
	}
	return cmd
}

const (
	statusSchema = 1
	statusKind   = "ec-verify-status"
	// statusListed bounds each list of items in a status.
	statusListed = 10
)

// status is what the ledger says at one moment; docs/status.md says what each
// member of its JSON form means.
type status struct {
	SchemaVersion int       `json:"schemaVersion"`
	Kind          string    `json:"kind"`
	Now           time.Time `json:"now"`
	Ledger        string    `json:"ledger"`
	// LastRun is the last run that ended; nil if none did.
	LastRun *statusRun `json:"lastRun"`
	// OpenRun is the last run if it recorded no end; nil if it did.
	OpenRun  *statusOpenRun `json:"openRun"`
	Tiers    []statusTier   `json:"tiers"`
	SetAside []string       `json:"setAside"`
	statusMachine

	// verified is when the last run ended that verified the machine, weakened by
	// nothing; zero for none.
	verified time.Time
}

type statusRun struct {
	ID            int64           `json:"id"`
	Started       time.Time       `json:"started"`
	Finished      time.Time       `json:"finished"`
	Verdict       string          `json:"verdict"`
	Release       *statusRelease  `json:"release"`
	Configuration string          `json:"configuration"`
	Findings      ledger.Findings `json:"findings"`
	Unsafe        string          `json:"unsafe"`
	Tool          string          `json:"tool"`
}

type statusOpenRun struct {
	ID      int64     `json:"id"`
	Started time.Time `json:"started"`
	Tool    string    `json:"tool"`
}

type statusRelease struct {
	Tag            string `json:"tag"`
	ManifestSHA256 string `json:"manifestSha256"`
}

type statusTier struct {
	Name ledger.Tier `json:"name"`
	// Release is nil, and all counts are 0, where nothing was ever expected.
	Release       *statusRelease `json:"release"`
	EverySeconds  float64        `json:"everySeconds"`
	Items         int            `json:"items"`
	Covered       int            `json:"covered"`
	Overdue       int            `json:"overdue"`
	Never         int            `json:"never"`
	Future        int            `json:"future"`
	Drifted       int            `json:"drifted"`
	Oldest        *time.Time     `json:"oldest"`
	CompleteSince *time.Time     `json:"completeSince"`
	DriftedItems  []statusItem   `json:"driftedItems"`
	// Pending are the items that the next run has to check for the policy to be
	// kept, and Next the first of them.
	Pending int          `json:"pending"`
	Next    []statusItem `json:"next"`
}

// statusItem is an item and the check of it that matters where it stands.
type statusItem struct {
	Path   string        `json:"path"`
	At     *time.Time    `json:"at"`
	Result ledger.Result `json:"result"`
	Cause  string        `json:"cause"`
}

// readStatus reads the ledger of the state directory dir and holds it against policy. Where paths are
// to be read from the disk, a check through the page cache counts for nothing.
func readStatus(ctx context.Context, dir string, policy ledger.Policy, mode nar.ReadMode, now time.Time) (*status, error) {
	dir = ledgerDir(dir)
	l, err := ledger.OpenReadOnly(ctx, dir, ledger.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing is known of this machine: there is no ledger in %s, so no run was ever remembered; verify it first, as root", dir)
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return statusOf(ctx, l, policy, mode, now)
}

// statusOf is readStatus of an open ledger.
func statusOf(ctx context.Context, l *ledger.Ledger, policy ledger.Policy, mode nar.ReadMode, now time.Time) (*status, error) {
	s := &status{
		SchemaVersion: statusSchema, Kind: statusKind, Now: now.UTC().Truncate(time.Millisecond), Ledger: l.File(),
		Tiers: []statusTier{},
	}
	var err error
	if s.SetAside, err = ledger.SetAside(filepath.Dir(l.File())); err != nil {
		return nil, err
	}
	if err := s.readRuns(ctx, l); err != nil {
		return nil, err
	}
	for _, tier := range ledger.Tiers() {
		state, err := l.State(ctx, tier)
		if err != nil {
			return nil, err
		}
		if tier == ledger.Contents && mode == nar.ReadDisk {
			state.Records = state.Records.FromDisk()
		}
		s.Tiers = append(s.Tiers, tierStatus(state, policy.Every(tier), now))
	}
	return s, nil
}

// readRuns sets what s says of runs.
func (s *status) readRuns(ctx context.Context, l *ledger.Ledger) error {
	runs, err := l.Runs(ctx, ledger.KeptRuns)
	if err != nil {
		return err
	}
	if len(runs) > 0 && runs[0].End == nil {
		s.OpenRun = &statusOpenRun{ID: runs[0].ID, Started: runs[0].Started, Tool: runs[0].Tool}
	}
	for _, r := range runs {
		if e := r.End; e != nil && e.Verdict == report.Verified.String() && e.Unsafe == "" {
			s.verified = e.At
			break
		}
	}
	for _, r := range runs {
		if e := r.End; e != nil {
			s.LastRun = &statusRun{
				ID: r.ID, Started: r.Started, Finished: e.At, Verdict: e.Verdict, Release: releaseOf(e.Manifest),
				Configuration: e.Configuration, Findings: e.Findings, Unsafe: e.Unsafe, Tool: r.Tool,
			}
			break
		}
	}
	return nil
}

func releaseOf(m ledger.Manifest) *statusRelease {
	if m == (ledger.Manifest{}) {
		return nil
	}
	return &statusRelease{Tag: m.Tag, ManifestSHA256: m.SHA256.String()}
}

// tierStatus holds the state of one tier against a policy that wants everything
// checked every so often.
func tierStatus(state ledger.State, every time.Duration, now time.Time) statusTier {
	items, records := state.Inventory.Items, state.Records
	c := ledger.Cover(items, records, every, now)
	t := statusTier{
		Name: state.Inventory.Tier, Release: releaseOf(state.Inventory.Manifest), EverySeconds: every.Seconds(),
		Items: c.Items, Covered: c.Covered, Overdue: c.Overdue, Never: c.Never, Future: c.Future, Drifted: c.Drifted,
		Oldest: timeOf(c.Oldest), DriftedItems: []statusItem{}, Next: []statusItem{},
	}
	if since, ok := c.Complete(); ok {
		t.CompleteSince = &since
	}
	for _, item := range items {
		if check := records[item.Key()].Settled; check.Result == ledger.Drifted && len(t.DriftedItems) < statusListed {
			t.DriftedItems = append(t.DriftedItems, itemStatus(item, check))
		}
	}
	for _, item := range ledger.Select(items, records, 0) {
		record := records[item.Key()]
		if record.Stands(every, now) {
			continue
		}
		if t.Pending++; len(t.Next) < statusListed {
			t.Next = append(t.Next, itemStatus(item, record.Last))
		}
	}
	return t
}

func itemStatus(item ledger.Item, c ledger.Check) statusItem {
	return statusItem{Path: string(item.Path), At: timeOf(c.At), Result: c.Result, Cause: string(c.Cause)}
}

// timeOf returns nil for the zero time.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
