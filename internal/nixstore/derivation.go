package nixstore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixhash"

	"every.channel/ec-verify/pkg/closure"
)

// Derivation is the contents of a .drv file: how some store paths are made.
type Derivation struct {
	// Path is the store path of the .drv file, a hash of all that follows.
	Path closure.StorePath
	// Outputs are the outputs by name; there is at least one.
	Outputs map[string]Output
	// InputDerivations are, for each derivation, the names of the outputs that the build
	// uses, in ascending order.
	InputDerivations map[closure.StorePath][]string
	// InputSources are the store paths that the build uses as they are, in ascending
	// order.
	InputSources []closure.StorePath
	// System is the platform in Nix's form, e.g. "aarch64-linux".
	System  string
	Builder string
	Args    []string
	Env     map[string]string
}

// Output is one output of a derivation.
type Output struct {
	// Path is the store path of the output; empty if it is only known after the build
	// (floating content-addressed and impure derivations, and those that depend on them).
	Path closure.StorePath
	// HashAlgo and Hash, in hexadecimal, are set if the derivation states the output
	// beforehand: a fixed-output derivation. HashAlgo is an algorithm such as "sha256"
	// for the hash of a file, with the prefix "r:" for that of a NAR.
	HashAlgo, Hash string
}

// DerivationError means that a .drv file in the store does not have the contents that its
// name is the hash of, or is not a derivation. It is a finding about the machine.
type DerivationError struct {
	Path   closure.StorePath
	Reason string
}

func (e *DerivationError) Error() string {
	return fmt.Sprintf("derivation %s: %s", e.Path, e.Reason)
}

// ParseDerivation parses the contents of the .drv file at path p, of which p must be the
// hash. Malformed contents give a [*DerivationError].
func ParseDerivation(p closure.StorePath, data []byte) (*Derivation, error) {
	d, err := parseDerivation(p, data)
	if err != nil {
		return nil, &DerivationError{Path: p, Reason: clip(err.Error())}
	}
	return d, nil
}

func parseDerivation(p closure.StorePath, data []byte) (*Derivation, error) {
	if !p.IsDerivation() {
		return nil, errors.New("its name does not end in .drv")
	}
	switch {
	case bytes.HasPrefix(data, []byte(`DrvWithVersion("xp-dyn-drv"`)):
		return nil, errors.New("dynamic derivations are not supported")
	case bytes.HasPrefix(data, []byte("DrvWithVersion(")):
		return nil, errors.New("a version of derivations that is not known")
	}
	w, err := parseATerm(data)
	if err != nil {
		return nil, err
	}
	if len(w.outputs) == 0 {
		return nil, errors.New("it has no output")
	}
	dir := p.Dir()
	d := &Derivation{
		Path:             p,
		Outputs:          make(map[string]Output, len(w.outputs)),
		InputDerivations: make(map[closure.StorePath][]string, len(w.inputs)),
		System:           w.system,
		Builder:          w.builder,
		Args:             w.args,
		Env:              make(map[string]string, len(w.variables)),
	}
	for _, v := range w.variables {
		d.Env[v[0]] = v[1]
	}
	for _, input := range w.inputs {
		in, err := dir.Parse(input.path)
		if err != nil {
			return nil, err
		}
		if !in.IsDerivation() {
			return nil, fmt.Errorf("%s is listed as a derivation", in)
		}
		d.InputDerivations[in] = input.outputs
	}
	for _, source := range w.sources {
		src, err := dir.Parse(source)
		if err != nil {
			return nil, err
		}
		d.InputSources = append(d.InputSources, src)
	}
	if want := d.textPath(data); want != p {
		return nil, fmt.Errorf("its contents are those of %s", want)
	}
	for _, o := range w.outputs {
		if o.name == "" {
			return nil, errors.New("an output has no name")
		}
		out := Output{HashAlgo: o.algo, Hash: o.hash}
		if o.path != "" {
			if out.Path, err = dir.Parse(o.path); err != nil {
				return nil, err
			}
		}
		if err := out.checkFixed(strings.TrimSuffix(p.Name(), ".drv")); err != nil {
			return nil, err
		}
		d.Outputs[o.name] = out
	}
	return d, nil
}

// textPath computes the store path of d as Nix does for text files: a hash of the
// contents and the references.
func (d *Derivation) textPath(data []byte) closure.StorePath {
	refs := slices.Clone(d.InputSources)
	for in := range d.InputDerivations {
		refs = append(refs, in)
	}
	slices.Sort(refs)
	return d.Path.Dir().TextPath(data, slices.Compact(refs), d.Path.Name())
}

// checkFixed compares a fixed output's path with the one that its hash gives; name is the
// derivation's.
func (o Output) checkFixed(name string) error {
	algo := strings.TrimPrefix(o.HashAlgo, "r:")
	if o.Path == "" || o.Hash == "" || strings.Contains(algo, ":") {
		return nil // not fixed, or by a method that is an experiment of Nix's
	}
	if want := o.Path.Dir().FixedPath(o.HashAlgo, o.Hash, name); o.Path != want {
		return fmt.Errorf("its output is at %s, but its fixed hash gives %s", o.Path, want)
	}
	return nil
}

// ContentAddress returns the content address of the output in the form of the Nix
// database and nix path-info --json, "fixed:r:sha256:<base 32>"; "" if the output is not
// fixed.
func (o Output) ContentAddress() (string, error) {
	if o.Hash == "" || o.Path == "" {
		return "", nil
	}
	// The rest is a method of hashing: "r:" or, for experimental features, "git:" and
	// "text:".
	method, algo := "", o.HashAlgo
	if i := strings.LastIndexByte(algo, ':'); i >= 0 {
		method, algo = algo[:i+1], algo[i+1:]
	}
	kind, err := nixhash.ParseAlgorithm(algo)
	if err != nil {
		return "", fmt.Errorf("hash algorithm %q is not known", clip(o.HashAlgo))
	}
	raw, err := hex.DecodeString(o.Hash)
	if err != nil {
		return "", fmt.Errorf("hash %q is not in base 16", clip(o.Hash))
	}
	h, err := nixhash.NewHash(kind, raw)
	if err != nil {
		return "", fmt.Errorf("hash %q is not one of %s", clip(o.Hash), algo)
	}
	digest := h.Format(nixhash.NixBase32, true)
	switch method {
	case "", "r:", "git:":
		return "fixed:" + method + digest, nil
	case "text:":
		return "text:" + digest, nil
	}
	return "", fmt.Errorf("hash algorithm %q is not known", clip(o.HashAlgo))
}
