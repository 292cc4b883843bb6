package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/standing"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
)

// TestAskedBy: which command lines are the policy's, with what a flag makes of the
// configuration.
func TestAskedBy(t *testing.T) {
	releases, other := t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "config.json")
	text := `{"release": {"source": ["` + releases + `"], "accept": ["boot-v1", "boot-v2"]},
		"rebuild": {"choice": "sample"}, "unsafeSkip": ["eval"], "contents": {"budget": "1h"}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	key := publicKey(t)
	for _, tc := range []struct {
		args []string
		unit string
		look bool
	}{
		{nil, "", false},
		{[]string{"--against", "boot-v2"}, "", false},
		{[]string{"--against", "boot-v3"}, "", true},
		{[]string{"--against", "boot-v3"}, "run-r1.service", true},
		{[]string{"--against", "boot-v3"}, "ec-verify.service", false},
		// What the units have.
		{[]string{"--offline", "--rebuild", "none", "--wait", "2h"}, "ec-verify.service", false},
		{[]string{"--offline", "--rebuild", "none", "--wait", "2h"}, "", false},
		// What changes nothing of what is checked.
		{[]string{"--workers", "3", "--nonce", "x", "--all", "--long", "--brief", "--quiet", "--stall-after", "1h", "--metrics-file", "/srv/x.prom", "--dry-run"}, "", false},
		// What is said twice.
		{[]string{"--release", releases, "--rebuild", "sample", "--read", "cached", "--state-dir", "/var/lib/ec-verify", "--contents-budget", "1h"}, "", false},
		{[]string{"--release", other}, "", true},
		{[]string{"--key", key}, "", true},
		{[]string{"--configuration", "machine"}, "", true},
		{[]string{"--flake", "/etc/flake"}, "", true},
		{[]string{"--state-dir", "/srv/state"}, "", true},
		{[]string{"--read", "disk"}, "", true},
		{[]string{"--rebuild", "all"}, "", true},
		{[]string{"--rebuild", "all"}, "ec-verify-rebuild.service", false},
		{[]string{"--budget", "3s"}, "", true},
		{[]string{"--contents-budget", "3s"}, "", true},
		{[]string{"--unsafe-unsigned"}, "", true},
		{[]string{"--unsafe-allow-rollback"}, "", true},
		{[]string{"--unsafe-skip", "live"}, "", true},
		{[]string{"--store-root", "."}, "", true},
		{[]string{"--store-root", "."}, "ec-verify.service", true},
	} {
		var flags verifyFlags
		cmd := &cobra.Command{}
		flags.register(cmd)
		if err := cmd.ParseFlags(tc.args); err != nil {
			t.Fatal(err)
		}
		cmd.Flags().Visit(func(f *pflag.Flag) { tried[f.Name] = true })
		c := policy
		c.UnsafeSkip = slices.Clone(policy.UnsafeSkip)
		if err := flags.apply(&c); err != nil {
			t.Fatal(err)
		}
		if why := askedBy(policy, c, flags.against, tc.unit).Look(); (why != "") != tc.look {
			t.Errorf("%q in %q: look %q", tc.args, tc.unit, why)
		}
	}
	cmd := &cobra.Command{}
	new(verifyFlags).register(cmd)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !tried[f.Name] {
			t.Errorf("--%s: nobody says whether it makes a run a look", f.Name)
		}
	})
}

// publicKey writes a key and returns its file.
func publicKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestCheckWithoutLedger: what differed when the ledger could still be read differs
// nevertheless, and what was verified is not.
func TestCheckWithoutLedger(t *testing.T) {
	for verdict, want := range map[report.Verdict]report.Verdict{
		report.Verified: report.Unsettled, report.Drifted: report.Drifted, report.Refused: report.Refused, report.Unsettled: report.Unsettled,
	} {
		dir := t.TempDir()
		if err := os.Mkdir(ledger.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		encoded, err := standing.Standing{Verdict: verdict, Since: time.Now(), Run: &standing.Run{Verdict: verdict, Finished: time.Now()}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.KeepStanding(ledger.Dir(dir), encoded); err != nil {
			t.Fatal(err)
		}
		var stdout bytes.Buffer
		if err := (&app{terminal.New(&stdout, nil)}).checkWithout(t.Context(), dir, errors.New("ledger is damaged")); !errors.Is(err, terminal.VerdictError(want)) {
			t.Errorf("%s: %v, %s", verdict, err, stdout.String())
		}
		if line := stdout.String(); !strings.HasPrefix(line, want.String()+": ledger is damaged (") || strings.Count(line, "\n") != 1 {
			t.Errorf("%s: %q", verdict, line)
		}
	}
	unread := errors.New("ledger is damaged")
	if err := (&app{terminal.New(nil, nil)}).checkWithout(t.Context(), t.TempDir(), unread); !errors.Is(err, unread) {
		t.Errorf("where nothing is kept: %v", err)
	}
}

// TestOwed: which tiers the policy requests in some run, and what is said of findings of
// the others.
func TestOwed(t *testing.T) {
	var c config.Config
	c.Rebuild.Choice = rebuild.None
	for tier, want := range map[report.TierName]bool{report.TierRebuild: false, "machine": false, report.TierLive: true} {
		if got := owedBy(c)(tier, ""); got != want {
			t.Errorf("%s is owed: %v", tier, got)
		}
	}
	with := c
	with.Rebuild.Choice, with.Machine.Parts = rebuild.All, []string{"etc"}
	if owed := owedBy(with); !owed(report.TierRebuild, "") || !owed("machine", "") {
		t.Error("requested tiers are not owed")
	}

	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	ran := func(tiers []report.TierName, findings ...report.Finding) *report.Report {
		began = began.Add(time.Hour)
		r := &report.Report{Started: began, Finished: began, Findings: findings}
		for _, name := range tiers {
			r.Tiers = append(r.Tiers, report.Tier{Name: name, Asked: true, Status: report.Done, Checked: 1})
		}
		return r
	}
	keep := keeper{owed: owedBy(with)}
	keep.judge(standing.Standing{}, 1, ran([]report.TierName{"live", "machine"}, report.Finding{Tier: "machine", Cause: report.EtcAltered, Path: "/etc/x"}), nil)
	before := keep.now
	// The policy changed, and no run took place yet: the finding counts.
	s := &status{Now: began, LastRun: before.Run, Standing: &statusStanding{Verdict: before.Verdict, Findings: before.Findings}, owed: owedBy(c)}
	if text := strings.Join(strings.Fields(s.Text(terminal.Screen{})), " "); !strings.Contains(text, "The policy no longer requests machine: the next run") {
		t.Errorf("status says\n%s", text)
	}
	// The same if it lacks only the part that found it.
	less := with
	less.Machine.Parts = []string{"units"}
	found := before
	found.Findings = slices.Clone(before.Findings)
	found.Findings[0].Part = "etc"
	s = &status{Now: began, LastRun: before.Run, Standing: &statusStanding{Verdict: before.Verdict, Findings: found.Findings}, owed: owedBy(less)}
	if text := strings.Join(strings.Fields(s.Text(terminal.Screen{})), " "); !strings.Contains(text, "The policy no longer requests machine (etc): the next run") {
		t.Errorf("status says\n%s", text)
	}
	keep.owed = owedBy(less)
	r := ran([]report.TierName{"live", "machine"})
	keep.judge(found, 2, r, nil)
	if r.Standing.Verdict != report.Verified || r.Standing.Dropped != 1 {
		t.Errorf("without the part: standing %+v", r.Standing)
	}
	keep.owed = owedBy(c)
	r = ran([]report.TierName{"live"})
	keep.judge(before, 2, r, nil)
	if r.Standing.Verdict != report.Verified || !strings.HasPrefix(r.StandingLine(), "1 finding of earlier runs no longer counts, unverified") {
		t.Errorf("standing %+v: %s", r.Standing, r.StandingLine())
	}
	r = ran([]report.TierName{"live"})
	keep.judge(keep.now, 3, r, nil)
	if r.StandingLine() != "" {
		t.Errorf("it is said again: %s", r.StandingLine())
	}

	// With the parts still requested, a run that left them out clears nothing.
	keep.owed = owedBy(with)
	r = ran([]report.TierName{"live"})
	keep.judge(before, 2, r, nil)
	if brief := (&shownReport{r, textFlags{brief: true}}).Text(terminal.Screen{}); !strings.HasSuffix(brief, "; the machine's standing is drifted, see ec-verify status\n") {
		t.Errorf("--brief says %q", brief)
	}
	s = &status{Now: began, LastRun: keep.now.Run, Standing: &statusStanding{Verdict: keep.now.Verdict, Findings: keep.now.Findings}, owed: keep.owed}
	if text := strings.Join(strings.Fields(s.Text(terminal.Screen{})), " "); !strings.Contains(text, "until a run completes the same tier") {
		t.Errorf("status says\n%s", text)
	}
}
