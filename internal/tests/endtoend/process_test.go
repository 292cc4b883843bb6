package endtoend

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// TestSignals: a run that is ended says so, by its exit code and its report.
func TestSignals(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	for signal, code := range map[string]int{"INT": 130, "TERM": 143} {
		t.Run(signal, func(t *testing.T) {
			// strace holds the reading of contents up, so that the signal comes
			// in the middle of it.
			script := `strace -f -qq -P "$0" -e trace=read,pread64,preadv2 -e inject=read,pread64,preadv2:delay_enter=10s:when=1 -o /dev/null "$@" >/tmp/out 2>/tmp/err & p=$!
				until q=$(pgrep -f '^/usr/local/bin/ec-verify') && ls -l /proc/$q/fd | grep -qF "$0"; do sleep 0.05; done
				kill -` + signal + ` "$q"; wait $p`
			ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
			defer cancel()
			_, stderr, got := m.Exec(ctx, "bash", "-c", script, m.path("program-03-1.3")+"/bin/program-03", program, "--against", tag, "--release", releases, "--unsafe-unsigned")
			out, err := m.Run("cat", "/tmp/out"), m.Run("cat", "/tmp/err")
			if got != code {
				t.Errorf("exit %d, want %d\nscript: %s\nstdout: %s\nstderr: %s", got, code, stderr, out, err)
			}
			if strings.HasPrefix(out, "verified") {
				t.Errorf("an interrupted run says: %s", out)
			}
		})
	}
}

// TestNar runs the tests of pkg/nar on the host, whose nix is a current one
// and whose /usr has tens of thousands of files.
func TestNar(t *testing.T) {
	t.Parallel()
	m := start(t)
	test := filepath.Join(t.TempDir(), "nar.test")
	if err := testhost.BuildTest("every.channel/ec-verify/pkg/nar", test); err != nil {
		t.Fatal(err)
	}
	m.Push(test, "/root/nar/nar.test")
	if testdata, err := filepath.Glob("../../../pkg/nar/testdata"); err == nil && len(testdata) == 1 {
		m.Push(testdata[0], "/root/nar/testdata")
	}
	// In memory, where /tmp is, the kernel takes a minute to say what it has of a file of
	// 1 TiB: pkg/nar's own run has that test.
	out, _, code := m.Exec(context.Background(), "sh", "-c", `cd /root/nar && EC_VERIFY_TEST_ALL_TREES=1 ./nar.test -test.v -test.timeout 10m -test.run 'LikeNix|InstalledTrees|TestSum|TestDeep' -test.skip TestSumCancelledInTheMiddleOfAFile 2>&1`)
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	if strings.Contains(out, "--- SKIP") {
		for line := range strings.Lines(out) {
			if strings.Contains(line, "--- SKIP") {
				t.Errorf("not run on the host: %s", strings.TrimSpace(line))
			}
		}
	}
	if !strings.Contains(out, "with Nix: true") || strings.Contains(out, "left out") {
		t.Errorf("not all of /usr was compared with Nix:\n%s", out)
	}
	if !strings.Contains(out, "--- PASS") {
		t.Errorf("no test ran:\n%s", out)
	}
}
