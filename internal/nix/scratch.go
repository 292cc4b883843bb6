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

// Scratch is a store with a database of its own beneath a directory, a chroot
// store in Nix's words. Paths in it are named as in any store, DIR/nix/store
// being where /nix/store is. Nothing in it outlives its use, so that Nix is not
// asked to bring it to the disk.
type Scratch struct {
	// Dir is the absolute path of the directory.
	Dir string
	// Temp is an existing directory for what is needed during a run only, such
	// as the directories that builds take place in with some versions of Nix.
	Temp string
	// Binds are seen beneath Dir by the runs of this store. Each needs something
	// of its kind in its place.
	Binds []Bind
}

// url names the store to Nix, which takes a plus sign for itself.
func (s Scratch) url() string {
	return "local?root=" + strings.ReplaceAll(url.QueryEscape(s.Dir), "+", "%20")
}

// open gives the directories of s to the user of a sandbox, and returns the one
// that has both the store and Nix's state.
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

// scratchArgs are the settings of all runs in a scratch store: nothing is
// fetched, nothing is built elsewhere, and everything that is built is built in
// the sandbox.
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

// Register makes paths that lie in s, or are bound into it, known to its
// database as infos have them. They are not looked at: whoever calls has hashed
// them. What one of them refers to is in infos or registered already.
func (n *Nix) Register(ctx context.Context, s Scratch, infos []closure.PathInfo) error {
	c := s.command("nix-store", append([]string{"--load-db", "--store", s.url()}, scratchArgs()...)...)
	c.stdin = strings.NewReader(registration(infos))
	c.timeout = n.config.Timeout
	if _, err := n.run(ctx, c); err != nil {
		return fmt.Errorf("register %d paths in %s: %w", len(infos), s.Dir, confinementError(err))
	}
	return nil
}

// BuildIn builds all outputs of drv in the store s, with what is valid there
// and nothing else, in the sandbox, without a network and at idle priority. The
// derivation and all that it is built from by name are read from the store
// derivations. It fails with a [*BuildError] where Nix could not build, with
// [ErrConfinement] where it cannot be done here at all, and with
// [ErrNothingBuilt] where nix says that it succeeded and did not build.
//
// Ending ctx, or this process, ends the builder at once.
func (n *Nix) BuildIn(ctx context.Context, s, derivations Scratch, drv closure.StorePath, p *Progress) error {
	if !drv.IsDerivation() {
		return fmt.Errorf("build %s: not a derivation", drv)
	}
	log := newBuildLog(p)
	built := false
	args := slices.Concat(
		[]string{"build", "--json", "--log-format", "internal-json", "--no-link", "--store", s.url(), "--eval-store", derivations.url()},
		scratchArgs(), []string{"--", string(drv) + "^*"})
	c := s.command("nix", args...)
	c.confined.Binds = slices.Concat(s.Binds, derivations.Binds)
	c.timeout = n.config.BuildTimeout
	c.line = func(line string) (string, bool) {
		built = built || startsBuild(line, drv)
		return log.line(line)
	}
	out, err := n.run(ctx, c)
	if err != nil {
		var exit *ExitError
		if errors.As(err, &exit) && exit.Signal == "" {
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

// ErrNothingBuilt is wrapped where nix ended successfully without having built
// what it was to build.
var ErrNothingBuilt = errors.New("nix reports success and built nothing")

// startsBuild reports whether a line of the JSON log says that the builder of
// drv is run.
func startsBuild(line string, drv closure.StorePath) bool {
	text, ok := strings.CutPrefix(line, "@nix ")
	if !ok || !strings.Contains(text, string(drv)) {
		return false
	}
	var e logEvent
	return json.Unmarshal([]byte(text), &e) == nil && e.Action == "start" && e.Type == activityBuild && e.text(0) == string(drv)
}

// confinementError turns the failure of the process that was to become nix into
// an [ErrConfinement].
func confinementError(err error) error {
	var exit *ExitError
	if errors.As(err, &exit) {
		if _, what, ok := strings.Cut(lastError(exit.Stderr), confinementFailed+": "); ok {
			return fmt.Errorf("%w: %s", ErrConfinement, what)
		}
	}
	return err
}
