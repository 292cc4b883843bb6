package endtoend

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/internal/trust"
)

// TestAgentClock: a clock that jumped by years makes no false verdict. The clock
// of a test host is that of the machine that the tests run on, and can't be set;
// and the program asks the kernel for the time without a system call, so that
// nothing can answer in its place. What stands in for a jump is what it leaves:
// a ledger, a release and a timer's stamp of years ahead, which is what a clock
// sees that is behind, or was ahead once. A clock that is ahead now is a case of
// internal/release alone, whose tests say what time it is.
func TestAgentClock(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	years := func(n int) time.Time { return time.Now().AddDate(n, 0, 0) }
	if got := a.run(); got != "success 0" {
		t.Fatalf("the unit ended with %s", got)
	}
	t.Run("the ledger is of years ahead", func(t *testing.T) {
		// A run of five years from now, with every path of the release, stands in
		// the place of what was remembered.
		then, dir := years(5), t.TempDir()
		l, err := ledger.Open(t.Context(), dir, ledger.Options{Now: func() time.Time { return then }})
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Begin(t.Context(), "of the future")
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := os.ReadFile(a.Path(releases + "/" + tag + "/closure-testhost.json"))
		if err != nil {
			t.Fatal(err)
		}
		inventory := ledger.Inventory{Tier: ledger.Contents, Manifest: ledger.Manifest{Tag: tag, SHA256: sha256.Sum256(manifest)}}
		for _, info := range a.manifest.Paths {
			inventory.Items = append(inventory.Items, ledger.Item{Path: info.Path, Want: info.NarHash, Cost: info.NarSize})
		}
		if err := r.Expect(t.Context(), inventory); err != nil {
			t.Fatal(err)
		}
		for _, item := range inventory.Items {
			r.Record(ledger.Contents, item, ledger.Outcome{Result: ledger.Verified})
		}
		if err := errors.Join(r.End(t.Context(), ledger.End{Verdict: "verified"}), l.Close()); err != nil {
			t.Fatal(err)
		}
		a.Push(filepath.Join(dir, ledger.FileName), ledgerFile)
		// What bears a time to come was not verified in time.
		if s := a.status(); s.Tiers[0].Overdue != len(a.manifest.Paths) || s.Tiers[0].Covered != 0 {
			t.Errorf("before a run: %+v", s.Tiers[0])
		}
		if got := a.run(); got != "success 0" {
			t.Errorf("the unit ended with %s", got)
		}
		if s := a.status(); s.Tiers[0].Overdue != 0 || s.LastRun.Verdict != "verified" {
			t.Errorf("after a run: %+v", s.Tiers[0])
		}
	})
	t.Run("the release is of years ahead", func(t *testing.T) {
		const later = "boot-v2031.01.01"
		key, public := testhost.SigningKey(t)
		a.write("/root/later.key", key)
		a.write("/root/later.pub", public)
		a.Run("env", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", years(5).Unix()), program, "manifest", "create", "/etc/every-channel/flake#testhost", "--out", "/root/later/"+later, "--tag", later)
		if _, stderr, code := a.Exec(context.Background(), program, "release", "sign", "/root/later/"+later, "--key", "/root/later.key"); code != 4 || !strings.Contains(stderr, "set the clock") {
			t.Errorf("sign: exit %d: %s", code, stderr)
		}
		// So by somebody whose clock is right.
		a.sign("/root/later/"+later, key)
		a.write("/root/later.json", `{"release": {"source": ["/root/later"], "accept": ["`+later+`"]}, "stateDir": "/root/state", "trust": {"keys": [{"name": "ci", "file": "/root/later.pub"}]}}`)
		r := a.report(program, "--config", "/root/later.json", "--output", "json")
		if r.Verdict != "inconclusive" || r.code != 4 {
			t.Errorf("got %s, exit %d: a clock that is behind is no fault of the release", r.Verdict, r.code)
		}
		if text := fmt.Sprint(r.Findings); !strings.Contains(text, "clock") {
			t.Errorf("nothing is said of the clock: %s", text)
		}
	})
	t.Run("the timer's stamp is of years ahead", func(t *testing.T) {
		a.dropIn("ec-verify.timer", "test", "[Timer]\nOnBootSec=\n"+notToday()+"RandomizedDelaySec=0")
		a.Run("systemctl", "start", "ec-verify.timer")
		a.Run("systemctl", "stop", "ec-verify.timer")
		a.Run("touch", "-d", years(5).Format(time.DateOnly), "/var/lib/systemd/timers/stamp-ec-verify.timer")
		a.Run("systemctl", "start", "ec-verify.timer")
		if next := a.status().Timers[0].Next; next.IsZero() || next.After(time.Now().AddDate(0, 0, 2)) {
			t.Errorf("the next run is at %s", next)
		}
		status, _, _ := a.Exec(context.Background(), program, "status")
		if !strings.Contains(status, "next run") {
			t.Errorf("status:\n%s", status)
		}
	})
	if got := a.run(); got != "success 0" {
		t.Errorf("after all that the unit ended with %s", got)
	}
	a.tidy(t)
}

// sign signs the release in dir, whatever a clock says.
func (m *machine) sign(dir, key string) {
	m.t.Helper()
	signer, err := trust.ParsePrivateKey([]byte(key), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(m.Path(dir), release.SumsName))
	if err != nil {
		m.t.Fatal(err)
	}
	bundle, err := trust.Sign(m.t.Context(), signer, sums)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := release.WriteBundle(m.Path(dir), bundle); err != nil {
		m.t.Fatal(err)
	}
}
