package nix

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// toplevel is the one expression that is evaluated in a sandbox. It has the same
// value as builtin, for a flake whose lock file is complete.
//
//go:embed toplevel.nix
var toplevel string

// builtin evaluates a flake with Nix's own code, like nixos-rebuild.
const builtin = `
{ flake, configuration }:
let
  all = (builtins.getFlake flake).nixosConfigurations;
  known = builtins.concatStringsSep ", " (builtins.attrNames all);
  toplevel = (all.${configuration} or (throw "the flake has no nixosConfigurations.${configuration}; it has: ${known}")).config.system.build.toplevel;
in
{
  # An attribute outPath would make Nix print this set as that string alone.
  derivation = builtins.unsafeDiscardStringContext toplevel.drvPath;
  output = builtins.unsafeDiscardStringContext toplevel.outPath;
  inherit (toplevel) system;
}
`

// EvalSource is a source that an evaluation may read: a file tree without references,
// which the caller has hashed.
type EvalSource struct {
	// Store is the directory that contains it, and Name its name there.
	Store *os.File
	Name  string
	// NarHash and NarSize are the caller's results. They determine its store path for
	// Nix, whatever its name.
	NarHash nar.Hash
	NarSize int64
}

// EvalRequest specifies an evaluation.
type EvalRequest struct {
	StoreDir closure.StoreDir
	// Flake is the flake's source, and Dir the directory of flake.nix in it, ""
	// for its root.
	Flake EvalSource
	Dir   string
	// Inputs are the sources of its locked inputs. Other inputs are unavailable.
	Inputs []EvalSource
	// Configuration is the name in nixosConfigurations.
	Configuration string
	// Used, if set, is called every second with the processor time so far, in a
	// separate goroutine.
	Used func(time.Duration)
}

// Evaluation is the result of evaluating a configuration.
type Evaluation struct {
	DrvPath, OutPath closure.StorePath
	// System is the platform in Nix's form, e.g. "aarch64-linux".
	System string
}

// Evaluate evaluates a configuration of a flake in a sandbox with only the sources of
// the request. Nothing is copied, built, fetched or written. A missing input is an
// [*EvaluationError], and so is a configuration that must build something to be
// evaluated.
func (n *Nix) Evaluate(ctx context.Context, r EvalRequest) (Evaluation, error) {
	return n.evaluateSandboxed(ctx, r, nil)
}

// InstantiateIn is [Nix.Evaluate], but writes the derivations and their sources to
// the empty store s. It requires root.
func (n *Nix) InstantiateIn(ctx context.Context, s Scratch, r EvalRequest) (Evaluation, error) {
	return n.evaluateSandboxed(ctx, r, &s)
}

func (n *Nix) evaluateSandboxed(ctx context.Context, r EvalRequest, scratch *Scratch) (Evaluation, error) {
	if err := closure.CheckConfiguration(r.Configuration); err != nil {
		return Evaluation{}, err
	}
	if r.Dir != "" {
		if err := closure.CheckSourceDir(r.Dir); err != nil {
			return Evaluation{}, err
		}
	}
	version, err := n.Version(ctx)
	if err != nil {
		return Evaluation{}, err
	}
	s := sandbox{limits: n.config.Limits, used: r.Used}
	s.spec.StoreDir = string(r.StoreDir)
	if s.spec.Program, err = n.findProgram(ctx); err != nil {
		return Evaluation{}, err
	}
	var infos []closure.PathInfo
	var hashes []string
	for _, src := range append([]EvalSource{r.Flake}, r.Inputs...) {
		if src.NarHash.IsZero() {
			return Evaluation{}, fmt.Errorf("evaluate configuration %q: the NAR hash of %s is not given", r.Configuration, src.Name)
		}
		p := r.StoreDir.SourcePath(src.NarHash, "source")
		if slices.ContainsFunc(infos, func(i closure.PathInfo) bool { return i.Path == p }) {
			continue
		}
		infos = append(infos, closure.PathInfo{Path: p, NarHash: src.NarHash, NarSize: src.NarSize})
		hashes = append(hashes, src.NarHash.String())
		s.origins = append(s.origins, sandboxOrigin{src, p})
	}
	available, err := json.Marshal(hashes)
	if err != nil {
		return Evaluation{}, err
	}
	if scratch != nil {
		if s.scratch, err = scratch.open(r.StoreDir); err != nil {
			return Evaluation{}, err
		}
	}
	evaluate := func(mode string) (Evaluation, error) {
		s.spec.Steps = []sandboxStep{
			{Args: append([]string{"nix-store", "--load-db", "--store", "local"}, scratchArgs()...), Stdin: registration(infos), Quiet: true},
			{Args: slices.Concat([]string{"nix-instantiate", mode, "--store", "local"}, scratchArgs(), evalSettings(), []string{
				"--argstr", "narHash", r.Flake.NarHash.String(),
				"--argstr", "dir", r.Dir,
				"--argstr", "configuration", r.Configuration,
				"--argstr", "available", string(available),
				"--expr", toplevel,
			})},
		}
		out, err := n.runSandbox(ctx, s)
		return evaluation(r.StoreDir, r.Configuration, version, out, err)
	}
	if scratch == nil {
		// Nix needs most of the time to write derivations, which is not necessary to
		// compute their names.
		e, err := evaluate("--readonly-mode")
		var failed *EvaluationError
		if !errors.As(err, &failed) || !failed.readsOwn() {
			return e, err
		}
	}
	return evaluate("--read-write-mode")
}

// Instantiate evaluates where a release is made, with Nix's own code: it writes the
// derivations to the store, and fetches locked inputs that the store lacks.
func (n *Nix) Instantiate(ctx context.Context, src Source, configuration string) (Evaluation, error) {
	if err := closure.CheckConfiguration(configuration); err != nil {
		return Evaluation{}, err
	}
	if _, err := closure.ParseStorePath(string(src.Path)); err != nil {
		return Evaluation{}, err
	}
	if src.Dir != "" {
		if err := closure.CheckSourceDir(src.Dir); err != nil {
			return Evaluation{}, err
		}
	}
	if src.NarHash.IsZero() {
		// Without the hash, Nix would accept any contents of the source.
		return Evaluation{}, fmt.Errorf("evaluate configuration %q: the NAR hash of %s is not given", configuration, src.Path)
	}
	version, err := n.Version(ctx)
	if err != nil {
		return Evaluation{}, err
	}
	args := slices.Concat([]string{
		"--read-write-mode",
		"--option", "extra-experimental-features", "nix-command flakes",
	}, evalSettings(), []string{
		"--argstr", "flake", src.ref(),
		"--argstr", "configuration", configuration,
		"--expr", builtin,
	})
	out, err := n.run(ctx, command{program: "nix-instantiate", args: args, timeout: n.config.Timeout})
	return evaluation(src.Path.Dir(), configuration, version, out, err)
}

// ref is a flake reference to the source that can't match anything else.
func (s Source) ref() string {
	ref := "path:" + string(s.Path) + "?narHash=" + url.QueryEscape(s.NarHash.String())
	if s.Dir != "" {
		ref += "&dir=" + url.QueryEscape(s.Dir)
	}
	return ref
}

// evalSettings are common to both evaluations, so that they have the same result.
func evalSettings() []string {
	return []string{
		"--eval", "--json", "--strict",
		"--option", "pure-eval", "true",
		"--option", "allow-import-from-derivation", "false",
		"--option", "accept-flake-config", "false",
		"--option", "flake-registry", "",
		"--option", "use-registries", "false",
	}
}

// evaluation decodes the output of an evaluation, or returns an [*EvaluationError] if
// the source is at fault.
func evaluation(dir closure.StoreDir, configuration string, version Version, out []byte, err error) (Evaluation, error) {
	if exit, ok := errors.AsType[*ExitError](err); ok {
		if m := lastError(exit.Stderr); m != "" && exit.Signal == "" {
			return Evaluation{}, &EvaluationError{Configuration: configuration, Message: m, Exit: exit}
		}
	}
	if err != nil {
		return Evaluation{}, fmt.Errorf("evaluate configuration %q: %w", configuration, err)
	}
	e, err := decodeEvaluation(dir, out)
	if err != nil {
		return Evaluation{}, fmt.Errorf("evaluate configuration %q: output of %s: %w", configuration, version, err)
	}
	return e, nil
}

// ErrFloating is wrapped if a system's store path is unknown before it is built, so
// that a rebuild could not be compared with anything and no release can be made.
var ErrFloating = errors.New("its output path is not known before the build, since it or one of its inputs is content-addressed (__contentAddressed); remove that from the configuration")

// placeholder matches what Nix writes instead of such a path.
var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[0-9a-z]{52}$`) })

var systemPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9_]{1,32}-[a-z0-9_]{1,32}$`) })

// decodeEvaluation decodes the value of either expression.
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
	if placeholder().MatchString(v.Output) {
		return Evaluation{}, fmt.Errorf("%s: %w", e.DrvPath, ErrFloating)
	}
	if e.OutPath, err = dir.Parse(v.Output); err != nil {
		return Evaluation{}, err
	}
	if !systemPattern().MatchString(v.System) {
		return Evaluation{}, fmt.Errorf("%q is not a system", clip(v.System))
	}
	return e, nil
}
