package nixstore

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"every.channel/ec-verify/internal/tests/vectors"
	"every.channel/ec-verify/pkg/closure"
)

// refusals are the derivations among Nix's own that must be refused, and why.
var refusals = map[string]string{
	"bad-ca-fixed-path.drv":        "but its fixed hash gives ",
	"bad-old-version-dyn-deps.drv": "byte 67: want [",
	"bad-version.drv":              "a version of derivations that is not known",
	"dyn-dep-derivation.drv":       "dynamic derivations are not supported",
	// All their paths were given one digest, which put them out of order.
	"firefox.drv":           "inputs: ",
	"hello.drv":             "inputs: ",
	"simple-derivation.drv": "it has no output",
	"hash-modulo/intermediate-first-modulo.drv":  "not in /nix/store", // names hashes where paths belong
	"hash-modulo/intermediate-second-modulo.drv": "not in /nix/store",
	"hash-modulo/parent-joined-modulo.drv":       "not in /nix/store",
	"hash-modulo/parent-split-modulo.drv":        "not in /nix/store",
}

// TestVectors takes the derivations that Nix tests itself with. Each is read
// under the name that its contents have, so that this is not what it is refused
// for.
func TestVectors(t *testing.T) {
	dir := vectors.Dir(t, "nix/derivations")
	seen, known := 0, map[closure.StorePath]bool{}
	var read []*Derivation
	err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".drv" {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		if strings.HasPrefix(string(data), "../") {
			return nil // a link to what is not among the vectors
		}
		seen++
		d, err := parseVector(name, data)
		if want, refused := refusals[name]; refused || err != nil {
			var de *DerivationError
			if !errors.As(err, &de) || want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
			return nil
		}
		compareVector(t, d, strings.TrimSuffix(file, ".drv")+".json")
		known[d.Path] = true
		read = append(read, d)
		return nil
	})
	if err != nil || seen <= len(refusals) {
		t.Fatalf("%d derivations in %s, %v", seen, dir, err)
	}
	// Those of hash-modulo are built from each other, so that their names are
	// the ones that Nix gave them.
	linked := 0
	for _, d := range read {
		for in := range d.InputDerivations {
			if known[in] {
				linked++
			}
		}
	}
	if linked == 0 {
		t.Error("no derivation has the name by which another one calls it")
	}
}

// parseVector reads a derivation under the name that its contents have.
func parseVector(file string, data []byte) (*Derivation, error) {
	// What Nix calls those of hash-modulo is the part before the dash.
	name := strings.TrimSuffix(filepath.Base(file), ".drv")
	if filepath.Dir(file) == "hash-modulo" {
		name, _, _ = strings.Cut(name, "-")
	}
	if name == "bad-ca-fixed-path" {
		name = "fixed"
	}
	p := closure.StorePath("/nix/store/" + strings.Repeat("0", 32) + "-" + name + ".drv")
	_, err := ParseDerivation(p, data)
	if _, actual, ok := strings.Cut(err.Error(), "its contents are those of "); ok {
		return ParseDerivation(closure.StorePath(actual), data)
	}
	return nil, err
}

// compareVector compares d with Nix's own JSON of it, where there is one.
func compareVector(t *testing.T, d *Derivation, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var want struct {
		Args            []string
		Builder, System string
		Env             map[string]string
		Inputs          struct {
			Drvs map[string]struct{ Outputs []string }
			Srcs []string
		}
		Outputs map[string]struct{ Path string }
	}
	if err == nil {
		err = json.Unmarshal(data, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := want
	got.Args, got.Builder, got.System, got.Env = d.Args, d.Builder, d.System, d.Env
	got.Inputs.Drvs = map[string]struct{ Outputs []string }{}
	for in, outputs := range d.InputDerivations {
		got.Inputs.Drvs[in.Base()] = struct{ Outputs []string }{outputs}
	}
	got.Inputs.Srcs = []string{}
	for _, src := range d.InputSources {
		got.Inputs.Srcs = append(got.Inputs.Srcs, src.Base())
	}
	got.Outputs = map[string]struct{ Path string }{}
	for name, out := range d.Outputs {
		base := ""
		if out.Path != "" && out.Hash == "" { // that of a fixed one follows from its hash
			base = out.Path.Base()
		}
		got.Outputs[name] = struct{ Path string }{base}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
