package endtoend

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

const machineConfig = "/root/machine.json"

// askMachine writes a configuration that asks for parts of the machine tier. What a
// test host has of Debian is allowed by name.
func (m *machine) askMachine(parts ...string) {
	m.t.Helper()
	m.askMachineBut(nil, parts...)
}

// askMachineBut is askMachine, and allows what else a test has put there.
func (m *machine) askMachineBut(puts []string, parts ...string) {
	m.t.Helper()
	type exception struct {
		Match  string `json:"match"`
		Reason string `json:"reason"`
	}
	allow := []exception{{program, "the program that is tested"}}
	for _, name := range testhost.Debian() {
		allow = append(allow, exception{name, "the test host is a Debian"})
	}
	for _, name := range puts {
		allow = append(allow, exception{name, "the test"})
	}
	data, err := json.Marshal(map[string]any{"machine": map[string]any{"parts": parts, "allow": allow}})
	if err != nil {
		m.t.Fatal(err)
	}
	file := filepath.Join(m.t.TempDir(), "machine.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.Push(file, machineConfig)
}

// TestMachineTier: what an intruder changes beside the store is seen by whoever asks for
// it, and is able to see it. What that can be, TestMachineRandom and TestCoverage try.
func TestMachineTier(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.askMachine("etc", "units", "code")
	a := m.verify("--config", machineConfig)
	a.expect(t, "verified", 0)
	if status, checked := a.tier("machine"); status != "done" || checked < 100 {
		t.Errorf("the machine tier is %s, with %d things looked at", status, checked)
	}
	if a.has("exception-unused") {
		t.Errorf("Debian's list has what the test host has not: %v", a.all("exception-unused"))
	}
	m.Run("useradd", "--create-home", "--system", "visitor")

	m.Run("sh", "-c", "echo /tmp/evil.so >/etc/ld.so.preload")
	m.verify("--unsafe-skip", "source,eval,contents").expect(t, "verified", 0)
	m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents").expect(t, "drifted", 1, "file-unknown /etc/ld.so.preload")
	m.Run("rm", "/etc/ld.so.preload")
	m.verify("--config", machineConfig).expect(t, "verified", 0)

	// Who is not root can't see, and says so.
	m.Run("cp", machineConfig, "/tmp/machine.json")
	m.Run("chmod", "644", "/tmp/machine.json")
	a = m.report("setpriv", "--reuid=visitor", "--clear-groups", "--", program, "--against", tag, "--release", releases, "--unsafe-unsigned",
		"--state-dir", "/tmp/state", "--config", "/tmp/machine.json", "--output", "json", "--unsafe-skip", "source,eval,contents")
	if a.Verdict == "verified" || !slices.Contains(a.causes(), "machine-unseen /proc/1/root") {
		t.Errorf("as a user: %s, %v", a.Verdict, a.causes())
	}
	// A disk is no machine, and the verdict line says so.
	text, _, _ := m.Exec(t.Context(), program, "--against", tag, "--release", releases, "--unsafe-unsigned",
		"--config", machineConfig, "--store-root", "/", "--unsafe-skip", "source,eval,contents")
	if !strings.Contains(text, "machine") {
		t.Errorf("of a disk:\n%s", text)
	}
}

// all returns the paths of the findings with a cause.
func (a answer) all(cause string) []string {
	var out []string
	for _, f := range a.Findings {
		if f.Cause == cause {
			out = append(out, f.Path)
		}
	}
	return out
}
