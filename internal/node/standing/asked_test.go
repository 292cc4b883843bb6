package standing

import (
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
)

// TestLook: which runs are the policy's.
func TestLook(t *testing.T) {
	accepted := []string{"boot-v1", "latest"}
	runs := func(tag string) *report.Report {
		return &report.Report{Release: &report.Release{Tag: tag}, Findings: []report.Finding{{Cause: report.OtherRelease}}}
	}
	interrupted := &report.Report{Findings: []report.Finding{{Cause: report.Interrupted}}}
	for name, tc := range map[string]struct {
		asked Asked
		made  *report.Report
		why   string // a part of it; "" for a run of the policy
	}{
		"nothing was asked":              {Asked{Accepted: accepted}, nil, ""},
		"an accepted tag":                {Asked{Accepted: accepted, Against: "boot-v1"}, nil, ""},
		"latest":                         {Asked{Accepted: accepted, Against: "latest"}, nil, ""},
		"a tag with a typo":              {Asked{Accepted: accepted, Against: "boot-v11"}, nil, "does not accept boot-v11"},
		"latest that is not accepted":    {Asked{Accepted: accepted[:1], Against: "latest"}, nil, "does not accept latest"},
		"an option":                      {Asked{Accepted: accepted, Options: []string{"--unsafe-skip", "--read"}}, nil, "does not request --unsafe-skip, --read"},
		"a candidate":                    {Asked{Accepted: accepted, Candidate: true, Unit: true, Disk: true}, nil, "about a candidate, which does not run"},
		"another disk":                   {Asked{Accepted: accepted, Disk: true}, nil, "another disk"},
		"another disk, in the unit":      {Asked{Accepted: accepted, Disk: true, Unit: true}, nil, "another disk"},
		"the unit, with a drop-in":       {Asked{Accepted: accepted, Unit: true, Against: "boot-v2", Options: []string{"--read"}}, nil, ""},
		"stopped before its end":         {Asked{Accepted: accepted}, interrupted, "stopped before its end"},
		"the unit, ended before the end": {Asked{Unit: true}, interrupted, "stopped before its end"},
		"another accepted one runs":      {Asked{Accepted: []string{"boot-v1", "boot-v2"}, Against: "boot-v2"}, runs("boot-v1"), "compares with boot-v1"},
		"one that is not accepted runs":  {Asked{Accepted: []string{"boot-v1", "boot-v2"}, Against: "boot-v2"}, runs("boot-v3"), ""},
		"a look, ended before its end":   {Asked{Against: "x"}, interrupted, "does not accept x"},
	} {
		if tc.made == nil {
			tc.made = &report.Report{}
			if got := Look(tc.asked, tc.made); got != tc.asked.Look() {
				t.Errorf("%s: %q before the run, %q after it", name, tc.asked.Look(), got)
			}
		}
		if got := Look(tc.asked, tc.made); (got == "") != (tc.why == "") || !strings.Contains(got, tc.why) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
