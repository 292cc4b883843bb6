package endtoend

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/systemd"
)

const (
	metricsDir  = "/var/lib/prometheus/node-exporter"
	metricsFile = metricsDir + "/ec-verify.prom"
)

// metrics returns the series of the machine's textfile, which promtool must find
// nothing wrong with; nil where there is none.
func (m *machine) metrics() map[string]string {
	m.t.Helper()
	data, err := os.ReadFile(m.Path(metricsFile))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	tool, err := exec.LookPath("promtool")
	if err != nil {
		m.t.Skip("metrics: no promtool")
	}
	check := exec.Command(tool, "check", "metrics")
	check.Stdin = strings.NewReader(string(data))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		m.t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	series := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			series[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	return series
}

// expectVerdict holds the metrics to one verdict.
func expectVerdict(t *testing.T, series map[string]string, verdict string) {
	t.Helper()
	for _, v := range []string{"verified", "drifted", "untrusted", "inconclusive"} {
		want := "0"
		if v == verdict {
			want = "1"
		}
		if got := series[`ec_verify_verdict{verdict="`+v+`"}`]; got != want {
			t.Errorf("verdict %s: got %q, want %q", v, got, want)
		}
	}
}

// TestMetrics: however a run of the shipped unit ends, its metrics never say verified when
// the machine is not.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := startUnit(t, `, "metrics": {"file": "`+metricsFile+`"}`)
	document := section(t, "monitoring.md", "## Metrics")
	drop := regexp.MustCompile("(?ms)^```ini\n# (\\S+)\n(.*?)^```").FindStringSubmatch(document)
	if drop == nil || !strings.Contains(document, metricsFile) {
		t.Fatal("docs/monitoring.md does not say how the unit may write the file")
	}
	t.Run("before the unit may write it", func(t *testing.T) {
		result, entries := m.runUnit()
		if result != "success 0" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.RunStarted, systemd.MetricsFailed, systemd.RunVerified}) {
			t.Fatalf("%s: %v", result, entries)
		}
		if message := entries[1]["MESSAGE"]; !strings.Contains(message, "there are none now\n") || strings.Contains(message, "stay") {
			t.Errorf("it says %s", message)
		}
	})
	m.write(drop[1], drop[2])
	commands := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(document, -1)
	if len(commands) != 1 {
		t.Fatal("docs/monitoring.md has no commands, or more than were looked for")
	}
	m.Run("sh", "-euc", commands[0][1])
	altered := m.path("program-01-1.1")

	t.Run("verified", func(t *testing.T) {
		m.runUnit()
		s := m.metrics()
		expectVerdict(t, s, "verified")
		for series, want := range map[string]string{
			`ec_verify_findings{cause="disk-altered",class="drift"}`: "0", "ec_verify_pending_reboot": "0", "ec_verify_run_weakened": "1",
			`ec_verify_items_overdue{tier="contents"}`: "0", `ec_verify_tier_done{tier="eval"}`: "1", "ec_verify_ledger_readable": "1",
		} {
			if s[series] != want {
				t.Errorf("%s: got %q, want %q", series, s[series], want)
			}
		}
		if s[`ec_verify_items{tier="contents"}`] == "0" || s[`ec_verify_items{tier="contents"}`] != s[`ec_verify_items_covered{tier="contents"}`] ||
			s[`ec_verify_complete_pass_timestamp_seconds{tier="contents"}`] == "" || s["ec_verify_run_read_bytes"] == "0" {
			t.Errorf("%v", s)
		}
		if mode := m.Run("stat", "-c", "%a", metricsFile); mode != "644" {
			t.Errorf("mode %s", mode)
		}
	})
	t.Run("killed", func(t *testing.T) {
		before := m.Run("cat", metricsFile)
		m.interfere(`systemctl kill -s KILL ec-verify`)
		if m.Run("cat", metricsFile) != before || m.Run("ls", metricsDir) != "ec-verify.prom" {
			t.Error("a run that was killed changed the file, or left another")
		}
	})
	t.Run("ended", func(t *testing.T) {
		before := m.Run("cat", metricsFile)
		m.interfere(`systemctl kill -s TERM ec-verify`)
		if m.Run("cat", metricsFile) != before {
			t.Error("a run that was ended changed the file")
		}
	})
	m.runUnit()
	t.Run("another disk", func(t *testing.T) {
		before := m.Run("cat", metricsFile)
		m.Run("sh", "-euc", `mkdir /mnt/disk; mount --bind / /mnt/disk`)
		m.Exec(context.Background(), program, "--store-root", "/mnt/disk")
		if m.Run("cat", metricsFile) != before {
			t.Error("a run about another disk wrote this machine's metrics")
		}
		m.Run("umount", "/mnt/disk")
	})
	t.Run("no release was named", func(t *testing.T) {
		expectVerdict(t, m.metrics(), "verified")
		m.Run("sed", "-i.kept", `s/"accept": \[[^]]*\]/"accept": []/`, "/etc/ec-verify/config.json")
		defer m.Run("mv", "/etc/ec-verify/config.json.kept", "/etc/ec-verify/config.json")
		if result, _ := m.runUnit(); result != "exit-code 78" {
			t.Error(result)
		}
		s := m.metrics()
		expectVerdict(t, s, "inconclusive")
		if s["ec_verify_run_end_timestamp_seconds"] == "" || s["ec_verify_pending_reboot"] != "" {
			t.Errorf("%v", s)
		}
	})
	m.Run("rm", "-rf", "/var/lib/ec-verify/releases")
	t.Run("no release", func(t *testing.T) {
		m.runUnit()
		m.Run("mv", releases, releases+".away")
		m.Run("sh", "-euc", `cd /var/lib/ec-verify; find . -name "*.json" -o -name "SHA256SUMS*" | xargs rm -f`)
		m.runUnit()
		m.Run("mv", releases+".away", releases)
		s := m.metrics()
		expectVerdict(t, s, "inconclusive")
		if s[`ec_verify_findings{cause="release-unavailable",class="inconclusive"}`] != "1" {
			t.Errorf("%v", s)
		}
	})
	t.Run("untrusted", func(t *testing.T) {
		m.Run("sh", "-euc", `cd "$1"; cp -a . /root/kept; printf x >>release.json`, "sh", releases+"/"+tag)
		m.runUnit()
		m.Run("cp", "-aT", "/root/kept", releases+"/"+tag)
		s := m.metrics()
		expectVerdict(t, s, "untrusted")
		for name := range s {
			if strings.HasPrefix(name, "ec_verify_release_info") {
				t.Errorf("there is %s", name)
			}
		}
	})
	t.Run("drifted", func(t *testing.T) {
		m.FlipByte(altered+"/bin/program-01", 3)
		defer m.FlipByte(altered+"/bin/program-01", 3)
		m.runUnit()
		s := m.metrics()
		expectVerdict(t, s, "drifted")
		if s[`ec_verify_findings{cause="disk-altered",class="drift"}`] != "1" || s[`ec_verify_items_drifted{tier="contents"}`] != "1" {
			t.Errorf("%v", s)
		}
	})
	t.Run("a full disk", func(t *testing.T) {
		m.runUnit()
		m.Run("sh", "-euc", `mkdir /root/full; mount -t tmpfs -o size=64k none /root/full; cp "$1" /root/full; mount --bind /root/full "$2"
			dd if=/dev/zero of="$2/filler" bs=4k status=none || true`, "sh", metricsFile, metricsDir)
		expectVerdict(t, m.metrics(), "verified")
		since := m.now()
		result, _ := m.runUnit()
		if s := m.metrics(); result != "success 0" || s != nil {
			t.Errorf("%s: %v", result, s)
		}
		if log := m.log("ec-verify", since); !strings.Contains(log, "write metrics: ") || !strings.Contains(log, "no space left") {
			t.Errorf("nobody is told:\n%s", log)
		}
	})
}
