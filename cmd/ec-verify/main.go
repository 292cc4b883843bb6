// Command ec-verify proves what a NixOS machine runs: it compares the store
// paths of the system, byte for byte, with a signed release, and reports every
// difference with its cause.
//
// The commands are thin: flags and configuration become the parameters of one
// call into a package, and its result is rendered. exit.go holds the only map
// of exit codes, app.go everything that talks to the terminal.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"every.channel/ec-verify/internal/nix"
)

func main() {
	if code, ok := nix.Confined(); ok {
		os.Exit(code)
	}
	os.Exit(run(os.Args[1:]))
}

// run is main but for the exit, so that test binaries can be ec-verify.
func run(args []string) int {
	ctx, stop := notifyContext(context.Background())
	defer stop()
	out := &results{file: os.Stdout}
	a := newApp(out, os.Stderr)
	cmd := newRootCommand(a)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		err = out.err
	}
	return a.exitCode(ctx, err)
}

// notifyContext returns a context that ends with the first SIGINT or SIGTERM,
// with an interruption as its cause. The second one ends the program at once.
func notifyContext(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(interruption{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); signal.Stop(signals) }
}
