package running

import (
	"slices"
	"testing"

	"every.channel/ec-verify/internal/report"
)

// TestLocked: the unit that ends the loading of modules has an effect.
func TestLocked(t *testing.T) {
	const name = settingsRoot + "kernel/modules_disabled"
	unit := Unit{Name: lockModules, Active: true}
	pending := unit
	pending.Pending = true
	for _, test := range []struct {
		name, text     string
		enabled        bool
		units          []Unit
		found, notSeen bool
	}{
		{"locked", "1\n", true, nil, false, false},
		{"not locked, as configured", "0\n", false, nil, false, false},
		{"not locked", "0\n", true, []Unit{unit}, true, false},
		{"not locked, and the unit is not even loaded", "0\n", true, nil, true, false},
		{"about to be", "0\n", true, []Unit{pending}, false, true},
		{"a kernel without modules", "", true, nil, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			if test.text != "" {
				h.write(name, test.text, 0o644)
			}
			l := h.m.newLook()
			l.checkLocked(test.enabled, func() (*Units, error) { return &Units{Units: test.units}, nil })
			found := slices.ContainsFunc(l.findings, func(f report.Finding) bool { return f.Cause == report.SettingAltered && f.Path == name })
			if found != test.found || len(l.findings) > 1 || (len(l.notSeen) > 0) != test.notSeen {
				t.Errorf("found %v and not seen %q", l.findings, l.notSeen)
			}
		})
	}
}
