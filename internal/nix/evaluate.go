package nix

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// expression is the one thing that is evaluated. Its result must not have an
// attribute outPath: Nix prints such a set as that string alone.
const expression = `
{ flake, configuration }:
let
  toplevel = (builtins.getFlake flake).nixosConfigurations.${configuration}.config.system.build.toplevel;
in
{
  derivation = builtins.unsafeDiscardStringContext toplevel.drvPath;
  output = builtins.unsafeDiscardStringContext toplevel.outPath;
  inherit (toplevel) system;
}
`

// EvalRequest says what Evaluate evaluates.
type EvalRequest struct {
	// Root is where the file tree of the machine under examination lies; "" is
	// the same as "/", this machine.
	Root string
	// Source is the flake's source in that machine's store, and NarHash what it
	// must be; Nix refuses another.
	Source  closure.StorePath
	NarHash nar.Hash
	// Configuration is the name in nixosConfigurations.
	Configuration string
}

// Evaluation is what a configuration evaluates to.
type Evaluation struct {
	DrvPath, OutPath closure.StorePath
	// System is the platform in Nix's form, e.g. "aarch64-linux".
	System string
}

// Evaluate evaluates a configuration of a flake that lies in the store, with
// what lies in the store and with nothing else: an input that the lock file
// does not hold, or whose source is not in the store, is an
// [*EvaluationError], as is a configuration that must build something to be
// evaluated. Nothing is built or fetched, and no derivation is written.
//
// This machine's store is read through the Nix daemon where there is one. All
// other stores are read directly; Nix then looks at the database without its
// write-ahead log.
func (n *Nix) Evaluate(ctx context.Context, r EvalRequest) (Evaluation, error) {
	src := Source{Path: r.Source, NarHash: r.NarHash}
	args := append([]string{
		"--readonly-mode",
		"--store", evalStore(ctx, r.Root),
		"--option", "experimental-features", "nix-command flakes read-only-local-store",
		"--option", "substitute", "false",
		"--option", "substituters", "",
		"--option", "builders", "",
		"--option", "connect-timeout", "1",
		"--option", "download-attempts", "1",
	}, evalArgs(src, r.Configuration)...)
	return n.evaluate(ctx, src, r.Configuration, command{program: "nix-instantiate", args: args, isolated: true, timeout: n.config.Timeout})
}

// Instantiate is [Nix.Evaluate] for where a release is made: it writes the
// derivations into the store, and fetches inputs that the lock file holds and
// the store does not.
func (n *Nix) Instantiate(ctx context.Context, src Source, configuration string) (Evaluation, error) {
	args := append([]string{
		"--read-write-mode",
		"--option", "extra-experimental-features", "nix-command flakes",
	}, evalArgs(src, configuration)...)
	return n.evaluate(ctx, src, configuration, command{program: "nix-instantiate", args: args, timeout: n.config.Timeout})
}

// evalArgs are what both evaluations have in common, so that they have the same
// result.
func evalArgs(src Source, configuration string) []string {
	return []string{
		"--eval", "--json", "--strict",
		"--option", "pure-eval", "true",
		"--option", "allow-import-from-derivation", "false",
		"--option", "accept-flake-config", "false",
		"--option", "flake-registry", "",
		"--option", "use-registries", "false",
		"--argstr", "flake", "path:" + string(src.Path) + "?narHash=" + url.QueryEscape(src.NarHash.String()),
		"--argstr", "configuration", configuration,
		"--expr", expression,
	}
}

const (
	// daemonSocket is where Nix's daemon listens.
	daemonSocket  = "/nix/var/nix/daemon-socket/socket"
	daemonTimeout = 5 * time.Second
)

// evalStore returns the store to evaluate with, such that nothing is written.
// As root Nix would open this machine's store for writing if not told
// otherwise.
func evalStore(ctx context.Context, root string) string {
	if root == "" || filepath.Clean(root) == "/" {
		// A socket may outlive its daemon, so that it is there says nothing.
		dialer := net.Dialer{Timeout: daemonTimeout}
		if conn, err := dialer.DialContext(ctx, "unix", daemonSocket); err == nil {
			conn.Close()
			return "daemon"
		}
		return "local?read-only=true"
	}
	return "local?read-only=true&root=" + url.QueryEscape(filepath.Clean(root))
}

func (n *Nix) evaluate(ctx context.Context, src Source, configuration string, c command) (Evaluation, error) {
	if err := closure.CheckConfiguration(configuration); err != nil {
		return Evaluation{}, err
	}
	if _, err := closure.ParseStorePath(string(src.Path)); err != nil {
		return Evaluation{}, err
	}
	if src.NarHash.IsZero() {
		// Nix would take the source for what it happens to be.
		return Evaluation{}, fmt.Errorf("evaluate configuration %q: no NAR hash of %s is given", configuration, src.Path)
	}
	dir := src.Path.Dir()
	version, err := n.Version(ctx)
	if err != nil {
		return Evaluation{}, err
	}
	out, err := n.run(ctx, c)
	if err != nil {
		var exit *ExitError
		if errors.As(err, &exit) {
			if m := lastError(exit.Stderr); m != "" && exit.Signal == "" {
				return Evaluation{}, &EvaluationError{Configuration: configuration, Message: m, Exit: exit}
			}
		}
		return Evaluation{}, fmt.Errorf("evaluate configuration %q: %w", configuration, err)
	}
	e, err := decodeEvaluation(dir, out)
	if err != nil {
		return Evaluation{}, fmt.Errorf("evaluate configuration %q: output of %s: %w", configuration, version, err)
	}
	return e, nil
}

// ErrFloating is wrapped where a system's place in the store is not known before
// it is built, so that there is nothing that a rebuild could be compared with,
// and no release can be made.
var ErrFloating = errors.New("where its output lies is not known beforehand, since it or something it is built from is content-addressed (__contentAddressed); take that out of the configuration")

// placeholder is what Nix writes in the place of such a path.
var placeholder = regexp.MustCompile(`^/[0-9a-z]{52}$`)

var systemPattern = regexp.MustCompile(`^[a-z0-9_]{1,32}-[a-z0-9_]{1,32}$`)

// decodeEvaluation reads the value of expression.
func decodeEvaluation(dir closure.StoreDir, out []byte) (Evaluation, error) {
	var v struct {
		Derivation string `json:"derivation"`
		Output     string `json:"output"`
		System     string `json:"system"`
	}
	if err := json.Unmarshal(out, &v, json.RejectUnknownMembers(true)); err != nil {
		return Evaluation{}, fmt.Errorf("not as expected: %q", clip(printable(string(out))))
	}
	e := Evaluation{System: v.System}
	var err error
	if e.DrvPath, err = dir.Parse(v.Derivation); err != nil {
		return Evaluation{}, err
	}
	if !e.DrvPath.IsDerivation() {
		return Evaluation{}, fmt.Errorf("%s is not a derivation", e.DrvPath)
	}
	if placeholder.MatchString(v.Output) {
		return Evaluation{}, fmt.Errorf("%s: %w", e.DrvPath, ErrFloating)
	}
	if e.OutPath, err = dir.Parse(v.Output); err != nil {
		return Evaluation{}, err
	}
	if !systemPattern.MatchString(v.System) {
		return Evaluation{}, fmt.Errorf("%q is not a system", clip(v.System))
	}
	return e, nil
}
