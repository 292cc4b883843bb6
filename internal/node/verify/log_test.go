package verify

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// TestLogFound: what is logged of a finding is what the report says of it, once.
func TestLogFound(t *testing.T) {
	var log bytes.Buffer
	r := &run{Verifier: &Verifier{Log: zerolog.New(&log)}, report: &report.Report{}}
	r.find(report.Finding{Tier: report.TierContents, Cause: closure.Missing, Path: "/nix/store/x"})
	r.report.Findings[0].Release = "boot-v0"
	r.logFound()
	r.find(report.Finding{Tier: report.TierContents, Cause: closure.Missing, Path: "/nix/store/y"})
	r.logFound()
	r.logFound()
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"release":"boot-v0"`) || strings.Contains(lines[1], "release\":") {
		t.Errorf("%s", log.String())
	}
}
