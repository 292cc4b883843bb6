package endtoend

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestMachineLearn: learned exceptions have no effect before somebody has reviewed them.
func TestMachineLearn(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.askMachine("etc", "units", "code")
	m.Run("sh", "-c", "echo tool >/usr/local/bin/tool; mkdir /etc/field; echo a >/etc/field/a; echo b >/etc/field/b")
	args := []string{"--against", tag, "--release", releases, "--unsafe-unsigned"}
	config, stderr, code := m.Exec(t.Context(), append([]string{program, "machine", "learn", "--config", machineConfig}, args...)...)
	if code != 0 || !strings.Contains(stderr, "2 exceptions for review, of the parts etc, units, code") {
		t.Errorf("learn: exit %d, %s", code, stderr)
	}
	var got struct {
		Machine struct {
			Allow []struct{ Match, Reason string }
		}
	}
	if err := json.Unmarshal([]byte(config), &got); err != nil {
		t.Fatal(err)
	}
	var matches []string
	for _, e := range got.Machine.Allow {
		matches = append(matches, e.Match)
	}
	if s := strings.Join(matches, " "); s != "/etc/field /usr/local/bin/tool" {
		t.Errorf("learned %s", s)
	}
	// Nothing of it counts: it is in no configuration, and none takes it as it is.
	m.changed().expect(t, "drifted", 1, "file-unknown /etc/field", "file-unknown /usr/local/bin/tool")
	m.write("/root/learned.json", config)
	if stdout, stderr, code := m.Exec(t.Context(), program, "config", "check", "--file-only", "--config", "/root/learned.json"); code == 0 || !strings.Contains(stdout+stderr, "learned from a machine") {
		t.Errorf("a list without a review: exit %d\n%s%s", code, stdout, stderr)
	}
	// A machine that runs something else teaches nothing.
	if _, stderr, code := m.Exec(t.Context(), program, "machine", "learn", "--config", machineConfig, "--against", otherTag, "--release", releases, "--unsafe-unsigned"); code == 0 || !strings.Contains(stderr, "nothing can be learned") {
		t.Errorf("of another release: exit %d %s", code, stderr)
	}
}
