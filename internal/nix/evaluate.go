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

// builtin evaluates a flake by Nix's own means, as nixos-rebuild does.
const builtin = `
{ flake, configuration }:
let
  toplevel = (builtins.getFlake flake).nixosConfigurations.${configuration}.config.system.build.toplevel;
in
{
  # An attribute outPath would make Nix print this set as that string alone.
  derivation = builtins.unsafeDiscardStringContext toplevel.drvPath;
  output = builtins.unsafeDiscardStringContext toplevel.outPath;
  inherit (toplevel) system;
}
`

// EvalSource is a source that an evaluation may read: a file tree that refers to
// no store path, which the caller has hashed.
type EvalSource struct {
	// Store is the directory that contains it, and Name its name there.
	Store *os.File
	Name  string
	// NarHash and NarSize are what the caller found. They decide which store
	// path it is for Nix, whatever its name.
	NarHash nar.Hash
	NarSize int64
}

// EvalRequest says what to evaluate.
type EvalRequest struct {
	StoreDir closure.StoreDir
	// Flake is the flake's source, and Dir the directory of flake.nix in it, ""
	// for its root.
	Flake EvalSource
	Dir   string
	// Inputs are the sources of its locked inputs. An input that is not among
	// them cannot be used.
	Inputs []EvalSource
	// Configuration is the name in nixosConfigurations.
	Configuration string
	// Used, if set, is called every second with the processor time so far, by a
	// goroutine of its own.
	Used func(time.Duration)
}

// Evaluation is what a configuration evaluates to.
type Evaluation struct {
	DrvPath, OutPath closure.StorePath
	// System is the platform in Nix's form, e.g. "aarch64-linux".
	System string
}

// Evaluate evaluates a configuration of a flake in a sandbox, with the sources
// of the request and with nothing else. Nothing is copied, built, fetched or
// written. An input that is needed and is not in the request is an
// [*EvaluationError], as is a configuration that must build something to be
// evaluated.
func (n *Nix) Evaluate(ctx context.Context, r EvalRequest) (Evaluation, error) {
	return n.evaluateSandboxed(ctx, r, nil)
}

// InstantiateIn is [Nix.Evaluate], but writes the derivations, and the sources
// that they are made of, into the empty store s. It takes root.
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
		// Most of the time that Nix needs to write derivations is not needed to
		// tell their names.
		e, err := evaluate("--readonly-mode")
		var failed *EvaluationError
		if !errors.As(err, &failed) || !failed.readsOwn() {
			return e, err
		}
	}
	return evaluate("--read-write-mode")
}

// Instantiate evaluates where a release is made, by Nix's own means: it writes
// the derivations into the store, and fetches inputs that the lock file names
// and the store lacks.
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
		// Nix would take the source for what it happens to be.
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

// ref names the source as a flake, such that nothing else can be evaluated in
// its place.
func (s Source) ref() string {
	ref := "path:" + string(s.Path) + "?narHash=" + url.QueryEscape(s.NarHash.String())
	if s.Dir != "" {
		ref += "&dir=" + url.QueryEscape(s.Dir)
	}
	return ref
}

// evalSettings are what both evaluations have in common, so that they have the
// same result.
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

// evaluation reads what an evaluation printed, or turns its failure into an
// [*EvaluationError] where the source is at fault.
func evaluation(dir closure.StoreDir, configuration string, version Version, out []byte, err error) (Evaluation, error) {
	var exit *ExitError
	if errors.As(err, &exit) {
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

// ErrFloating is wrapped where a system's place in the store is not known before
// it is built, so that there is nothing that a rebuild could be compared with,
// and no release can be made.
var ErrFloating = errors.New("where its output lies is not known beforehand, since it or something it is built from is content-addressed (__contentAddressed); take that out of the configuration")

// placeholder is what Nix writes in the place of such a path.
var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[0-9a-z]{52}$`) })

var systemPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9_]{1,32}-[a-z0-9_]{1,32}$`) })

// decodeEvaluation reads the value of either expression.
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
