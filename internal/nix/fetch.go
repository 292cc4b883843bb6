package nix

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/pkg/closure"
)

// ErrNotFetched is wrapped where no substituter gave a path: none has it, none
// could be reached, or what it gave is not what it, or a signature, says.
var ErrNotFetched = errors.New("not fetched")

// FetchRequest says what to fetch.
type FetchRequest struct {
	Path closure.StorePath
	// From lists substituters; empty for those that Nix is configured with.
	From []string
	// Timeout bounds the run; 0 is no bound.
	Timeout time.Duration
}

// Fetch puts a path, and all that it refers to and s does not have yet, into the
// store s, from a substituter. Nothing is built. Each of these paths bears a
// signature of one of the trusted-public-keys that Nix is configured with, or is
// named by its own contents; Nix holds the bytes to what was signed. It fails
// with [ErrNotFetched] where that cannot be had, and with [ErrConfinement].
//
// Unlike all else that is done with a scratch store it follows the machine's
// nix.conf and reaches the network. No other store is written to.
func (n *Nix) Fetch(ctx context.Context, s Scratch, r FetchRequest) error {
	args := []string{
		"--realise", "--store", s.url(),
		"--option", "substitute", "true",
		"--option", "require-sigs", "true",
		"--option", "fallback", "false",
		"--option", "builders", "",
		"--option", "max-jobs", "0",
		"--option", "gc-reserved-space", "0",
		"--option", "fsync-metadata", "false",
	}
	if len(r.From) > 0 {
		args = append(args, "--option", "substituters", strings.Join(r.From, " "))
	}
	if err := n.fetch(ctx, s, "nix-store", append(args, "--", string(r.Path)), r.Timeout); err != nil {
		return fmt.Errorf("fetch %s: %w", r.Path, err)
	}
	return nil
}

// CheckSignatures fails with [ErrNotFetched] unless each of these paths, which
// are valid in s, bears a signature of one of the trusted-public-keys that Nix is
// configured with, or is named by its own contents. Nix checks that of what it
// fetches, too, but not for a substituter that it is told to trust.
func (n *Nix) CheckSignatures(ctx context.Context, s Scratch, paths []closure.StorePath) error {
	if len(paths) == 0 {
		return nil // nix would check all there are
	}
	args := []string{
		"store", "verify", "--store", s.url(), "--no-contents", "--sigs-needed", "1",
		"--option", "extra-experimental-features", "nix-command", "--",
	}
	// Many paths do not fit into one command line.
	const atOnce = 1000
	for some := range slices.Chunk(paths, atOnce) {
		argv := slices.Clone(args)
		for _, p := range some {
			argv = append(argv, string(p))
		}
		if err := n.fetch(ctx, s, "nix", argv, n.config.Timeout); err != nil {
			return fmt.Errorf("signatures: %w", err)
		}
	}
	return nil
}

// fetch runs a program that may reach the network.
func (n *Nix) fetch(ctx context.Context, s Scratch, program string, args []string, timeout time.Duration) error {
	_, err := n.run(ctx, command{
		program: program, args: args, temp: s.Temp, timeout: timeout,
		confined: &confinement{Binds: s.Binds, network: true},
	})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Signal != "" {
		return err
	}
	if err := confinementError(err); errors.Is(err, ErrConfinement) {
		return err
	}
	return fmt.Errorf("%w: %s", ErrNotFetched, fetchMessage(exit))
}

// fetchMessage says why something was not fetched: what Nix says of substituters
// are warnings, and its error is that it gave up.
func fetchMessage(exit *ExitError) string {
	var why []string
	for line := range strings.Lines(exit.Stderr) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{"warning: ", "error: "} {
			text, ok := strings.CutPrefix(line, prefix)
			if ok && !slices.Contains(why, text) && !strings.HasPrefix(text, "you don't have Internet access") {
				why = append(why, text)
			}
		}
		if strings.HasPrefix(line, "path '") && strings.HasSuffix(line, "' is untrusted") && !slices.Contains(why, line) {
			why = append(why, line)
		}
	}
	if len(why) == 0 {
		return exit.Error()
	}
	return clip(strings.Join(why, "; "))
}
