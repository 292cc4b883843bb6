package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

func newStatusCommand(a *app) *cobra.Command {
	var flags configured.Flags
	var check bool
	var maxAge time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show what was verified when, and the next checks",
		Long: `Report, from the ledger: the machine's standing, which combines the results of
all runs of its policy; how much of the system each tier has verified recently
enough; and the next items to check. Report, from the machine: whether a run
is under way, whether a reboot is pending, and when the timer starts the next
run. Nothing is verified, and nothing is written.

The exit code is 0 if this information is available, whatever it says, and 4 if
not: because no run was recorded, or because the ledger can't be read.

With --check, print one line; the exit code is that of the standing: 0
verified, 1 drifted, 3 untrusted, 4 inconclusive. A standing that is too old,
or after which a run died, is inconclusive.`,
		Example: `  ec-verify status
  ec-verify status --check --max-age 50h
  ec-verify status --output json | jq '.tiers[] | {name, covered, overdue}'
  ec-verify status --contents-every 24h`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if maxAge <= 0 || !check && cmd.Flags().Changed("max-age") {
				return terminal.UsageErrorf("--max-age: want a duration above 0, with --check")
			}
			if check {
				if err := a.TextOnly("--check and --output json: --check prints one line; leave out one of them"); err != nil {
					return err
				}
			}
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			if err := configured.CheckOwnState(c); err != nil {
				return err
			}
			s, err := a.status(cmd.Context(), c, !flags.Given("state-dir"))
			switch {
			case err != nil && check:
				return a.checkWithout(cmd.Context(), c.StateDir, err)
			case err != nil:
				return err
			case check:
				verdict, line := s.check(maxAge)
				return cmp.Or(a.Print(line+"\n"), terminal.VerdictError(verdict))
			}
			return a.Show(s)
		},
	}
	flags.RegisterStateDir(cmd, "read the ledger in the state directory `DIR` (default /var/lib/ec-verify)")
	flags.Duration(cmd, "contents-every", "count a store path as overdue if it was not hashed for `DURATION` (default: ledger.contentsEvery, 7d)",
		func(c *config.Config) *config.Duration { return &c.Ledger.ContentsEvery })
	flags.Duration(cmd, "rebuild-every", "count a derivation as overdue if it was not rebuilt for `DURATION` (default: ledger.rebuildEvery, 90d)",
		func(c *config.Config) *config.Duration { return &c.Ledger.RebuildEvery })
	cmd.Flags().BoolVar(&check, "check", false, "print one line; the exit code is the machine's standing")
	terminal.DurationVar(cmd.Flags(), &maxAge, "max-age", defaultMaxAge, "with --check, a standing is inconclusive if its last run ended longer than `DURATION` ago")
	return cmd
}

// status reads the ledger and asks the machine; it asks how the services ended only if
// the state directory is theirs.
func (a *app) status(ctx context.Context, c config.Config, ours bool) (*status, error) {
	s, err := readStatus(ctx, c.StateDir, wants{c.Ledger.Policy(), c.Read, owedBy(c)}, time.Now())
	if err != nil {
		return nil, err
	}
	s.statusMachine = lookAtMachine(ctx, c)
	s.Switched = switchedSince(s.LastRun, runningSystem(c))
	s.Forgotten = []systemd.Exit{}
	if ours {
		// That systemd can't be asked is said of its timers.
		exits, _ := systemd.Exits(ctx, verifyService, rebuildService)
		s.Forgotten = s.forgotten(exits)
	}
	return s, nil
}

const (
	statusSchema = 1
	statusKind   = "ec-verify-status"
	// statusListed limits each list of items in a status.
	statusListed = 10
)

// status is the state of the ledger at one moment; docs/operating.md documents each
// member of its JSON form.
type status struct {
	SchemaVersion int       `json:"schemaVersion"`
	Kind          string    `json:"kind"`
	Now           time.Time `json:"now"`
	Ledger        string    `json:"ledger"`
	// Standing is the result of all runs of the policy; nil if none ended.
	Standing *statusStanding `json:"standing"`
	// LastRun is the last run of the policy that ended; nil if none did.
	LastRun *standing.Run `json:"lastRun"`
	// OpenRun is the last run if it recorded no end; nil if it did.
	OpenRun  *statusOpenRun `json:"openRun"`
	Tiers    []statusTier   `json:"tiers"`
	SetAside []string       `json:"setAside"`
	statusMachine

	// owed reports whether the policy requests a tier at all; nil for every tier.
	owed standing.Owed
	// lost is the file that had the standing, if it is lost and no run has ended since.
	lost string
	// runs are the last ones, of the policy or not, the newest first.
	runs []ledger.Run
}

type statusStanding struct {
	Verdict  report.Verdict     `json:"verdict"`
	Since    time.Time          `json:"since"`
	Findings []standing.Finding `json:"findings"`
	More     int                `json:"moreFindings"`
}

type statusOpenRun struct {
	ID      int64     `json:"id"`
	Started time.Time `json:"started"`
	Tool    string    `json:"tool"`
}

type statusTier struct {
	Name ledger.Tier `json:"name"`
	// Release is nil, and all counts are 0, if nothing was ever expected.
	Release       *standing.Release `json:"release"`
	Every         seconds           `json:"everySeconds"`
	Items         int               `json:"items"`
	Covered       int               `json:"covered"`
	Overdue       int               `json:"overdue"`
	Never         int               `json:"never"`
	Future        int               `json:"future"`
	Drifted       int               `json:"drifted"`
	Oldest        *time.Time        `json:"oldest"`
	CompleteSince *time.Time        `json:"completeSince"`
	DriftedItems  []statusItem      `json:"driftedItems"`
	// Pending are the items that the next run has to check for the policy to be
	// kept, and Next the first of them.
	Pending int          `json:"pending"`
	Next    []statusItem `json:"next"`
}

// seconds is a duration that is a number of seconds in JSON.
type seconds time.Duration

// MarshalJSON implements [json.Marshaler].
func (s seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// statusItem is an item with the check that is relevant in its list.
type statusItem struct {
	Path   string        `json:"path"`
	At     *time.Time    `json:"at"`
	Result ledger.Result `json:"result"`
	Cause  string        `json:"cause"`
}

// wants is what a policy asks of remembered checks.
type wants struct {
	ledger.Policy
	// read is how files are read: if from the disk, a check through the page cache does
	// not count.
	read nar.ReadMode
	// owed reports whether a tier is asked for at all.
	owed standing.Owed
}

// readStatus reads the ledger of the state directory dir and compares it with what w
// asks for.
func readStatus(ctx context.Context, dir string, w wants, now time.Time) (*status, error) {
	dir = ledger.Dir(dir)
	l, err := ledger.OpenReadOnly(ctx, dir, ledger.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing is known of this machine: there is no ledger in %s, so no run was ever remembered; verify it first, as root", dir)
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return statusOf(ctx, l, w, now)
}

// statusOf is readStatus of an open ledger.
func statusOf(ctx context.Context, l *ledger.Ledger, w wants, now time.Time) (*status, error) {
	s := &status{
		SchemaVersion: statusSchema, Kind: statusKind, Now: now.UTC().Truncate(time.Millisecond), Ledger: l.File(),
		Tiers: []statusTier{}, owed: w.owed,
	}
	var err error
	if s.SetAside, err = ledger.SetAside(filepath.Dir(l.File())); err != nil {
		return nil, err
	}
	if err := s.readRuns(ctx, l); err != nil {
		return nil, err
	}
	states, err := l.States(ctx)
	if err != nil {
		return nil, err
	}
	for _, tier := range ledger.Tiers() {
		state := states[tier]
		if tier == ledger.Contents && w.read == nar.ReadDisk {
			state.Records = state.Records.FromDisk()
		}
		if !w.owed(report.TierName(tier), "") || s.isOld(state.Inventory.Manifest) {
			state.Inventory = ledger.Inventory{Tier: tier}
		}
		s.Tiers = append(s.Tiers, tierStatus(state, w.Every(tier), now))
	}
	return s, nil
}

// readRuns reads the runs into s.
func (s *status) readRuns(ctx context.Context, l *ledger.Ledger) error {
	runs, err := l.Runs(ctx, ledger.KeptRuns)
	if err != nil {
		return err
	}
	if len(runs) > 0 && runs[0].End == nil {
		s.OpenRun = &statusOpenRun{ID: runs[0].ID, Started: runs[0].Started, Tool: runs[0].Tool}
	}
	s.runs = runs
	st, lost := recall(ctx, filepath.Dir(l.File()), l, nil)
	s.lost = lost
	if st.Run != nil {
		s.LastRun = st.Run
		s.Standing = &statusStanding{st.Verdict, st.Since, st.Findings, st.More}
	}
	return nil
}

// isOld reports whether a manifest belongs to another release than the one that the
// machine was last compared with: its items are no longer needed.
func (s *status) isOld(m ledger.Manifest) bool {
	of := standing.Release{Tag: m.Tag, ManifestSHA256: m.SHA256.String()}
	return s.LastRun != nil && s.LastRun.Release != nil && *s.LastRun.Release != of
}

// releaseOf returns nil for no release.
func releaseOf(m ledger.Manifest) *standing.Release {
	if m == (ledger.Manifest{}) {
		return nil
	}
	return &standing.Release{Tag: m.Tag, ManifestSHA256: m.SHA256.String()}
}

// tierStatus compares the state of one tier with a policy under which everything is
// checked at that interval.
func tierStatus(state ledger.State, every time.Duration, now time.Time) statusTier {
	items, records := state.Inventory.Items, state.Records
	c := ledger.Cover(items, records, every, now)
	t := statusTier{
		Name: state.Inventory.Tier, Release: releaseOf(state.Inventory.Manifest), Every: seconds(every),
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
		if record.Current(every, now) {
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
