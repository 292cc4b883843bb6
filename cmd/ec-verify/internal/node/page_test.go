package node

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/report"
)

// TestPageOfOtherRun: the page of a run never shows the report of another run.
func TestPageOfOtherRun(t *testing.T) {
	began := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	policy := &report.Standing{}
	for name, tc := range map[string]struct {
		r     report.Report
		began time.Time
		want  bool
	}{
		"its own":                      {report.Report{Started: began.Add(time.Second), Standing: policy}, began, true},
		"of the run before":            {report.Report{Started: began.Add(-time.Second), Standing: policy}, began, false},
		"of a look":                    {report.Report{Started: began.Add(time.Second), Standing: &report.Standing{Look: "x"}}, began, false},
		"of nobody knows what":         {report.Report{Started: began.Add(time.Second)}, began, false},
		"when it began nobody can say": {report.Report{Started: began.Add(time.Second), Standing: policy}, time.Time{}, false},
	} {
		if got := isOf(&tc.r, tc.began); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestNoPage: outside a unit, and of another disk, there is none.
func TestNoPage(t *testing.T) {
	failed := ending{"exit-code", "exited", "1"}
	for name, tc := range map[string]struct {
		root, unit string
		ended      ending
	}{
		"by hand":      {"", "ec-verify.service", ending{}},
		"in no unit":   {"", "", failed},
		"another disk": {"/mnt", "ec-verify.service", failed},
	} {
		dir := t.TempDir()
		if err := (&app{}).keepPage(t.Context(), config.Config{StateDir: dir, StoreRoot: tc.root}, tc.unit, tc.ended); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
}

// TestPageWithoutReport: of a run that left no report, or of which that is not known, the
// page says just that.
func TestPageWithoutReport(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(ledger.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	old := &report.Report{Started: time.Now().Add(-time.Hour), Finished: time.Now().Add(-time.Hour), Standing: &report.Standing{}}
	c := config.Config{StateDir: dir}
	for _, kept := range []bool{false, true} {
		var stderr bytes.Buffer
		a := &app{terminal.New(nil, &stderr)}
		if kept {
			a.keepReport(c, old)
		}
		if err := a.keepPage(t.Context(), c, "none-such.service", ending{"signal", "killed", "KILL"}); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(pageFile(dir))
		if err != nil {
			t.Fatal(err)
		}
		for want, there := range map[string]bool{
			"none-such.service ended with signal (killed KILL) and left no report": true, "ec-verify: inconclusive": true,
			", of the run that ended on ": kept,
		} {
			if strings.Contains(string(page), want) != there {
				t.Errorf("a report is kept: %v; that %q is on the page: %v", kept, want, !there)
			}
		}
		if !strings.Contains(stderr.String(), "its report as a page: "+pageFile(dir)) {
			t.Errorf("%s", stderr.String())
		}
	}
}
