package nix

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// shown is a function in Nix: all that a flake can see of another one, of an input
// that is no flake, or of itself.
const shown = `v: builtins.toJSON {
	names = builtins.attrNames v;
	attributes = builtins.mapAttrs (n: a: if builtins.elem (builtins.typeOf a) [ "string" "int" "bool" ] then a else builtins.typeOf a) (v // { outPath = builtins.unsafeDiscardStringContext v.outPath; });
	kind = builtins.typeOf v.outPath;
	string = "${v}";
	context = builtins.getContext "${v}";
	source = if v ? sourceInfo then builtins.mapAttrs (_: a: [ a ]) v.sourceInfo else null;
	inputs = builtins.mapAttrs (_: i: "${i}") (v.inputs or { });
	file = v.file or null;
	seen = v.seen or null;
}`

// part is a flake that says what it sees of itself and of its inputs.
const part = `{ outputs = { self, ... }@inputs: let show = ` + shown + `; in {
	file = __curPos.file;
	seen = builtins.mapAttrs (_: i: show (removeAttrs i [ "seen" ])) inputs;
}; }`

// lockedInput is an input of the flake of TestLikeGetFlake.
type lockedInput struct {
	name   string
	ref    map[string]any // the input in flake.nix
	locked map[string]any // what the lock file adds
	source string         // the source that it is; "" for a part of a flake
	parent []string       // of such a part
	inputs map[string]any // its own
	of     string         // the input whose input it is; "" for the flake's own
	data   bool           // it is no flake
	info   map[string]any // beside what is locked
}

func lockedInputs() []lockedInput {
	type attrs = map[string]any
	rev := func(n int) string { return fmt.Sprintf("%040x", 0x123456789abcdef+n) }
	github := func(repository string) attrs { return attrs{"type": "github", "owner": "o", "repo": repository} }
	inputs := []lockedInput{
		{name: "github", ref: github("a"), locked: attrs{"rev": rev(1), "lastModified": 1700000000}, source: "a", inputs: attrs{"nested": "nested", "followed": []string{"git"}, "top": []string{}}},
		{name: "nested", ref: attrs{"type": "gitlab", "owner": "o", "repo": "n"}, locked: attrs{"rev": rev(2), "lastModified": 1}, source: "b", of: "github"},
		{name: "git", ref: attrs{"type": "git", "url": "https://x.example/y"}, locked: attrs{"rev": rev(3), "revCount": 42, "ref": "main", "lastModified": 951827696}, source: "b"},
		{name: "submodules", ref: attrs{"type": "git", "url": "https://x.example/y", "submodules": true}, locked: attrs{"rev": rev(4), "revCount": 0, "lastModified": 951782400}, source: "b"},
		{name: "shallow", ref: attrs{"type": "git", "url": "https://x.example/y", "shallow": true}, locked: attrs{"rev": rev(5), "lastModified": 68169599}, source: "b"},
		{name: "mercurial", ref: attrs{"type": "hg", "url": "https://x.example/hg"}, locked: attrs{"rev": rev(6), "revCount": 3}, source: "a"},
		{name: "tarball", ref: attrs{"type": "tarball", "url": "https://x.example/a.tar.gz"}, locked: attrs{"lastModified": 5, "rev": rev(7), "revCount": 7}, source: "a"},
		{name: "path", ref: attrs{"type": "path", "path": "/nix/store/a"}, locked: attrs{"lastModified": 99}, source: "a"},
		{name: "data", ref: attrs{"type": "tarball", "url": "https://x.example/data.tar.gz"}, locked: attrs{"lastModified": 2147483648}, source: "b", data: true},
		{name: "file", ref: attrs{"type": "file", "url": "https://x.example/file"}, source: "file", data: true},
		{name: "directory", ref: attrs{"type": "github", "owner": "o", "repo": "d", "dir": "sub"}, locked: attrs{"rev": rev(8), "lastModified": 2}, source: "a", inputs: attrs{"aside": "aside"}},
		{name: "aside", ref: attrs{"type": "path", "path": "../within"}, parent: []string{"directory"}, of: "directory"},
		{name: "data-directory", ref: attrs{"type": "github", "owner": "o", "repo": "e", "dir": "sub"}, locked: attrs{"rev": rev(9), "lastModified": 2}, source: "a", data: true},
		{name: "old", ref: github("old"), locked: attrs{"rev": rev(10), "lastModified": 3}, source: "a", info: attrs{"lastModified": 1600000000}},
		{name: "relative", ref: attrs{"type": "path", "path": "./part"}, parent: []string{}, inputs: attrs{"up": "up"}},
		{name: "up", ref: attrs{"type": "path", "path": "../other"}, parent: []string{"relative"}, of: "relative"},
		{name: "relative-directory", ref: attrs{"type": "path", "path": "./part", "dir": "sub"}, parent: []string{}},
		{name: "relative-data", ref: attrs{"type": "path", "path": "./other"}, parent: []string{}, data: true},
	}
	// Leap days, ends of years and centuries, and the end of time for 32 bits.
	for _, seconds := range []int64{0, 59, 86399, 86400, 68169600, 68255999, 94694399, 951782399, 951868799, 951868800, 1709164800, 1735689599, 2147483647, 4107542399, 4107542400, 4133980799} {
		inputs = append(inputs, lockedInput{
			name: fmt.Sprint("at-", seconds), ref: attrs{"type": "tarball", "url": fmt.Sprint("https://x.example/", seconds)},
			locked: attrs{"lastModified": seconds}, source: "file", data: true,
		})
	}
	return inputs
}

// nixLiteral writes attributes of an input as flake.nix has them.
func nixLiteral(attrs map[string]any) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		text, _ := json.Marshal(attrs[name])
		fmt.Fprintf(&b, "%s = %s; ", name, text)
	}
	return "{ " + b.String() + "}"
}

// makeSource adds files to the store of h, and returns their path and hash.
func makeSource(t *testing.T, h *testhost.Host, files map[string]string) (closure.StorePath, nar.Hash) {
	t.Helper()
	base := t.TempDir()
	for name, text := range files {
		file := filepath.Join(base, "source", name) // the source itself for ""
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, text)
	}
	dir, err := os.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	sum, err := nar.NewHasher(nar.Options{}).Sum(context.Background(), dir, "source")
	if err != nil {
		t.Fatal(err)
	}
	const at = "/srv/adding"
	h.Run("mkdir", "-p", at)
	h.Push(filepath.Join(base, "source"), at+"/source")
	p := closure.DefaultStoreDir.SourcePath(sum.Hash, "source")
	if got := h.Run("nix-store", "--add", at+"/source"); got != string(p) {
		t.Fatalf("nix puts a source to %s, and not to %s", got, p)
	}
	h.Run("rm", "-r", at)
	return p, sum.Hash
}

// TestLikeGetFlake: in a sandbox a flake sees the same of itself and of its inputs, of any
// kind, as with Nix's own functions, with the nix of the host.
func TestLikeGetFlake(t *testing.T) {
	t.Parallel()
	h := driverHost(t)
	hashes := make(map[string]nar.Hash)
	var sources []string
	for name, files := range map[string]map[string]string{
		"a":    {"flake.nix": part, "sub/flake.nix": part, "within/flake.nix": part, "data": "a"},
		"b":    {"flake.nix": part, "data": "b"},
		"file": {"": "a file"},
	} {
		p, hash := makeSource(t, h, files)
		hashes[name] = hash
		sources = append(sources, p.Base())
	}
	inputs := lockedInputs()
	nodes, names, declared := map[string]any{}, map[string]any{"both": []string{"github", "nested"}}, &strings.Builder{}
	for _, in := range inputs {
		locked := maps.Clone(in.ref)
		maps.Copy(locked, in.locked)
		node := map[string]any{"original": in.ref, "locked": locked}
		if in.source != "" {
			locked["narHash"] = hashes[in.source].String()
		} else {
			node["parent"] = in.parent
		}
		if in.info != nil {
			node["info"] = in.info
		}
		if in.inputs != nil {
			node["inputs"] = in.inputs
		}
		ref := maps.Clone(in.ref)
		if in.data {
			node["flake"], ref["flake"] = false, false
		}
		nodes[in.name] = node
		if in.of == "" {
			names[in.name] = in.name
			fmt.Fprintf(declared, "%s = %s;\n", in.name, nixLiteral(ref))
		}
	}
	nodes["root"] = map[string]any{"inputs": names}
	lock, err := json.Marshal(map[string]any{"nodes": nodes, "root": "root", "version": 7})
	if err != nil {
		t.Fatal(err)
	}
	root := `{
		inputs = ` + "{" + declared.String() + `both.follows = "github/nested"; };
		outputs = { self, ... }@inputs: let show = ` + shown + `; in {
			file = __curPos.file;
			nixosConfigurations = let
				system = shown: { config.system.build.toplevel = derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; inherit shown; }; };
				times = builtins.filter (name: builtins.substring 0 3 name == "at-") (builtins.attrNames inputs);
			in builtins.mapAttrs (_: i: system (show i)) (inputs // { self = removeAttrs self [ "nixosConfigurations" ]; })
				// { times = system (map (name: show inputs.${name}) times); };
		};
	}`
	// These two are overridden in the lock file, so flake.nix must say so.
	root = strings.Replace(root, "both.follows", `github.inputs.followed.follows = "git"; github.inputs.top.follows = ""; both.follows`, 1)
	flake, hash := makeSource(t, h, map[string]string{
		"flake.nix": root, "flake.lock": string(lock), "part/flake.nix": part, "part/sub/flake.nix": part, "other/flake.nix": part,
	})
	maps.DeleteFunc(names, func(name string, _ any) bool { return strings.HasPrefix(name, "at-") })
	for _, name := range append(slices.Sorted(maps.Keys(names)), "times", "self") {
		const scratch = "/var/lib/scratch"
		h.Run("sh", "-c", "rm -rf "+scratch+"; mkdir -m 700 "+scratch)
		request := driverRequest{Dir: "/nix/store", Flake: flake.Base(), Inputs: sources, Configuration: name, Scratch: scratch}
		got := driveOn(t, h, request)
		request.Builtin = &Source{Path: flake, NarHash: hash}
		want := driveOn(t, h, request)
		if want.Error != "" || got.Error != "" || got.DrvPath != want.DrvPath {
			t.Errorf("input %s: %+v, and by Nix's own means %+v\n%s", name, got, want,
				h.Run("sh", "-c", "cat "+scratch+"$1; echo; cat $2", "sh", got.DrvPath, want.DrvPath))
		}
	}
	// What Nix refuses is refused: a name that the store path is to have.
	flake, hash = makeSource(t, h, map[string]string{
		"flake.nix": `{
			inputs.named = { type = "tarball"; url = "https://x.example/named"; name = "source"; };
			outputs = { self, named }: { nixosConfigurations.named.config.system.build.toplevel = derivation {
				name = "x"; system = "x86_64-linux"; builder = "${named}"; }; };
		}`,
		"flake.lock": fmt.Sprintf(`{"version": 7, "root": "root", "nodes": {"root": {"inputs": {"named": "named"}}, "named": {
			"locked": {"type": "tarball", "url": "https://x.example/named", "name": "source", "lastModified": 1, "narHash": %q},
			"original": {"type": "tarball", "url": "https://x.example/named", "name": "source"}}}}`, hashes["a"]),
	})
	request := driverRequest{Dir: "/nix/store", Flake: flake.Base(), Inputs: sources, Configuration: "named"}
	if got := driveOn(t, h, request); !strings.Contains(got.Error, "name") || got.DrvPath != "" {
		t.Errorf("an input with a name: %+v", got)
	}
	request.Builtin = &Source{Path: flake, NarHash: hash}
	if got := driveOn(t, h, request); !strings.Contains(got.Error, "name") || got.DrvPath != "" {
		t.Errorf("an input with a name, by Nix's own means: %+v", got)
	}
}

// TestReadsItsOwn: a configuration may read what it copied into the store, where
// nothing is written there as well.
func TestReadsItsOwn(t *testing.T) {
	t.Parallel()
	h := driverHost(t)
	flake, _ := makeSource(t, h, map[string]string{"part/file": "contents", "flake.nix": `{ outputs = { self }: let
		system = d: { config.system.build.toplevel = derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; inherit d; }; };
	in { nixosConfigurations = {
		written = system (import (builtins.toFile "a.nix" "\"contents\""));
		filtered = system (builtins.readFile "${builtins.filterSource (_: _: true) ./part}/file");
		copied = system (builtins.readFile "${./part}/file");
		exists = system (if builtins.pathExists "${./part}/file" then "contents" else "");
		absent = system (builtins.readFile "${./part}/none");
	}; }; }`})
	for _, name := range []string{"written", "filtered", "copied", "exists"} {
		a := driveOn(t, h, driverRequest{Dir: "/nix/store", Flake: flake.Base(), Configuration: name})
		if a.Error != "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := driveOn(t, h, driverRequest{Dir: "/nix/store", Flake: flake.Base(), Configuration: "absent"}); !strings.Contains(a.Error, "/none': No such file") {
		t.Errorf("a file that is not there: %+v", a)
	}
}
