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
	// Revision is the commit that the source is, in hexadecimal digits; empty
	// where it is under no version control or has changes that are not
	// committed.
	Revision string
}

// FlakeSource copies the source of the flake that flakeRef names, such as
// "path:/some/dir", "git+file:///some/checkout" or a store path, into the store
// and returns where. The lock file is not updated; one that lacks an input is
// an error.
func (n *Nix) FlakeSource(ctx context.Context, flakeRef string) (Source, error) {
	version, err := n.Version(ctx)
	if err != nil {
		return Source{}, err
	}
	out, err := n.run(ctx, command{
		program: "nix",
		args: []string{
			"flake", "metadata", "--json", "--no-update-lock-file",
			"--option", "extra-experimental-features", "nix-command flakes",
			"--option", "accept-flake-config", "false",
			"--option", "flake-registry", "",
			"--option", "use-registries", "false",
			"--", flakeRef,
		},
		timeout: n.config.Timeout,
	})
	if err != nil {
		return Source{}, fmt.Errorf("read flake %q: %w", clip(flakeRef), err)
	}
	s, err := decodeMetadata(out)
	if err != nil {
		return Source{}, fmt.Errorf("read flake %q: output of %s: %w", clip(flakeRef), version, err)
	}
	return s, nil
}

// decodeMetadata reads nix flake metadata --json. Each version adds members;
// the ones read here have been the same since Nix 2.18.
func decodeMetadata(out []byte) (Source, error) {
	var v struct {
		Path   string `json:"path"`
		Locked struct {
			NarHash string `json:"narHash"`
		} `json:"locked"`
		Revision string `json:"revision"`
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return Source{}, errors.New("not the metadata of a flake")
	}
	p, err := closure.ParseStorePath(v.Path)
	if err != nil {
		return Source{}, err
	}
	hash, err := nar.ParseHash(v.Locked.NarHash)
	if err != nil {
		return Source{}, err
	}
	return Source{Path: p, NarHash: hash, Revision: v.Revision}, nil
}
