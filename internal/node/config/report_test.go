package config

import (
	"strings"
	"testing"
)

func TestReportRefuses(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"keyFile": "key.pem"}`, `report.keyFile: "key.pem" is not an absolute path`},
		{`{"dir": "reports"}`, `report.dir: "reports" is not an absolute path`},
		{`{"keep": 0}`, "report.keep: 0 is not between 1 and 100000"},
		{`{"keep": 100001}`, "report.keep: 100001 is not"},
		{`{"key": "/k"}`, `unknown key "report.key"`},
	} {
		if _, err := Parse([]byte(`{"report": ` + tc.text + `}`)); err == nil || !strings.HasPrefix(unplaced(err), tc.want) {
			t.Errorf("%s: %v, want the error %q", tc.text, err, tc.want)
		}
	}
	c := Default()
	if got := c.ReportDir(); got != "/var/lib/ec-verify/reports" {
		t.Errorf("ReportDir = %s", got)
	}
}
