package nix

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/closure"
)

// Scratch is a store with its own database beneath a directory, which Nix calls a
// chroot store. Its paths have the usual names; DIR/nix/store stands in for
// /nix/store. Its contents are temporary, so Nix is not asked to sync them to disk.
type Scratch struct {
	// Dir is the absolute path of the directory.
	Dir string
	// Temp is an existing directory for temporary files of a run, such as the build
	// directories of some versions of Nix.
	Temp string
	// Binds are visible beneath Dir in the runs of this store. Each needs an existing
	// file or directory in its place.
	Binds []Bind
}

// url is Nix's URL of the store, with the plus sign escaped.
func (s Scratch) url() string {
	return "local?root=" + strings.ReplaceAll(url.QueryEscape(s.Dir), "+", "%20")
}

// open gives the user of a sandbox access to the directories of s, and returns the
// directory with the store and Nix's state.
func (s Scratch) open(dir closure.StoreDir) (string, error) {
	parent := filepath.Join(s.Dir, filepath.Dir(string(dir)))
	store := filepath.Join(s.Dir, string(dir))
	if err := os.MkdirAll(store, 0o755); err != nil {
		return "", err
	}
	for _, d := range []string{parent, store} {
		if err := os.Lchown(d, nobody, nobody); err != nil {
			return "", err
		}
	}
	return parent, nil
}

// scratchArgs are the settings of all runs in a scratch store: nothing is fetched,
// nothing is built elsewhere, and everything is built in Nix's sandbox.
func scratchArgs() []string {
	return []string{
		"--option", "experimental-features", "nix-command flakes",
		"--option", "substitute", "false",
		"--option", "substituters", "",
		"--option", "builders", "",
		"--option", "sandbox", "true",
		"--option", "sandbox-fallback", "false",
		"--option", "max-jobs", "1",
		"--option", "keep-build-log", "false",
		"--option", "gc-reserved-space", "0",
		"--option", "fsync-metadata", "false",
	}
}

// command returns a run of program in s.
func (s Scratch) command(program string, args ...string) command {
	return command{program: program, args: args, isolated: true, temp: s.Temp, confined: &confinement{Binds: s.Binds}}
}

// Register adds paths that are in s, or bound into it, to its database with the data
// in infos. It does not check them: the caller has hashed them. Their references are
// in infos or registered already.
func (n *Nix) Register(ctx context.Context, s Scratch, infos []closure.PathInfo) error {
	c := s.command("nix-store", append([]string{"--load-db", "--store", s.url()}, scratchArgs()...)...)
	c.stdin = strings.NewReader(registration(infos))
	c.timeout = n.config.Timeout
	if _, err := n.run(ctx, c); err != nil {
		return fmt.Errorf("register %d paths in %s: %w", len(infos), s.Dir, confinementError(err))
	}
	return nil
}

// BuildIn builds all outputs of drv in the store s, with only the valid paths there,
// in Nix's sandbox, without a network and at idle priority. The derivation and its
// inputs by name are read from the store derivations. It fails with a [*BuildError]
// if Nix could not build, with [ErrConfinement] if builds are impossible here, and
// with [ErrNothingBuilt] if nix reports success without having built.
//
// Ending ctx, or this process, ends the builder at once.
func (n *Nix) BuildIn(ctx context.Context, s, derivations Scratch, drv closure.StorePath) error {
	if !drv.IsDerivation() {
		return fmt.Errorf("build %s: not a derivation", drv)
	}
	log := newBuildLog(nil)
	built := false
	args := slices.Concat(
		[]string{"build", "--json", "--log-format", "internal-json", "--no-link", "--store", s.url(), "--eval-store", derivations.url()},
		scratchArgs(), []string{"--", string(drv) + "^*"})
	c := s.command("nix", args...)
	c.confined.Binds = slices.Concat(s.Binds, derivations.Binds)
	c.line = func(line string) (string, bool) {
		built = built || startsBuild(line, drv)
		return log.line(line)
	}
	out, err := n.run(ctx, c)
	if err != nil {
		if exit, ok := errors.AsType[*ExitError](err); ok && exit.Signal == "" {
			if err := confinementError(err); errors.Is(err, ErrConfinement) {
				return err
			}
			if m := firstError(exit.Stderr); m != "" {
				return &BuildError{Derivation: drv, Message: m, Log: log.log.String(), Exit: exit}
			}
		}
		return fmt.Errorf("build %s: %w", drv, err)
	}
	if _, err := decodeBuild(drv, out); err != nil {
		return fmt.Errorf("build %s: %w", drv, err)
	}
	if !built {
		return fmt.Errorf("build %s: %w", drv, ErrNothingBuilt)
	}
	return nil
}

// ErrNothingBuilt is wrapped if nix ended successfully without having built the
// derivation.
var ErrNothingBuilt = errors.New("nix reports success and built nothing")

// startsBuild reports whether a line of the JSON log means that the builder of drv
// starts.
func startsBuild(line string, drv closure.StorePath) bool {
	text, ok := strings.CutPrefix(line, "@nix ")
	if !ok || !strings.Contains(text, string(drv)) {
		return false
	}
	var e logEvent
	return json.Unmarshal([]byte(text), &e) == nil && e.Action == "start" && e.Type == activityBuild && e.text(0) == string(drv)
}

// confinementError turns the failure of a process that was to become nix into an
// [ErrConfinement].
func confinementError(err error) error {
	if exit, ok := errors.AsType[*ExitError](err); ok {
		if _, what, ok := strings.Cut(lastError(exit.Stderr), confinementFailed+": "); ok {
			return fmt.Errorf("%w: %s", ErrConfinement, what)
		}
	}
	return err
}
