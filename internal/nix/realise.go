package nix

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/closure"
)

// Realise builds all outputs of a derivation in the store, or fetches them if Nix is
// configured to, and returns them by name. As long as the link gcRoot exists, which
// Realise creates ("" for none), Nix's garbage collector keeps the first output and
// its closure; the other outputs get links of that name followed by "-" and their
// own. It fails with a [*BuildError] if Nix could not build.
func (n *Nix) Realise(ctx context.Context, drv closure.StorePath, gcRoot string, p *Progress) (map[string]closure.StorePath, error) {
	if !drv.IsDerivation() {
		return nil, fmt.Errorf("build %s: not a derivation", drv)
	}
	version, err := n.Version(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{
		"build", "--json", "--log-format", "internal-json",
		"--option", "extra-experimental-features", "nix-command",
	}
	if gcRoot == "" {
		args = append(args, "--no-link")
	} else {
		// The program runs in another working directory.
		if gcRoot, err = filepath.Abs(gcRoot); err != nil {
			return nil, err
		}
		args = append(args, "--out-link", gcRoot)
	}
	log := newBuildLog(p)
	out, err := n.run(ctx, command{
		program: "nix",
		args:    append(args, "--", string(drv)+"^*"),
		line:    log.line,
	})
	if err != nil {
		if exit, ok := errors.AsType[*ExitError](err); ok {
			if m := firstError(exit.Stderr); m != "" && exit.Signal == "" {
				return nil, &BuildError{Derivation: drv, Message: m, Log: log.log.String(), Exit: exit}
			}
		}
		return nil, fmt.Errorf("build %s: %w", drv, err)
	}
	outputs, err := decodeBuild(drv, out)
	if err != nil {
		return nil, fmt.Errorf("build %s: output of %s: %w", drv, version, err)
	}
	return outputs, nil
}

// decodeBuild decodes nix build --json: one object, to which some versions add times.
func decodeBuild(drv closure.StorePath, out []byte) (map[string]closure.StorePath, error) {
	var v []struct {
		DrvPath string            `json:"drvPath"`
		Outputs map[string]string `json:"outputs"`
	}
	if err := json.Unmarshal(out, &v); err != nil || len(v) != 1 || len(v[0].Outputs) == 0 {
		return nil, fmt.Errorf("not as expected: %q", clip(printable(string(out))))
	}
	if v[0].DrvPath != string(drv) {
		return nil, fmt.Errorf("it built %q", clip(v[0].DrvPath))
	}
	outputs := make(map[string]closure.StorePath)
	for name, s := range v[0].Outputs {
		p, err := drv.Dir().Parse(s)
		if err != nil {
			return nil, err
		}
		outputs[name] = p
	}
	return outputs, nil
}
