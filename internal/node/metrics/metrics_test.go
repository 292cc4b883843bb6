package metrics

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

var update = flag.Bool("update", false, "write the golden files anew")

var started = time.Date(2026, 3, 1, 4, 5, 6, 500e6, time.UTC)

// drifted is a run that found something, with everything that can be known.
func drifted() Snapshot {
	return Snapshot{
		Report: &report.Report{
			Started: started, Finished: started.Add(95 * time.Second), Tool: "v1.2.3", Nix: "nix (Nix) 2.34.8",
			Against: "boot-v1", Configuration: "machine",
			Release: &report.Release{
				Tag: "boot-v1", Commit: "0123", Created: started.Add(-24 * time.Hour), BestBefore: started.Add(24 * time.Hour),
				RefusedAfter: started.Add(48 * time.Hour), KeyNotAfter: started.Add(72 * time.Hour),
				OutPath: "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system",
			},
			Tiers: []report.Tier{
				{Name: report.TierLive, Status: report.Done, Asked: true, Checked: 4, Took: time.Millisecond},
				{Name: report.TierContents, Status: report.Done, Asked: true, Checked: 12, Took: 90 * time.Second},
				{Name: report.TierRebuild, Status: report.Skipped},
			},
			Coverage: report.Coverage{Paths: 12, Hashed: 12, Files: 80, Bytes: 5 << 30},
			Findings: []report.Finding{
				{Tier: report.TierContents, Cause: closure.DiskAltered, Path: "/nix/store/x"},
				{Tier: report.TierContents, Cause: closure.DiskAltered, Path: "/nix/store/y"},
				{Tier: report.TierLive, Cause: report.PendingReboot},
			},
		},
		Standing: standing.Standing{Verdict: report.Drifted, Since: started.Add(-48 * time.Hour), Verified: started.Add(-72 * time.Hour)},
		Ledger: &Ledger{
			Tiers: []Tier{
				{Name: "contents", Items: 12, Covered: 10, Overdue: 2, Drifted: 2, Every: 168 * time.Hour, Oldest: started.Add(-200 * time.Hour), Complete: started.Add(-200 * time.Hour)},
				{Name: "rebuild", Every: 720 * time.Hour},
			},
		},
	}
}

// impossible is a run that could not be made.
func impossible() Snapshot {
	return Snapshot{Report: &report.Report{Started: started, Finished: started, Tool: "v1.2.3"}}
}

func encoded(t *testing.T, s Snapshot) string {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// promtool runs Debian's, which package prometheus has.
func promtool(t *testing.T, stdin string, args ...string) (output string, err error) {
	t.Helper()
	tool, lookErr := exec.LookPath("promtool")
	if lookErr != nil {
		t.Skip("metrics: no promtool")
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGolden(t *testing.T) {
	for name, s := range map[string]Snapshot{"drifted": drifted(), "impossible": impossible()} {
		got, file := encoded(t, s), filepath.Join("testdata", name+".prom")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPromtool(t *testing.T) {
	for name, s := range map[string]Snapshot{"drifted": drifted(), "impossible": impossible()} {
		if out, err := promtool(t, encoded(t, s), "check", "metrics"); err != nil || out != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// What it would say of another name.
	if out, err := promtool(t, "# HELP run_total x\n# TYPE run_total gauge\nrun_total 1\n", "check", "metrics"); err == nil {
		t.Errorf("it finds nothing wrong with a gauge called _total: %s", out)
	}
}

// value returns the value of a series as it is written.
func value(text, series string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestVerdicts(t *testing.T) {
	verified := drifted()
	verified.Report.Findings = nil
	weakened := drifted()
	weakened.Report.Findings, weakened.Report.Unsafe = nil, []string{"unsafe-skip eval"}
	unsigned := drifted()
	unsigned.Report.Findings, unsigned.Report.Release.Unsigned = nil, true
	unread := drifted()
	unread.Report.Findings, unread.Ledger = nil, nil
	untrusted := impossible()
	untrusted.Report.Findings = []report.Finding{{Tier: report.TierRelease, Cause: report.ReleaseUntrusted}}
	at := func(when time.Time) string {
		if when.IsZero() {
			return ""
		}
		return strconv.FormatFloat(float64(when.UnixMilli())/1000, 'g', -1, 64)
	}
	for _, c := range []struct {
		name      string
		snapshot  Snapshot
		verdict   string
		weakened  string
		last      time.Time
		readable  string
		rebooting string
	}{
		{"drifted", drifted(), "drifted", "0", started.Add(-time.Hour), "1", "1"},
		{"verified", verified, "verified", "0", started.Add(95 * time.Second), "1", "0"},
		{"verified, weakened", weakened, "verified", "1", started.Add(-time.Hour), "1", "0"},
		{"verified, unsigned", unsigned, "verified", "1", started.Add(-time.Hour), "1", "0"},
		{"verified, nothing remembered", unread, "verified", "0", started.Add(95 * time.Second), "0", "0"},
		{"untrusted", untrusted, "untrusted", "0", time.Time{}, "0", ""},
		{"not run", impossible(), "inconclusive", "0", time.Time{}, "0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before standing.Standing
			if c.snapshot.Ledger != nil {
				before.Verified = started.Add(-time.Hour)
			}
			c.snapshot.Standing = standing.Next(before, c.snapshot.Report, func(report.TierName, string) bool { return true })
			text := encoded(t, c.snapshot)
			for _, v := range []string{"verified", "drifted", "untrusted", "inconclusive"} {
				want := "0"
				if v == c.verdict {
					want = "1"
				}
				if got := value(text, `ec_verify_verdict{verdict="`+v+`"}`); got != want {
					t.Errorf("verdict %s is %q, want %q", v, got, want)
				}
			}
			for series, want := range map[string]string{
				"ec_verify_run_weakened": c.weakened, "ec_verify_ledger_readable": c.readable, "ec_verify_pending_reboot": c.rebooting,
				"ec_verify_last_verified_timestamp_seconds": at(c.last),
			} {
				if got := value(text, series); got != want {
					t.Errorf("%s is %q, want %q", series, got, want)
				}
			}
		})
	}
}

// TestHostileLabels: what a release or a nix calls itself can't end a label.
func TestHostileLabels(t *testing.T) {
	const hostile = "x\"} 1\nec_verify_verdict{verdict=\"verified\"} 1\n\x00\xff\\"
	s := drifted()
	s.Report.Tool, s.Report.Nix, s.Report.Configuration, s.Report.Release.Tag, s.Report.Release.Commit = hostile, hostile, hostile, hostile, hostile
	s.Report.Findings = append(s.Report.Findings, report.Finding{Cause: hostile, Tier: hostile})
	s.Report.Tiers = append(s.Report.Tiers, report.Tier{Name: hostile})
	text := encoded(t, s)
	if got := value(text, `ec_verify_verdict{verdict="verified"}`); got != "0" {
		t.Errorf("verified is %s", got)
	}
	if got, want := strings.Count(text, "\n"), strings.Count(encoded(t, drifted()), "\n")+4; got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
	if out, err := promtool(t, text, "check", "metrics"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ec-verify.prom")
	for _, s := range []Snapshot{impossible(), drifted()} {
		if err := Write(file, s); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil || string(data) != encoded(t, s) {
			t.Fatalf("%v: %s", err, data)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("it leaves %v", entries)
	}
}

// TestWriteFails: what could not be written leaves nothing of an earlier run.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ec-verify.prom")
	if err := Write(file, drifted()); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "none", "x.prom"), drifted()); err == nil || !strings.Contains(err.Error(), "there are none now") {
		t.Errorf("no directory: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(file, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, drifted()); err == nil || !strings.Contains(err.Error(), "those of an earlier run stay") {
		t.Errorf("a directory in its place: %v", err)
	}
}

// names returns the names of the metrics in a text.
func names(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return out
}

// TestDocumented: docs/monitoring.md has every metric, and no other.
func TestDocumented(t *testing.T) {
	data, err := os.ReadFile("../../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(ec_verify_[a-z_]+)").FindAllStringSubmatch(string(data), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(documented)
	if diff := cmp.Diff(names(encoded(t, drifted())), documented); diff != "" {
		t.Errorf("(-exported +documented):\n%s", diff)
	}
}
