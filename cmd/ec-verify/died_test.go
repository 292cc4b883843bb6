package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledRun: what is left of a run that was killed with SIGKILL is told by the
// command that the units run afterwards, in the metrics that said otherwise; by
// status; and by the next run.
func TestKilledRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	state, metrics := filepath.Join(dir, "state"), filepath.Join(dir, "ec.prom")
	config := filepath.Join(dir, "config.json")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		out, _ := exec.CommandContext(ctx, "ec-verify", append([]string{"--config", config, "--journal", "never"}, args...)...).CombinedOutput()
		return string(out)
	}
	const verified = "ec_verify_verdict{verdict=\"verified\"} 1\n"
	// A source that never answers: whoever asks it has begun, and does not end.
	asked, end := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(end)
	write(config, `{"stateDir": "`+state+`", "metrics": {"file": "`+metrics+`"}, "unsafeUnsigned": true,
		"release": {"source": ["`+server.URL+`/o/r/releases/download"], "accept": ["boot-v1"]}}`)

	killed := exec.CommandContext(ctx, "ec-verify", "--config", config, "--journal", "never")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-ctx.Done():
		t.Fatal("it never asked the source")
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	server.CloseClientConnections()
	server.Close() // from now on a run ends at once
	write(metrics, verified)
	if out := run("after-run"); !strings.Contains(out, "a run died: process ") {
		t.Errorf("after-run: %s", out)
	}
	if text, _ := os.ReadFile(metrics); !strings.Contains(string(text), `ec_verify_verdict{verdict="inconclusive"} 1`) {
		t.Errorf("the metrics:\n%s", text)
	}
	if out := run("status"); !strings.Contains(out, "died      process ") {
		t.Errorf("status: %s", out)
	}
	if out := run("--all"); !strings.Contains(out, "run-died") {
		t.Errorf("the next run: %s", out)
	}
	if out := run("status"); strings.Contains(out, "died") {
		t.Errorf("status after the next run: %s", out)
	}
	if out := run("after-run"); out != "" {
		t.Errorf("after-run after the next run: %s", out)
	}
}
