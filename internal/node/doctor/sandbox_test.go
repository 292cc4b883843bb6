package doctor

import (
	"os"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/node/systemd"
)

// settings returns the lines NAME=VALUE of a unit file or drop-in in systemd/, one for each
// word of a value.
func settings(t *testing.T, name string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("../../../systemd/" + name)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		for _, word := range strings.Fields(value) {
			out[key+"="+word] = true
		}
	}
	return out
}

// TestRightsOfParts: the shipped units are what this package assumes them to be, and the
// shipped drop-ins grant what each part needs, and nothing else.
func TestRightsOfParts(t *testing.T) {
	machine, firewall := settings(t, "machine.conf"), settings(t, "firewall.conf")
	var needed int
	seen := map[string]bool{}
	for _, part := range running.Parts() {
		for _, setting := range running.Needs(part) {
			if !seen[setting] {
				needed++
			}
			seen[setting] = true
			if !machine[setting] && (part != "firewall" || !firewall[setting]) {
				t.Errorf("part %s: no drop-in grants %s", part, setting)
			}
			for unit, s := range map[string]systemd.Sandbox{VerifyUnit: shipped(), RebuildUnit: shippedRebuild()} {
				has := settings(t, unit)[setting]
				if setting == "PrivateNetwork=no" {
					has = !settings(t, unit)["PrivateNetwork=yes"]
				}
				if grants(s, setting) != has {
					t.Errorf("%s: has %s is %v", unit, setting, has)
				}
			}
			if !grants(systemd.Sandbox{Capabilities: 1<<41 - 1}, setting) {
				t.Errorf("a unit without restrictions lacks %s", setting)
			}
		}
	}
	if got := len(machine) + len(firewall); got != needed {
		t.Errorf("the drop-ins have %d settings, want %d", got, needed)
	}
	if running.Needs("x") != nil {
		t.Error("what is no part needs something")
	}
}

// TestShippedUnits: a unit that is missing, or that can't be asked for, is judged as it is
// shipped, which does not see other processes.
func TestShippedUnits(t *testing.T) {
	for name, without := range map[string]func(s *setUp){
		"absent":     func(s *setUp) { s.units[0] = systemd.Unit{Name: VerifyUnit, Absent: true} },
		"no systemd": func(s *setUp) { s.units = nil },
	} {
		s := newSetUp(t)
		s.top["machine"] = map[string]any{"parts": []string{"sockets"}}
		without(s)
		found := false
		for _, r := range s.examine() {
			found = found || r.Check == "machine" && r.State == Problem
		}
		if !found {
			t.Errorf("%s: no problem", name)
		}
	}
}
