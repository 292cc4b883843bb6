// Command ec-verify proves what a NixOS machine runs: it compares the store
// paths of the system, byte for byte, with a signed release, and reports every
// difference with its cause.
//
// The commands are thin: flags and configuration become the parameters of one call into
// a package, and its result is rendered. They are in three rooms below internal, by whom
// they serve: node, publisher and boothost. The rooms don't know each other; main puts
// them together. What they share is in terminal, which alone writes to the streams and
// has the only map of exit codes, and in configured.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/nix"
)

func main() {
	if code, ok := nix.Confined(); ok {
		os.Exit(code)
	}
	collectLate()
	os.Exit(run(os.Args[1:]))
}

// collectLate has Go's collector wait for 16 MiB instead of 4: most commands end before
// that. Starting alone would collect once, and a run that remembers 2,000 paths four
// times. After the first collection it collects at the usual rate, because a hostile
// machine could otherwise make it use three times as much memory.
func collectLate() {
	if os.Getenv("GOGC") != "" {
		return
	}
	const late, usual = 400, 100
	debug.SetGCPercent(late)
	// What nothing refers to is cleaned up by the first collection.
	unused := new([64]byte)
	runtime.AddCleanup(unused, func(percent int) { debug.SetGCPercent(percent) }, usual)
}

// run is main but for the exit, so that test binaries can be ec-verify.
func run(args []string) int {
	ctx, stop := notifyContext(context.Background(), sameSignal)
	defer stop()
	out := &terminal.Results{File: os.Stdout}
	t := terminal.New(out, os.Stderr)
	cmd := newRootCommand(t)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		completeRest(t, cmd) // a shell asks; for other commands it is 3 % of the start
	}
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		err = out.Err
	}
	return t.ExitCode(ctx, err)
}

// sameSignal is the time after a signal in which a second one counts as the same:
// timeout sends its signal to the program and then to its process group, and a shell
// may do likewise for Ctrl-C.
const sameSignal = time.Second

// notifyContext returns a context that ends with the first SIGINT, SIGTERM or
// SIGHUP (unless that is ignored, as by nohup), with an interruption as its cause.
// A second one, that much later or more, ends the program at once, without a report
// and without cleaning up.
func notifyContext(parent context.Context, later time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	// A reader of standard output that is gone is an error of the write, and no
	// reason to die before what is remembered is in order.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		select {
		case s := <-signals:
			cancel(terminal.Interruption{Signal: s.(syscall.Signal)})
			// Those that come until then fill the channel and go nowhere.
			time.Sleep(later)
			signal.Stop(signals)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); signal.Stop(signals) }
}
