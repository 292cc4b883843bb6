package nixstore

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/pkg/closure"
)

const (
	top        closure.StorePath = "/nix/store/04czjz7qc66cvm6qf61y1jvrpqlv58kc-top.drv"
	lib        closure.StorePath = "/nix/store/9az4jfrsm8hbnvf1x5lr3sm4vnx4p566-lib.drv"
	old        closure.StorePath = "/nix/store/6qmhhhbm24wq4ygig7j22gb4lr68m27s-old.drv"
	structured closure.StorePath = "/nix/store/c68hd466mg1w5qlhxiaj920dxv6r30s9-structured.drv"
	// Two descriptions of one download.
	download      closure.StorePath = "/nix/store/q4hh406qpqywjas9v8jh6ccxy8sgw5n1-download.drv"
	downloadAgain closure.StorePath = "/nix/store/s4rap6v9klssc2jl19dmh2q106wkvzvx-download.drv"
	downloaded    closure.StorePath = "/nix/store/8kxyvyvinn2dki52a6gg6j8ywfsgscsb-download"
)

// derivationStore is a copy of testdata/store that a test may damage.
func derivationStore(t *testing.T) (store *Store, dir string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "nix/store")
	if err := os.CopyFS(dir, os.DirFS("testdata/store")); err != nil {
		t.Fatal(err)
	}
	store, err := OpenStore(root, closure.DefaultStoreDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, dir
}

func TestReadDerivations(t *testing.T) {
	store, _ := derivationStore(t)
	g, err := ReadDerivations(t.Context(), store, top)
	if err != nil {
		t.Fatal(err)
	}
	want := []closure.StorePath{top, old, lib, "/nix/store/hp23i8prx368w1qzph321r60p9sp641l-tree.drv", download, downloadAgain}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(g))); diff != "" {
		t.Errorf("derivations (-want +got):\n%s", diff)
	}
	const odd = "a \"quoted\" \\ word\nand a line\tand a tab"
	wantLib := &Derivation{
		Path: lib,
		Outputs: map[string]Output{
			"dev": {Path: "/nix/store/i40vxym14axvbjc6g4hy7i9raq96x2xp-lib-dev"},
			"out": {Path: "/nix/store/ah5gwbk2cgi9w0y3caz0wgpj3gbf7sh5-lib"},
		},
		InputDerivations: map[closure.StorePath][]string{},
		InputSources:     []closure.StorePath{"/nix/store/f6f5zji45487f2v9yli5lk1dmpxjsvnl-script.sh"},
		System:           "x86_64-linux",
		Builder:          "/bin/sh",
		Args:             []string{"/nix/store/f6f5zji45487f2v9yli5lk1dmpxjsvnl-script.sh", odd + " $x"},
		Env: map[string]string{
			"builder": "/bin/sh", "name": "lib", "system": "x86_64-linux", "outputs": "out dev",
			"dev": "/nix/store/i40vxym14axvbjc6g4hy7i9raq96x2xp-lib-dev",
			"out": "/nix/store/ah5gwbk2cgi9w0y3caz0wgpj3gbf7sh5-lib",
		},
	}
	if diff := cmp.Diff(wantLib, g[lib]); diff != "" {
		t.Errorf("lib (-want +got):\n%s", diff)
	}
	if got := g[top].Env["text"]; got != odd {
		t.Errorf("text = %q, want %q", got, odd)
	}
	if got := g[top].InputDerivations[lib]; !slices.Equal(got, []string{"dev"}) {
		t.Errorf("top takes %q of lib, want dev", got)
	}
	if _, err := ReadDerivations(t.Context(), store, structured); err != nil {
		t.Error(err)
	}
}

func TestDerivers(t *testing.T) {
	store, _ := derivationStore(t)
	// Whichever way one comes to it.
	for _, root := range []closure.StorePath{top, top, top} {
		g, err := ReadDerivations(t.Context(), store, root)
		if err != nil {
			t.Fatal(err)
		}
		d := g.Derivers()
		if len(d) != 6 {
			t.Errorf("%d outputs: %v", len(d), d)
		}
		if d[downloaded] != download {
			t.Errorf("deriver of the download = %s, want the first by name, %s", d[downloaded], download)
		}
		if got := d["/nix/store/i40vxym14axvbjc6g4hy7i9raq96x2xp-lib-dev"]; got != lib {
			t.Errorf("deriver of lib-dev = %s, want %s", got, lib)
		}
	}
	if d := (Graph{"x": {Outputs: map[string]Output{"out": {}}}}).Derivers(); len(d) != 0 {
		t.Errorf("an output without a path has a deriver: %v", d)
	}
}

func TestContentAddresses(t *testing.T) {
	store, _ := derivationStore(t)
	g, err := ReadDerivations(t.Context(), store, top)
	if err != nil {
		t.Fatal(err)
	}
	got, err := g.ContentAddresses()
	if err != nil {
		t.Fatal(err)
	}
	// As nix path-info --json has them.
	want := map[closure.StorePath]string{
		downloaded: "fixed:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
		"/nix/store/1h48vji4kxgspjfvwvsc5hfwbf08qn5v-tree": "fixed:r:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
		"/nix/store/4zqx7g918minhprcvmgrj2dajjg6n61f-old":  "fixed:sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ContentAddresses (-want +got):\n%s", diff)
	}

	for _, bad := range []Output{
		{HashAlgo: "sha256", Hash: "xyz"}, {HashAlgo: "sha256", Hash: "00"}, {HashAlgo: "crc", Hash: "00"}, {HashAlgo: "q:sha1", Hash: strings.Repeat("0", 40)},
	} {
		bad.Path = downloaded
		var de *DerivationError
		if _, err := (Graph{download: {Outputs: map[string]Output{"out": bad}}}).ContentAddresses(); !errors.As(err, &de) {
			t.Errorf("ContentAddresses of %+v: %v, want a DerivationError", bad, err)
		}
	}
	one, two := Output{Path: downloaded, HashAlgo: "sha1", Hash: strings.Repeat("0", 40)}, Output{Path: downloaded, HashAlgo: "sha1", Hash: strings.Repeat("1", 40)}
	if _, err := (Graph{download: {Outputs: map[string]Output{"out": one}}, old: {Outputs: map[string]Output{"out": two}}}).ContentAddresses(); err == nil {
		t.Error("two content addresses of one path are accepted")
	}
	// Known only once it was built.
	if got, err := (Graph{download: {Outputs: map[string]Output{"out": {HashAlgo: "r:sha256"}}}}).ContentAddresses(); err != nil || len(got) != 0 {
		t.Errorf("ContentAddresses of a floating output = %v, %v", got, err)
	}
}

func TestReadDerivationsRefuses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		{"one letter changed", func(t *testing.T, dir string) { edit(t, filepath.Join(dir, lib.Base()), "/bin/sh", "/bin/su") }, "its contents are those of"},
		{"input dropped", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, top.Base()), `("`+string(lib)+`",["dev"]),`, "")
		}, "its contents are those of"},
		{"a blank", func(t *testing.T, dir string) { edit(t, filepath.Join(dir, lib.Base()), "Derive(", "Derive( ") }, "want ["},
		{"trailing bytes", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, lib.Base()), "x86_64-linux\")])", "x86_64-linux\")]) ")
		}, "something follows"},
		{"cut short", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, lib.Base()), "x86_64-linux\")])", "x86_64-lin")
		}, "a string does not end"},
		{"out of order", func(t *testing.T, dir string) { edit(t, filepath.Join(dir, lib.Base()), `("dev",`, `("zev",`) }, "outputs: "},
		{"another derivation", func(t *testing.T, dir string) {
			data, err := os.ReadFile(filepath.Join(dir, old.Base()))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, lib.Base()), string(data))
		}, "its contents are those of"},
		{"empty", func(t *testing.T, dir string) { write(t, filepath.Join(dir, lib.Base()), "") }, "want Derive("},
		{"not a derivation", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, lib.Base()), strings.Repeat("hello ", 10))
		}, "want Derive("},
		{"dynamic", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, lib.Base()), `DrvWithVersion("xp-dyn-drv",[],[])`)
		}, "not supported"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store, dir := derivationStore(t)
			tc.damage(t, dir)
			_, err := ReadDerivations(t.Context(), store, top)
			var de *DerivationError
			if !errors.As(err, &de) || !strings.Contains(de.Reason, tc.want) {
				t.Errorf("ReadDerivations: %v, want a DerivationError with %q", err, tc.want)
			}
		})
	}
	store, dir := derivationStore(t)
	if _, err := ReadDerivations(ctx, store, top); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadDerivations: %v, want Canceled", err)
	}
	if _, err := ReadDerivations(t.Context(), store, "/nix/store/f6f5zji45487f2v9yli5lk1dmpxjsvnl-script.sh"); err == nil {
		t.Error("a source passes for a derivation")
	}
	remove(t, filepath.Join(dir, lib.Base()))
	if _, err := ReadDerivations(t.Context(), store, top); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), string(lib)) {
		t.Errorf("ReadDerivations: %v, want ErrNotExist of %s", err, lib)
	}
}

func FuzzParseDerivation(f *testing.F) {
	names, err := filepath.Glob("testdata/store/*.drv")
	if err != nil || len(names) == 0 {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDerivation(lib, data)
		var de *DerivationError
		if err != nil && !errors.As(err, &de) {
			t.Errorf("ParseDerivation: %T %v", err, err)
		}
		if err == nil && d.Env["name"] != "lib" {
			t.Errorf("other contents of the same name: %q", data)
		}
	})
}

// TestAgainstNix compares with what the nix on this machine says.
func TestAgainstNix(t *testing.T) {
	for _, program := range []string{"nix-instantiate", "nix-store"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	root := t.TempDir()
	nix := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(args[0], append([]string{"--store", root}, args[1:]...)...)
		cmd.Env = append(os.Environ(), "HOME="+root, "XDG_CACHE_HOME="+root, "NIX_REMOTE=", "NIX_PATH=")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	drv := closure.StorePath(nix("nix-instantiate", "testdata/graph.nix"))
	store, err := OpenStore(root, closure.DefaultStoreDir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	g, err := ReadDerivations(t.Context(), store, drv)
	if err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, root)
	c, malformed, err := d.Closure(t.Context(), drv)
	if err != nil || len(malformed) > 0 {
		t.Fatal(malformed, err)
	}
	want := strings.Fields(nix("nix-store", "--query", "--requisites", string(drv)))
	slices.Sort(want)
	var got []string
	for _, p := range c.Paths() {
		got = append(got, string(p))
		if p.IsDerivation() && g[p] == nil {
			t.Errorf("the graph lacks %s", p)
		}
		if hash := nix("nix-store", "--query", "--hash", string(p)); hash != c[p].NarHash.Base32() {
			t.Errorf("hash of %s = %s, want %s", p, c[p].NarHash.Base32(), hash)
		}
		if !strings.HasPrefix(c[p].CA, "text:sha256:") {
			t.Errorf("ca of %s = %q", p, c[p].CA)
		}
		if ok, err := store.Exists(p); !ok || err != nil {
			t.Errorf("Exists(%s) = %v, %v", p, ok, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("closure (-nix +ours):\n%s", diff)
	}
}

func edit(t *testing.T, name, from, to string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		t.Fatalf("%s has no %q", name, from)
	}
	write(t, name, strings.Replace(string(data), from, to, 1))
}

// A download may be made with anything, also with what lies at places that
// nobody knows before it is built: a fixed output is what it says, whatever it
// was made from.
func TestFloatingBehindFixed(t *testing.T) {
	store, drv := instantiate(t, "ca-derivations", `
let
  system = "x86_64-linux";
  builder = "/bin/sh";
  floating = derivation {
    name = "floating"; inherit system builder; outputs = [ "out" "dev" "man" ];
    __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
  };
  deferred = derivation { name = "deferred"; inherit system builder; from = floating.dev; };
  fixed = derivation {
    name = "fixed"; inherit system builder; from = [ floating deferred ];
    outputHashAlgo = "md5"; outputHash = "d41d8cd98f00b204e9800998ecf8427e";
  };
in derivation { name = "top"; inherit system builder fixed; }`)
	g, err := ReadDerivations(t.Context(), store, drv)
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := g.ContentAddresses()
	if err != nil || len(addresses) != 1 || len(g) != 4 {
		t.Errorf("%d derivations with the addresses %v, %v, want 4 with one", len(g), addresses, err)
	}
	for p, ca := range addresses {
		if p.Name() != "fixed" || ca != "fixed:md5:3y8bwfr609h3lh9ch0izcqq7fl" {
			t.Errorf("%s has the address %s", p, ca)
		}
		if !contentAddress().MatchString(ca) {
			t.Errorf("%s is not taken for the address that it is", ca)
		}
	}
}

// instantiate has the nix of this machine write derivations into a store of
// their own.
func instantiate(t *testing.T, features, expression string) (*Store, closure.StorePath) {
	t.Helper()
	program, err := exec.LookPath("nix-instantiate")
	if err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	cmd := exec.Command(program, "--store", root, "--option", "experimental-features", features, "--expr", expression)
	cmd.Env = append(os.Environ(), "HOME="+root, "XDG_CACHE_HOME="+root, "NIX_REMOTE=", "NIX_PATH=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	path, err := closure.ParseStorePath(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	store, err := OpenStore(root, path.Dir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, path
}
