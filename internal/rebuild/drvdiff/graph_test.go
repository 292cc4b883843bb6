package drvdiff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nix-community/go-nix/pkg/derivation"
	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/nix-community/go-nix/pkg/nixhash"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// builder makes a store with derivations in a temporary directory.
type builder struct {
	t    *testing.T
	root string
}

func newBuilder(t *testing.T) *builder {
	t.Helper()
	b := &builder{t: t, root: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(b.root, "nix/store"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *builder) store() *nixstore.Store {
	b.t.Helper()
	s, err := nixstore.OpenStore(b.root, closure.DefaultStoreDir)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { s.Close() })
	return s
}

func (b *builder) graph(root closure.StorePath) nixstore.Graph {
	b.t.Helper()
	g, err := nixstore.ReadDerivations(context.Background(), b.store(), root)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

// fakePath returns a store path that depends on all arguments.
func fakePath(name string, of ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(append(of, name)...)))
	return "/nix/store/" + nixbase32.EncodeToString(sum[:20]) + "-" + name
}

func source(name, content string) string { return fakePath(name, "source", content) }

// made is a derivation that a builder made.
type made struct{ drv, out string }

// make writes a derivation that is built from inputs and sources and has their
// paths in its environment.
func (b *builder) make(name string, env map[string]string, inputs []made, sources ...string) made {
	b.t.Helper()
	d := &derivation.Derivation{
		Outputs: map[string]*derivation.Output{}, InputDerivations: map[string][]string{}, InputSources: sources,
		Platform: "x86_64-linux", Builder: "/bin/sh", Arguments: []string{"-c", "build"}, Env: map[string]string{"name": name},
	}
	for key, value := range env {
		d.Env[key] = value
	}
	for i, in := range inputs {
		d.InputDerivations[in.drv] = []string{"out"}
		d.Env[fmt.Sprintf("input%d", i)] = in.out + "/lib"
	}
	for i, s := range sources {
		d.Env[fmt.Sprintf("source%d", i)] = s
	}
	out := fakePath(name, d.Env, d.InputDerivations)
	d.Outputs["out"] = &derivation.Output{Path: out}
	d.Env["out"] = out
	var text bytes.Buffer
	if err := d.WriteDerivation(&text); err != nil {
		b.t.Fatal(err)
	}
	drv := drvPath(name, text.Bytes(), d)
	if err := os.WriteFile(filepath.Join(b.root, drv), text.Bytes(), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return made{drv, out}
}

// drvPath is the hash that a derivation's path is. (go-nix has one too, but not
// for structured attributes.)
func drvPath(name string, text []byte, d *derivation.Derivation) string {
	refs := slices.Concat(d.InputSources, slices.Collect(maps.Keys(d.InputDerivations)))
	slices.Sort(refs)
	kind := strings.Join(append([]string{"text"}, slices.Compact(refs)...), ":")
	sum := sha256.Sum256(fmt.Appendf(nil, "%s:sha256:%x:/nix/store:%s.drv", kind, sha256.Sum256(text), name))
	return "/nix/store/" + nixbase32.EncodeToString(nixhash.CompressHash(sum[:], 20)) + "-" + name + ".drv"
}

// generate makes a graph of n derivations, each built from up to three before
// it, so that the first ones are deep in it. Alter may change the attributes of
// each.
func (b *builder) generate(n int, alter func(i int, env map[string]string)) closure.StorePath {
	b.t.Helper()
	all := make([]made, 0, n)
	for i := range n {
		env := map[string]string{"version": "1.0", "flags": fmt.Sprintf("--number=%d", i), "script": script}
		if alter != nil {
			alter(i, env)
		}
		var inputs []made
		for _, j := range []int{i - 1, i / 2, i / 3} {
			if j >= 0 && j < i {
				inputs = append(inputs, all[j])
			}
		}
		all = append(all, b.make(fmt.Sprintf("package-%04d-1.0", i), env, inputs))
	}
	return closure.StorePath(all[n-1].drv)
}

// script makes derivations about as large as real ones.
var script = string(bytes.Repeat([]byte("install -m 755 $src/program $out/bin/program\n"), 60))
