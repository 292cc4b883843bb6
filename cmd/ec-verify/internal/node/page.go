package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/render"
	"every.channel/ec-verify/internal/report"
)

// maxPage limits the page, in bytes: that of a closure of 3,000 paths with 500 findings
// has less than 3 MB.
const maxPage = 16 << 20

// pageFile returns the file name of the page with the report of the units' last run, for
// whoever is alerted that one failed.
func pageFile(stateDir string) string { return filepath.Join(stateDir, "report.html") }

// ending is what systemd passes to a unit's ExecStopPost= about the main process; see
// systemd.exec(5). The zero value means that it passed nothing.
type ending struct{ result, code, status string }

func endingOf(getenv func(string) string) ending {
	return ending{getenv("SERVICE_RESULT"), getenv("EXIT_CODE"), getenv("EXIT_STATUS")}
}

// keepPage writes the page about the unit's run that ended with e, and names the file if the
// run failed. It never shows the report of an older run for one that left no report.
func (a *app) keepPage(ctx context.Context, c config.Config, unit string, e ending) error {
	if newLedger(c) == nil || e.result == "" || unit == "" {
		return nil
	}
	d, ok := a.page(ctx, c, unit, e)
	if !ok {
		return nil // somebody ended the run: the page is of the one before
	}
	var b bytes.Buffer
	if err := render.HTML(&b, d); err != nil {
		return err
	}
	name := pageFile(c.StateDir)
	if b.Len() > maxPage {
		return fmt.Errorf("%s: the page would have %d bytes, more than %d", name, b.Len(), maxPage)
	}
	if err := renameio.WriteFile(name, b.Bytes(), 0o644, renameio.WithTempDir(c.StateDir)); err != nil {
		return err
	}
	if e.result != "success" {
		a.Note(fmt.Sprintf("%s ended with %s %s; its report as a page: %s", unit, e.result, e.status, name))
	}
	return nil
}

// page returns the page for a run with that ending.
func (a *app) page(ctx context.Context, c config.Config, unit string, e ending) (d *render.Document, ok bool) {
	r, err := readReport(lastReport(c.StateDir))
	began := beganAt(ctx, unit)
	switch {
	case err == nil && isOf(r, began):
		return render.FromReport(r), true
	case e.result == "success":
		return nil, false
	}
	d = &render.Document{
		Title: "ec-verify: " + report.Unsettled.String(), Verdict: report.Unsettled.String(), Tone: render.Unknown,
		Headline: render.Text(fmt.Sprintf("%s ended with %s (%s %s) and left no report: journalctl -u %s says why", unit, e.result, e.code, e.status, unit)),
		Tool:     render.Text(terminal.ToolVersion()), Finished: time.Now().UTC(),
	}
	if host, err := os.Hostname(); err == nil {
		d.Host = render.Text(host)
		d.Title += " · " + d.Host
	}
	if err == nil {
		d.Facts = append(d.Facts, render.Fact{Name: "last report", Value: render.Text(fmt.Sprintf("%s, of the run that ended on %s: ec-verify report show", r.Verdict(), r.Finished.UTC().Format(time.RFC3339)))})
	}
	return d, true
}

// isOf reports whether r is of a run of the policy that began at began or later.
func isOf(r *report.Report, began time.Time) bool {
	return !began.IsZero() && !r.Started.Before(began) && r.Standing != nil && r.Standing.Look == ""
}

// beganAt returns when the service last started, to the second; zero if unknown.
func beganAt(ctx context.Context, unit string) time.Time {
	exits, err := systemd.Exits(ctx, unit)
	if err != nil || len(exits) != 1 {
		return time.Time{}
	}
	return exits[0].Started.Truncate(time.Second)
}
