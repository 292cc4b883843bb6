package nix

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Source is the source of a flake in the store.
type Source struct {
	Path    closure.StorePath
	NarHash nar.Hash
	// Dir is the directory of flake.nix within the source, without leading and
	// trailing slashes; "" is the source itself.
	Dir string
	// Revision is the commit of the source, in hexadecimal digits; empty if it is not
	// under version control or has uncommitted changes.
	Revision string
}

// FlakeSource copies the source of the flake flakeRef, such as "path:/some/dir",
// "git+file:///some/checkout?dir=machines" or a store path, into the store and
// returns its location. The lock file is not updated; if it lacks an input, that is
// an error.
func (n *Nix) FlakeSource(ctx context.Context, flakeRef string) (Source, error) {
	version, err := n.Version(ctx)
	if err != nil {
		return Source{}, err
	}
	ask := func(words ...string) ([]byte, error) {
		out, err := n.run(ctx, command{
			program: "nix",
			args: append(words, "--json",
				"--option", "extra-experimental-features", "nix-command flakes",
				"--option", "accept-flake-config", "false",
				"--option", "flake-registry", "",
				"--option", "use-registries", "false",
				"--", flakeRef,
			),
			timeout: n.config.Timeout,
		})
		if err != nil {
			return nil, fmt.Errorf("read flake %q: %w", clip(flakeRef), err)
		}
		return out, nil
	}
	metadata, err := ask("flake", "metadata", "--no-update-lock-file")
	if err != nil {
		return Source{}, err
	}
	// Since Nix 2.35 the metadata may name a path that does not exist, or none; only
	// a fetch guarantees a copy.
	fetched, err := ask("flake", "prefetch")
	if err != nil {
		return Source{}, err
	}
	s, err := decodeSource(metadata, fetched)
	if err != nil {
		return Source{}, fmt.Errorf("read flake %q: output of %s: %w", clip(flakeRef), version, err)
	}
	return s, nil
}

// DerivationByName returns the derivation of a configuration of the flake flakeRef,
// evaluated under that name, like nixos-rebuild --flake. A machine that only has the
// source can't do that.
func (n *Nix) DerivationByName(ctx context.Context, flakeRef, configuration string) (closure.StorePath, error) {
	if err := closure.CheckConfiguration(configuration); err != nil {
		return "", err
	}
	out, err := n.run(ctx, command{
		program: "nix",
		args: []string{
			"eval", "--raw", "--no-update-lock-file",
			"--option", "extra-experimental-features", "nix-command flakes",
			"--option", "allow-import-from-derivation", "false",
			"--option", "accept-flake-config", "false",
			"--option", "flake-registry", "",
			"--option", "use-registries", "false",
			"--", flakeRef + `#nixosConfigurations."` + configuration + `".config.system.build.toplevel.drvPath`,
		},
		timeout: n.config.Timeout,
	})
	if err != nil {
		return "", fmt.Errorf("evaluate configuration %q of %q by its name: %w", configuration, clip(flakeRef), err)
	}
	drv, err := closure.ParseStorePath(string(out))
	if err != nil || !drv.IsDerivation() {
		return "", fmt.Errorf("evaluate configuration %q of %q by its name: %q is not a derivation", configuration, clip(flakeRef), clip(printable(string(out))))
	}
	return drv, nil
}

// decodeSource reads nix flake metadata --json and nix flake prefetch --json.
// Each version adds members; the ones read here have been the same since Nix
// 2.18.
func decodeSource(metadata, fetched []byte) (Source, error) {
	var m struct {
		Locked struct {
			NarHash string `json:"narHash"`
			Dir     string `json:"dir"`
		} `json:"locked"`
		Revision string `json:"revision"`
	}
	if err := json.Unmarshal(metadata, &m); err != nil {
		return Source{}, errors.New("not the metadata of a flake")
	}
	var f struct {
		StorePath string `json:"storePath"`
		Hash      string `json:"hash"`
	}
	if err := json.Unmarshal(fetched, &f); err != nil {
		return Source{}, errors.New("not the store path of a fetched flake")
	}
	p, err := closure.ParseStorePath(f.StorePath)
	if err != nil {
		return Source{}, err
	}
	hash, err := nar.ParseHash(f.Hash)
	if err != nil {
		return Source{}, err
	}
	if m.Locked.NarHash != "" && m.Locked.NarHash != f.Hash {
		return Source{}, fmt.Errorf("the source has the hash %q and then %q: it changed meanwhile", clip(m.Locked.NarHash), clip(f.Hash))
	}
	if m.Locked.Dir != "" {
		if err := closure.CheckSourceDir(m.Locked.Dir); err != nil {
			return Source{}, err
		}
	}
	return Source{Path: p, NarHash: hash, Dir: m.Locked.Dir, Revision: m.Revision}, nil
}
