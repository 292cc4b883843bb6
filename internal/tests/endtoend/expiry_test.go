package endtoend

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestExpiry: that a release is refused soon is told beforehand, and one that is refused
// for its age is not called forged.
func TestExpiry(t *testing.T) {
	t.Parallel()
	m := startUnit(t, "")
	m.Run("mkdir", "-p", metricsDir)
	m.write("/etc/systemd/system/ec-verify.service.d/metrics.conf", "[Service]\nReadWritePaths=-"+metricsDir+"\n")
	m.Run("systemctl", "daemon-reload")
	const old, soon = "boot-v2025.01.01", "boot-v2026.12.01"
	now := time.Now().UTC() // whose days have 24 hours
	accept := func(tag string) {
		m.write("/etc/ec-verify/config.json", fmt.Sprintf(`{"release": {"source": ["/srv/ages"], "accept": [%q]}, "unsafeUnsigned": true,
			"nix": {"binDir": "/var/lib/ec-verify/bin"}, "metrics": {"file": %q}}`, tag, metricsFile))
	}
	create := func(tag string, created time.Time, args ...string) {
		m.Run(append([]string{"env", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", created.Unix()), program, "manifest", "create",
			"/etc/every-channel/flake#testhost", "--out", "/srv/ages/" + tag, "--tag", tag}, args...)...)
	}
	found := func(entries []journalEntry, cause string) journalEntry {
		i := slices.IndexFunc(entries, func(e journalEntry) bool { return e["EC_VERIFY_CAUSE"] == cause })
		if i < 0 {
			t.Errorf("the journal does not have %s: %v", cause, entries)
			return nil
		}
		return entries[i]
	}
	status := func() string {
		out, _, _ := m.Exec(context.Background(), program, "status")
		return out
	}

	create(old, now.AddDate(0, 0, -91))
	accept(old)
	result, entries := m.runUnit()
	if result != "exit-code 3" {
		t.Errorf("on day 91 the unit ended with %s", result)
	}
	expectVerdict(t, m.metrics(), "untrusted")
	if advice := found(entries, "release-expired")["EC_VERIFY_ADVICE"]; !strings.Contains(advice, "newer") {
		t.Errorf("what to do: %s", advice)
	}
	if out := status(); !strings.HasPrefix(out, "untrusted ") {
		t.Errorf("status says\n%s", out)
	}

	create(soon, now.Add(-time.Hour), "--best-before", "9d")
	accept(soon)
	result, entries = m.runUnit()
	if result != "success 0" {
		t.Errorf("nine days before, the unit ended with %s", result)
	}
	s := m.metrics()
	expectVerdict(t, s, "verified")
	best := now.Add(-time.Hour).AddDate(0, 0, 9).UTC()
	if got, err := strconv.ParseFloat(s["ec_verify_release_best_before_timestamp_seconds"], 64); err != nil || int64(got) != best.Unix() {
		t.Errorf("in the metrics it ends at %f, want %d", got, best.Unix())
	}
	if e := found(entries, "release-expires"); e["EC_VERIFY_CLASS"] != "notice" || !strings.Contains(e["EC_VERIFY_DETAIL"], best.Format(time.RFC3339)) {
		t.Errorf("the journal says %v", e)
	}
	if out := status(); !strings.HasPrefix(out, "verified ") || !strings.Contains(out, "best before "+best.Format(time.RFC3339)) {
		t.Errorf("status says\n%s", out)
	}
	if out, _, _ := m.Exec(context.Background(), program, "doctor", "--offline"); !strings.Contains(out, soon+" is best before "+best.Format(time.RFC3339)) {
		t.Errorf("doctor says\n%s", out)
	}
}
