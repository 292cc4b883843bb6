package endtoend

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/systemd"
)

// TestStanding: what the unit found stays in metrics and status, whatever is asked of
// the machine by hand in between, until the unit verifies it; and what was asked for
// by hand is owed by nobody.
func TestStanding(t *testing.T) {
	t.Parallel()
	m := startUnit(t, `, "metrics": {"file": "`+metricsFile+`"}`)
	m.Run("mkdir", "-p", metricsDir)
	m.write("/etc/systemd/system/ec-verify.service.d/metrics.conf", "[Service]\nReadWritePaths=-"+metricsDir+"\n")
	m.Run("systemctl", "daemon-reload")
	verdicts := map[string][]string{} // what each look at the metrics saw
	look := func() map[string]string {
		t.Helper()
		s := m.metrics()
		for _, v := range []string{"verified", "drifted", "untrusted", "inconclusive"} {
			verdicts[v] = append(verdicts[v], s[`ec_verify_verdict{verdict="`+v+`"}`])
		}
		return s
	}
	m.runUnit()
	expectVerdict(t, look(), "verified")
	const profile = "/nix/var/nix/profiles/system"
	m.Run("nix-env", "-p", profile, "--set", m.Runner().Systems["testhost-other"].Toplevel)
	if result, _ := m.runUnit(); result != "exit-code 1" {
		t.Fatalf("the unit ended with %s", result)
	}
	found := look()
	expectVerdict(t, found, "drifted")
	since := found["ec_verify_verdict_since_timestamp_seconds"]
	if since == "" || since != found["ec_verify_run_end_timestamp_seconds"] {
		t.Errorf("drifted since %q", since)
	}
	metrics, standing := m.Run("cat", metricsFile), m.status()
	if standing.Standing == nil || standing.Standing.Verdict != "drifted" || len(standing.Standing.Findings) != 1 || standing.Standing.Findings[0].Path != profile {
		t.Fatalf("%+v", standing.Standing)
	}

	m.Run("sh", "-euc", `mkdir /mnt/disk; mount --bind / /mnt/disk`)
	m.write("/root/other.json", fmt.Sprintf(`{"release": {"source": [%q], "accept": [%q]}, "unsafeUnsigned": true}`, releases, tag+"0"))
	for _, c := range []struct {
		name string
		args []string
		code int
		why  string
	}{
		{"a mistyped tag", []string{"--against", tag + "0"}, 4, "does not accept " + tag + "0"},
		{"another policy", []string{"--config", "/root/other.json"}, 4, "--config"},
		{"another tag, that is a step back", []string{"--against", otherTag}, 3, "does not accept " + otherTag},
		{"without the tier that drifted", []string{"--unsafe-skip", "live"}, 0, "--unsafe-skip"},
		{"another disk", []string{"--store-root", "/mnt/disk"}, 1, "another disk"},
		{"a rebuild, once", []string{"--rebuild", "all", "--budget", "3s"}, 1, "--rebuild, --budget"},
		{"another state directory", []string{"--state-dir", "/root/state"}, 1, "--state-dir"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := m.now()
			a := m.report(append([]string{program, "--output", "json", "--journal", "always"}, c.args...)...)
			if a.code != c.code || a.Standing == nil || !strings.Contains(a.Standing.Look, c.why) {
				t.Errorf("exit %d, standing %+v: %s", a.code, a.Standing, a.stderr)
			}
			for _, e := range m.journal(before, "-t", "ec-verify") {
				if e.event() != systemd.RunStarted && (e["EC_VERIFY_LOOK"] == "" || e["PRIORITY"] < "5") {
					t.Errorf("the journal has %v", e)
				}
			}
			if c.name == "another disk" {
				return // of which nothing is known here
			}
			if out, _, _ := m.Exec(context.Background(), append([]string{program}, c.args...)...); !strings.Contains(lastLine(out), "look: the machine's standing did not change") {
				t.Errorf("its last line is %q", lastLine(out))
			}
		})
		unmoved(t, m, metrics, standing)
	}
	m.Run("umount", "/mnt/disk")
	t.Run("stopped", func(t *testing.T) {
		before := m.now()
		m.interfere(`systemctl stop ec-verify`)
		result, entries := m.unitResult(before)
		if state := m.Run("systemctl", "show", "-P", "ActiveState", "ec-verify"); !strings.HasPrefix(result, "success ") || state != "inactive" {
			t.Errorf("%s, %s", result, state)
		}
		for _, e := range entries {
			if e["PRIORITY"] < "5" {
				t.Errorf("the journal has %v", e)
			}
		}
	})
	unmoved(t, m, metrics, standing)
	// The signal ends a program that has not come to answer it; sleep never does.
	t.Run("stopped at once", func(t *testing.T) {
		const dropIn = "/run/systemd/system/ec-verify.service.d/sleep.conf"
		m.write(dropIn, "[Service]\nExecStart=\nExecStart=sleep infinity\n")
		m.Run("systemctl", "daemon-reload")
		m.Run("sh", "-euc", `
			systemctl start --no-block --job-mode=ignore-dependencies ec-verify
			until [ "$(systemctl show -P MainPID ec-verify)" != 0 ]; do sleep 0.05; done
			systemctl stop ec-verify`)
		if got := m.Run("systemctl", "show", "-P", "Result", "ec-verify"); got != "success" {
			t.Errorf("the unit ended with %s", got)
		}
		m.Run("rm", dropIn)
		m.Run("systemctl", "daemon-reload")
		if out, _, code := m.Exec(context.Background(), program, "status", "--check"); code != 1 || !strings.HasPrefix(out, "drifted ") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	unmoved(t, m, metrics, standing)
	look()
	t.Run("killed", func(t *testing.T) {
		m.interfere(`systemctl kill -s KILL ec-verify`)
		m.Run(program, "after-run")
		s := m.metrics()
		expectVerdict(t, s, "drifted")
		if s["ec_verify_verdict_since_timestamp_seconds"] != since {
			t.Errorf("drifted since %s, want %s", s["ec_verify_verdict_since_timestamp_seconds"], since)
		}
		if out := m.Run(program, "status"); strings.Count(out, "died ") != 1 || strings.Contains(out, "another ") {
			t.Errorf("status says\n%s", out)
		}
	})

	m.Run("nix-env", "-p", profile, "--set", m.Runner().Systems["testhost"].Toplevel)
	if result, _ := m.runUnit(); result != "success 0" {
		t.Fatalf("the unit ended with %s", result)
	}
	s := look()
	expectVerdict(t, s, "verified")
	if s[`ec_verify_items_overdue{tier="rebuild"}`] != "0" || s[`ec_verify_items_overdue{tier="contents"}`] != "0" {
		t.Errorf("somebody owes what was asked for once: %v", s)
	}
	if out, stderr, code := m.Exec(context.Background(), program, "status", "--check"); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	t.Run("the alert", func(t *testing.T) { alertsFollow(t, verdicts) })
}

// unmoved holds metrics and standing to what they were.
func unmoved(t *testing.T, m *machine, metrics string, was statusOutput) {
	t.Helper()
	if now := m.Run("cat", metricsFile); now != metrics {
		t.Errorf("the metrics moved:\n%s", now)
	}
	now := m.status()
	if now.Standing == nil || now.Standing.Verdict != was.Standing.Verdict || now.Standing.Since != was.Standing.Since ||
		!slices.Equal(now.Standing.Findings, was.Standing.Findings) || *now.LastRun != *was.LastRun || now.Tiers[1].Items != 0 {
		t.Errorf("the standing moved: %+v", now)
	}
	out, _, code := m.Exec(context.Background(), program, "status", "--check")
	if code != 1 || !strings.HasPrefix(out, "drifted ") || strings.Count(out, "\n") != 1 {
		t.Errorf("status --check: exit %d: %s", code, out)
	}
}

func lastLine(text string) string {
	text = strings.TrimRight(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// alertsFollow holds the alert rules to the metrics that were read back, one an hour:
// verified by the unit, drifted by it, looked at by hand, and verified again.
func alertsFollow(t *testing.T, verdicts map[string][]string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("standing: no promtool")
	}
	rules, err := filepath.Abs("../../../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%s]\nevaluation_interval: 1h\ntests:\n  - interval: 1h\n    input_series:\n", rules)
	for verdict, values := range verdicts {
		fmt.Fprintf(&b, "      - {series: 'ec_verify_verdict{verdict=\"%s\"}', values: '%s'}\n", verdict, strings.Join(values, " "))
	}
	b.WriteString("    promql_expr_test:\n")
	for hour, fires := range []bool{false, true, true, false} {
		fmt.Fprintf(&b, "      - {expr: 'count(ALERTS{alertname=\"EcVerifyDrifted\", alertstate=\"firing\"}) or vector(0)', eval_time: %dh, exp_samples: [{labels: '{}', value: %d}]}\n", hour, map[bool]int{true: 1}[fires])
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, b.String())
	}
}
