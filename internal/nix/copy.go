package nix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// dumpMemory limits the memory for reading one path, in bytes: Nix loads a store's answer
// about a path, of any size, into memory. A quarter of this is enough.
const dumpMemory = 1 << 30

// foreignStore are the options for reading a store of others.
func foreignStore(url string) []string {
	return []string{
		"--store", url,
		// A path is there or not: the store fetches and builds nothing for us.
		"--option", "substitute", "false", "--option", "builders", "", "--option", "max-jobs", "0",
		// One second is Nix's own choice where it takes the machine to have no Internet.
		"--option", "connect-timeout", "60",
	}
}

// DumpRequest says what to dump.
type DumpRequest struct {
	// Store is any store that Nix can read: "file:///srv/cache",
	// "https://cache.example.org", "ssh-ng://host".
	Store string
	Path  closure.StorePath
	// Timeout bounds the run; 0 is no bound.
	Timeout time.Duration
	// Temp is an existing directory for temporary files.
	Temp string
}

// Dump writes a store's NAR of a path to w. It checks neither signature, nor size, nor
// hash; the caller must. It ends when w fails.
func (n *Nix) Dump(ctx context.Context, r DumpRequest, w io.Writer) error {
	args := append([]string{"--extra-experimental-features", "nix-command", "store", "dump-path"}, foreignStore(r.Store)...)
	_, err := n.run(ctx, command{
		program: "nix", args: append(args, "--", string(r.Path)),
		out: w, timeout: r.Timeout, temp: r.Temp, memory: dumpMemory,
	})
	if err != nil {
		return foreignError("read the path", r.Store, err) // whoever asks names it
	}
	return nil
}

// maxReason limits what is quoted of ssh's reason, in bytes.
const maxReason = 200

// foreignError returns err, which is from reading the store at url, with what failed. Nix
// says only that ssh failed; ssh itself has said why, in the line before.
func foreignError(what, url string, err error) error {
	exit := (*ExitError)(nil)
	if !strings.HasPrefix(url, "ssh-ng://") || !errors.As(err, &exit) {
		return fmt.Errorf("%s: %w", what, err)
	}
	reason := ""
	for line := range strings.Lines(exit.Stderr) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "error:") {
			break
		}
		if line != "" && !strings.HasPrefix(line, "warning:") {
			reason = ": " + excerpt.Of(line, maxReason)
		}
	}
	return fmt.Errorf("%s: %w%s", what, err, reason)
}

// Import registers paths in the machine's store. r has them in the form of nix-store
// --export. Signatures are not required, because the caller has checked the paths. If a
// path is incomplete, those before it are registered. temp is as in a [DumpRequest]; a timeout
// of 0 is no bound.
func (n *Nix) Import(ctx context.Context, r io.Reader, temp string, timeout time.Duration) error {
	_, err := n.run(ctx, command{program: "nix-store", args: []string{"--import"}, stdin: r, temp: temp, timeout: timeout})
	return err
}
