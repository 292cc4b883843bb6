package endtoend

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAgentMachine: a unit that may not check the configured parts of the machine is a
// problem before its first run; with the drop-in of the guide, or the remedy of doctor, the
// unit finds what a run by hand finds.
func TestAgentMachine(t *testing.T) {
	t.Parallel()
	a := startAgent(t, `, "rebuild": {"choice": "config"}`)
	guide, err := os.ReadFile("../../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile("\n```json\n(\\{ \"machine\": .*\\})\n```\n").FindStringSubmatch(string(guide))
	install := regexp.MustCompile("(?s)\n```sh\n(for unit in [^`]*?machine\\.conf\ndone\n)").FindStringSubmatch(string(guide))
	if parts == nil || install == nil {
		t.Fatal("docs/operating.md has no parts, or no command that installs their drop-in")
	}
	a.write("/etc/ec-verify/config.d/parts.json", parts[1])

	problems := func() (found, remedies []string) {
		out, _, _ := a.Exec(t.Context(), program, "doctor", "--offline", "--output", "json")
		var x struct {
			Results []struct{ Check, State, Found, Remedy string }
		}
		if err := json.Unmarshal([]byte(out), &x); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, r := range x.Results {
			if r.Check == "machine" && r.State == "problem" {
				found, remedies = append(found, r.Found), append(remedies, r.Remedy)
			}
		}
		return found, remedies
	}
	found, remedies := problems()
	if len(found) != 2 || !strings.HasPrefix(found[0], "ec-verify.service can't check etc, units, code, sockets, mounts: ") || !strings.HasPrefix(found[1], "ec-verify-rebuild.service can't check ") {
		t.Fatalf("doctor found %q", found)
	}
	out, stderr, code := a.Exec(t.Context(), program, "config", "check")
	if code != 78 || !strings.Contains(strings.Join(strings.Fields(out), " "), "parts.json:1:25: machine.parts: ec-verify.service can't check etc,") {
		t.Errorf("config check: exit %d\n%s%s", code, out, stderr)
	}
	findings := func() (all []string) {
		var r struct {
			Verdict  string
			Findings []struct{ Tier, Cause, Path, Field string }
		}
		out, stderr, _ := a.Exec(t.Context(), program, "report", "show", "--output", "json")
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		for _, f := range r.Findings {
			// Which units are loaded and which programs run changes between two runs.
			if f.Tier == "machine" && f.Cause != "unit-unknown" && f.Cause != "code-unknown" {
				all = append(all, f.Cause+" "+f.Path+" "+f.Field)
			}
		}
		slices.Sort(all)
		return append(all, r.Verdict)
	}
	a.Exec(t.Context(), "systemctl", "start", "ec-verify")
	if all := findings(); !slices.Contains(all, "machine-unseen /proc/1/root ") {
		t.Errorf("without the drop-in: %q", all)
	}

	a.Run("sh", "-euc", strings.ReplaceAll(install[1], "/usr/share/", "/usr/local/share/"))
	a.Run("rm", "-r", "/etc/systemd/system/ec-verify-rebuild.service.d/machine.conf")
	a.Run("systemctl", "daemon-reload")
	if found, _ = problems(); len(found) != 1 || !strings.HasPrefix(found[0], "ec-verify-rebuild.service ") {
		t.Errorf("with the drop-in of the guide: %q", found)
	}
	a.Run("sh", "-euc", remedies[1])
	if found, _ = problems(); len(found) != 0 {
		t.Errorf("with the remedy: %q", found)
	}
	a.Run(program, "config", "check")
	a.Exec(t.Context(), "systemctl", "start", "ec-verify")
	unit := findings()
	if slices.ContainsFunc(unit, func(f string) bool { return strings.HasPrefix(f, "machine-unseen") }) {
		t.Errorf("the unit with the drop-in: %q", unit)
	}
	a.Exec(t.Context(), program, "--offline", "--rebuild", "none", "--output", "json")
	if hand := findings(); !slices.Equal(unit, hand) {
		t.Errorf("by hand -, the unit +:\n%s", cmp.Diff(hand, unit))
	}

	// Another system than that of the last run has no verdict.
	const unseen = "no run has verified the system that runs"
	if out, _, _ := a.Exec(t.Context(), program, "status", "--check"); out == "" || strings.Contains(out, unseen) {
		t.Errorf("status --check: %s", out)
	}
	a.Run("ln", "-sfn", "/nix/var", "/run/current-system")
	if out, _, code := a.Exec(t.Context(), program, "status", "--check"); code == 0 || !strings.Contains(out, unseen) {
		t.Errorf("after a switch, status --check: exit %d, %s", code, out)
	}
}
