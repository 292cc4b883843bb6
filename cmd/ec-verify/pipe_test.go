package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

// TestPipesAreRefused: a named pipe that somebody holds open, in the place of a
// small file, is refused by name. Reading it would wait for ever, past SIGINT.
func TestPipesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(filepath.Join(dir, "pipe"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"release", "sign", dir, "--key", "pipe"}, terminal.ExitConfig},
		{[]string{"release", "verify", dir, "--key", "pipe", "--state-dir", "state"}, terminal.ExitConfig},
		{[]string{"report", "verify", "pipe", "--key", "pipe"}, terminal.ExitUsage},
		{[]string{"manifest", "check", "pipe"}, terminal.ExitInconclusive},
		{[]string{"config", "check", "--config", "pipe"}, terminal.ExitConfig},
		{[]string{"netboot", "render", "--out", dir, "--url", "http://10.0.0.2", "--chain-token-file", "pipe"}, terminal.ExitConfig},
	} {
		t.Run(strings.Join(c.args[:2], " "), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "ec-verify", c.args...)
			cmd.Dir = dir
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(string(out), "pipe: not a regular file") {
				t.Errorf("exit code %d: %s", got, out)
			}
		})
	}
}
