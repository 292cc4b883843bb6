package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// signalHelper makes the test binary a program that waits for a signal.
const signalHelper = "EC_VERIFY_TEST_SIGNALS"

// TestSignalTwice: timeout sends its signal twice in a moment. The second one
// must not cost the report, and one that comes later must end the program.
func TestSignalTwice(t *testing.T) {
	if os.Getenv(signalHelper) != "" {
		ctx, stop := notifyContext(context.Background())
		defer stop()
		os.Stdout.WriteString("ready")
		for os.Getenv(signalHelper) == "write" {
			if _, err := os.Stdout.WriteString("more"); errors.Is(err, syscall.EPIPE) {
				os.Exit(78)
			}
		}
		<-ctx.Done()
		if os.Getenv(signalHelper) == "hang" {
			select {}
		}
		time.Sleep(300 * time.Millisecond) // the report is being written
		os.Exit(77)
	}
	start := func(mode string) (*exec.Cmd, io.Closer) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSignalTwice$")
		cmd.Env = append(os.Environ(), signalHelper+"="+mode)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	send := func(cmd *exec.Cmd, pause time.Duration) {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		time.Sleep(pause)
	}
	t.Run("in a moment", func(t *testing.T) {
		cmd, _ := start("report")
		for range 3 {
			send(cmd, 50*time.Millisecond)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 77 {
			t.Errorf("ended before its report: %v", cmd.ProcessState)
		}
	})
	t.Run("hung up", func(t *testing.T) {
		cmd, _ := start("report")
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 77 {
			t.Errorf("ended before its report: %v", cmd.ProcessState)
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		cmd, out := start("write")
		out.Close()
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 78 {
			t.Errorf("a pipe that nobody reads ended it: %v", cmd.ProcessState)
		}
	})
	t.Run("later", func(t *testing.T) {
		cmd, _ := start("hang")
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		send(cmd, sameSignal+300*time.Millisecond)
		send(cmd, 0)
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
			t.Errorf("a second signal did not end it: %v", cmd.ProcessState)
		}
	})
}
