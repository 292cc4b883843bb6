package nix

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestTimeout(t *testing.T) {
	f := newFake(t, Config{Timeout: 200 * time.Millisecond}, "nix (Nix) 2.26.3\n", fake{Do: doSleep})
	_, err := f.FlakeSource(t.Context(), "x")
	if !errors.Is(err, ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("FlakeSource: %v, want ErrTimeout", err)
	}
	f.checkNothingLeft()
}

// TestDumpMemory: a store that says no end of things does not fill the memory.
func TestDumpMemory(t *testing.T) {
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: `until [ "$(ulimit -d)" = 1048576 ]; do :; done; echo limited`})
	var out strings.Builder
	err := f.Dump(t.Context(), DumpRequest{Store: "file:///none", Path: "/nix/store/x", Timeout: 5 * time.Minute, Temp: t.TempDir()}, &out)
	if err != nil || out.String() != "limited\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestCancelEndsTheGroup: a Nix that does not end when asked to is killed, and
// with it what it started.
func TestCancelEndsTheGroup(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: doIgnore})
	f.grace = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.FlakeSource(ctx, "x")
		done <- err
	}()
	child, err := strconv.Atoi(f.waitFor("child"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("FlakeSource: %v, want Canceled", err)
	}
	for end := time.Now().Add(time.Minute); !gone(child); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d outlives the run", child)
		}
	}
}

// TestNobodyIsAsked: a program of a store, such as ssh with an unknown host key, may want to
// ask a question on a terminal, which would block the run silently. So it has no terminal.
func TestNobodyIsAsked(t *testing.T) {
	t.Setenv("NIX_SSHOPTS", "-p 2222")
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: "$cat /proc/self/stat >$here/stat"})
	if err := f.Dump(t.Context(), DumpRequest{Store: "ssh-ng://host", Path: "/nix/store/x", Temp: t.TempDir()}, io.Discard); err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	_, stat, _ := strings.Cut(f.waitFor("stat"), ") ")
	if session := strings.Fields(stat)[3]; session == strconv.Itoa(own) {
		t.Error("it has the terminal of this program")
	}
	if got, want := f.call().env()["NIX_SSHOPTS"], "-oBatchMode=yes -p 2222"; got != want {
		t.Errorf("NIX_SSHOPTS=%q, want %q", got, want)
	}
}

// TestWhySSHFails: Nix says that ssh failed, and the error adds ssh's own reason.
func TestWhySSHFails(t *testing.T) {
	const nixSays = "warning: a\nerror:\n       … while connecting\n\n       error: failed to start SSH connection to 'root@host'\n"
	for _, test := range []struct{ store, stderr, want string }{
		{"ssh-ng://root@host", "Welcome\nHost key \x1b[31mverification failed.\r\n" + nixSays, ": failed to start SSH connection to 'root@host': Host key verification failed."},
		{"ssh-ng://root@host", strings.Repeat("x", 5000) + "\n" + nixSays, ": failed to start SSH connection to 'root@host': " + strings.Repeat("x", 200) + "…"},
		{"ssh-ng://root@host", nixSays, ": failed to start SSH connection to 'root@host'"},
		{"ssh-ng://root@host", "killed by a stranger\n", "exit status 1: killed by a stranger"},
		{"https://host", "these are fetched:\nerror: no\n", "exit status 1: no"},
	} {
		f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stderr: test.stderr, Code: 1})
		dumped := f.Dump(t.Context(), DumpRequest{Store: test.store, Path: "/nix/store/x", Temp: t.TempDir()}, io.Discard)
		_, asked := f.References(t.Context(), ReferencesRequest{Store: test.store, Temp: t.TempDir()})
		for _, err := range []error{dumped, asked} {
			if exit := (*ExitError)(nil); err == nil || !errors.As(err, &exit) || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("%q: %v, want …%s", test.stderr, err, test.want)
			}
		}
	}
}

// gone reports whether a process has ended, be it that nobody asked yet how.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(data), ") Z ")
}

func TestDeadlineOfTheCaller(t *testing.T) {
	f := newFake(t, Config{Timeout: time.Hour}, "nix (Nix) 2.26.3\n", fake{Do: doSleep})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := f.FlakeSource(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout) {
		t.Errorf("FlakeSource: %v, want DeadlineExceeded", err)
	}
}

func TestTooMuchOutput(t *testing.T) {
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: doFlood})
	if _, err := f.FlakeSource(t.Context(), "x"); !errors.Is(err, errOutput) {
		t.Errorf("FlakeSource: %v, want errOutput", err)
	}
}

func TestExitError(t *testing.T) {
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stderr: "a\x1b[31mred\x1b[0m\rb\nlast\tline", Code: 7})
	_, err := f.FlakeSource(t.Context(), "x")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Args[0] != "nix" || exit.Signal != "" {
		t.Fatalf("FlakeSource: %v, want an ExitError", err)
	}
	if want := "aredb\nlast line"; exit.Stderr != want {
		t.Errorf("Stderr = %q, want %q", exit.Stderr, want)
	}
	// Without a word of Nix's an evaluation did not fail, it did not happen.
	_, err = f.Instantiate(t.Context(), testSource, "works")
	var ee *EvaluationError
	if errors.As(err, &ee) || !errors.As(err, &exit) {
		t.Errorf("Evaluate: %v, want an ExitError and no EvaluationError", err)
	}

	f = newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stderr: "error: x\n", Do: doDie})
	_, err = f.Instantiate(t.Context(), testSource, "works")
	if errors.As(err, &ee) || !errors.As(err, &exit) || exit.Signal != "killed" || exit.Code != -1 {
		t.Errorf("Evaluate by a Nix that is killed: %v, want an ExitError of a signal", err)
	}
}

func TestPrivateDirectoryIsRemoved(t *testing.T) {
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: doWrite, Code: 1})
	f.FlakeSource(t.Context(), "x")
	if dir := f.call().Dir; !strings.HasPrefix(dir, os.TempDir()) {
		t.Errorf("run in %s", dir)
	}
	f.checkNothingLeft()
}
