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
		later := time.Hour
		if os.Getenv(signalHelper) == "hang" {
			later = 10 * time.Millisecond
		}
		ctx, stop := notifyContext(context.Background(), later)
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
		io.Copy(io.Discard, os.Stdin) // the report is being written
		os.Exit(77)
	}
	start := func(mode string) (cmd *exec.Cmd, in, out io.Closer) {
		// Under nohup, a hang-up is ignored by all that it starts.
		cmd = exec.Command("env", "--default-signal=HUP", os.Args[0], "-test.run=^TestSignalTwice$")
		cmd.Env = append(os.Environ(), signalHelper+"="+mode)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		return cmd, stdin, stdout
	}
	send := func(cmd *exec.Cmd, signal syscall.Signal) {
		if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	for name, signals := range map[string][]syscall.Signal{
		"in a moment": {syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM},
		"hung up":     {syscall.SIGHUP},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, in, _ := start("report")
			for _, signal := range signals {
				send(cmd, signal)
				time.Sleep(20 * time.Millisecond) // or the kernel makes one of them
			}
			in.Close()
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 77 {
				t.Errorf("ended before its report: %v", cmd.ProcessState)
			}
		})
	}
	t.Run("nobody reads", func(t *testing.T) {
		cmd, _, out := start("write")
		out.Close()
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 78 {
			t.Errorf("a pipe that nobody reads ended it: %v", cmd.ProcessState)
		}
	})
	t.Run("later", func(t *testing.T) {
		cmd, _, _ := start("hang")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait()
		}()
		for signals := 0; ; signals++ {
			send(cmd, syscall.SIGTERM)
			select {
			case <-ended:
				if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM || signals == 0 {
					t.Errorf("%d signals after the first one: %v", signals, cmd.ProcessState)
				}
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
}
