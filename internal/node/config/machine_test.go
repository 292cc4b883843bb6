package config

import (
	"strings"
	"testing"
)

func TestMachineRefuses(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"parts": ["etc", "all"]}`, `machine.parts[1]: "all" is not a part of a machine: want one of etc, units, code`},
		{`{"allow": [{"match": "/etc/x"}]}`, "machine.allow[0]: reason: want the reason"},
		{`{"allow": [{"reason": "r"}]}`, "machine.allow[0]: match: want a path"},
		{`{"allow": [{"match": "/", "reason": "r"}]}`, `machine.allow[0]: match: "/" would allow everything`},
		{`{"allow": [{"match": "/etc/x", "reason": "r", "until": "soon"}]}`, "machine.allow[0]: until: want a day"},
		{`{"allow": [{"match": "/etc/x", "why": "r"}]}`, "unknown key"},
	} {
		if _, err := Parse([]byte(`{"machine": ` + tc.text + `}`)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want the error %q", tc.text, err, tc.want)
		}
	}
	c, err := Parse([]byte(`{"machine": {"parts": ["etc"], "allow": [{"match": "/etc/x", "reason": "r", "until": "2026-12-31"}]}}`))
	if err != nil || len(c.Machine.Policy().Parts) != 1 || len(c.Machine.Policy().Allow) != 1 {
		t.Errorf("%+v, %v", c.Machine, err)
	}
	if p := Default().Machine.Policy(); len(p.Parts)+len(p.Allow) > 0 {
		t.Errorf("by default %+v is asked for", p)
	}
}
