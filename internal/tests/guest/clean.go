//go:build qemu

package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loader is a notice of an ISO: its isolinux is Debian's, and of no release.
const loader = "loader-unknown /iso/isolinux"

// verify runs ec-verify by its policy, with the arguments: its verdict, its exit code, and
// what it found but for how exceptions were used.
func (m *Machine) verify(args string) (verdict string, code int, found []string, text string) {
	m.t.Helper()
	// A timer of the machine may have started a run, above all where the test sets the clock.
	text, code = m.Try(Program + " --output json --progress never --offline --wait 10m " + args + " 2>&1")
	var report struct {
		Verdict  string
		Findings []struct{ Cause, Path, Field string }
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		m.t.Fatalf("what ec-verify says, exit %d: %v\n%s", code, err, text)
	}
	for _, f := range report.Findings {
		about := strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Cause, f.Path, f.Field))
		if !strings.HasPrefix(f.Cause, "exception-") && f.Cause != "check-skipped" && about != loader {
			found = append(found, about)
		}
	}
	slices.Sort(found)
	return report.Verdict, code, found, text
}

// cleanEnv asks for more runs than a test run of every day can take, as on a test host.
const cleanEnv = "EC_VERIFY_MACHINE_CLEAN"

// Clean has ec-verify find nothing on the machine, at least so many times.
func (m *Machine) Clean(times int, args string) {
	m.t.Helper()
	if text := os.Getenv(cleanEnv); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil {
			m.t.Fatalf("%s: %v", cleanEnv, err)
		}
		times = max(times, asked)
	}
	begin := time.Now()
	for n := range times {
		if verdict, code, found, text := m.verify(args); verdict != "verified" || code != 0 || len(found) > 0 {
			m.t.Errorf("run %d: exit %d, want verified:\n%s", n, code, text)
		}
	}
	m.t.Logf("verified %d times in %.0f s", times, time.Since(begin).Seconds())
}

// Finds has ec-verify find the causes, and nothing else, on a machine that drifted.
func (m *Machine) Finds(args string, causes ...string) {
	m.t.Helper()
	slices.Sort(causes)
	if verdict, code, found, text := m.verify(args); verdict != "drifted" || code != 1 || !slices.Equal(found, causes) {
		m.t.Errorf("exit %d, want drifted and %q:\n%s", code, causes, text)
	}
}
