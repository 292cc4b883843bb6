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
