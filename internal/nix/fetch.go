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

// ErrNotFetched is wrapped if no substituter provided a path: none has it, none could
// be reached, or the contents did not match the path or a signature.
var ErrNotFetched = errors.New("not fetched")

// FetchRequest specifies a fetch.
type FetchRequest struct {
	Path closure.StorePath
	// From lists substituters; empty for those in Nix's configuration.
	From []string
	// Timeout limits the run; 0 is no limit.
	Timeout time.Duration
}

// Fetch fetches a path, and all its references that s lacks, into the store s from a
// substituter. Nothing is built. Each of these paths has a signature by one of Nix's
// configured trusted-public-keys, or is content-addressed; Nix checks the bytes
// against the signed hash. It fails with [ErrNotFetched] if that is unavailable, and
// with [ErrConfinement].
//
// Unlike other runs with a scratch store, it uses the machine's nix.conf and network.
// No other store is written to.
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

// CheckSignatures fails with [ErrNotFetched] unless each of these paths, which are
// valid in s, has a signature by one of Nix's configured trusted-public-keys, or is
// content-addressed. Nix checks that for fetched paths, too, but not for a
// substituter marked as trusted.
func (n *Nix) CheckSignatures(ctx context.Context, s Scratch, paths []closure.StorePath) error {
	if len(paths) == 0 {
		return nil // nix would check all there are
	}
	args := []string{
		"store", "verify", "--store", s.url(), "--no-contents", "--sigs-needed", "1",
		"--option", "extra-experimental-features", "nix-command", "--",
	}
	// One command line has no room for many paths.
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

// fetch runs a program with access to the network.
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

// fetchMessage returns why something was not fetched: Nix reports substituters'
// errors as warnings, and its own error only says that it gave up.
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
