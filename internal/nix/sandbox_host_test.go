package nix

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// driverEnv makes the test binary, put on a test host, evaluate there: it is a
// driverRequest.
const driverEnv = "EC_VERIFY_TEST_NIX"

const driver = "/usr/local/bin/driver"

type driverRequest struct {
	Dir           string   // the directory that has the sources
	Flake         string   // name in Dir
	Inputs        []string // names in Dir
	Subdirectory  string
	Configuration string
	Limits        Limits
	// Scratch, where not empty, is where the derivations are written.
	Scratch string
	// Builtin, if set, is evaluated by Nix's own means instead.
	Builtin *Source
}

type driverAnswer struct {
	DrvPath, OutPath string
	// Error is the message, Kind its type for short.
	Error, Kind string
	Took        time.Duration
}

func drive(text string) error {
	var r driverRequest
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	dir, err := os.Open(r.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	source := func(name string) EvalSource {
		sum, serr := nar.NewHasher(nar.Options{}).Sum(context.Background(), dir, name)
		if serr != nil {
			err = serr
		}
		return EvalSource{Store: dir, Name: name, NarHash: sum.Hash, NarSize: sum.Size}
	}
	req := EvalRequest{StoreDir: closure.DefaultStoreDir, Flake: source(r.Flake), Dir: r.Subdirectory, Configuration: r.Configuration}
	for _, name := range r.Inputs {
		req.Inputs = append(req.Inputs, source(name))
	}
	if err != nil {
		return err
	}
	n := New(Config{Limits: r.Limits, Timeout: time.Minute})
	begin := time.Now()
	var a driverAnswer
	var e Evaluation
	if r.Builtin != nil {
		e, err = n.Instantiate(context.Background(), *r.Builtin, r.Configuration)
	} else if r.Scratch == "" {
		e, err = n.Evaluate(context.Background(), req)
	} else {
		e, err = n.InstantiateIn(context.Background(), Scratch{Dir: r.Scratch}, req)
	}
	a.Took = time.Since(begin)
	a.DrvPath, a.OutPath = string(e.DrvPath), string(e.OutPath)
	if err != nil {
		a.Error, a.Kind = err.Error(), fmt.Sprintf("%T", err)
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// driverHost is a test host with the driver on it.
func driverHost(t *testing.T) *testhost.Host {
	t.Helper()
	dir, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	return testhost.Start(t, testhost.Options{Runner: true, Suite: os.Getenv("EC_VERIFY_TEST_SUITE"), Layers: []string{dir}})
}

// prepared is a layer of a host with this test as a static program, made once.
var prepared = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "ec-verify-nix-"); err != nil {
		return "", err
	}
	preparedDir = dir
	return dir, testhost.Test("every.channel/ec-verify/internal/nix", filepath.Join(dir, driver))
})

// preparedDir is what TestMain removes; "" where nothing was prepared.
var preparedDir string

// driveOn evaluates on a host; how is the beginning of the command line.
func driveOn(t *testing.T, h *testhost.Host, r driverRequest, how ...string) driverAnswer {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out := h.Run(append(slices.Clone(how), "env", driverEnv+"="+string(text), driver)...)
	var a driverAnswer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("the driver printed %q: %v", out, err)
	}
	return a
}

func TestSandboxEvaluates(t *testing.T) {
	t.Parallel()
	h := driverHost(t)
	runner := h.Runner()
	library := strings.TrimSpace(h.Run("sh", "-c", "ls /nix/store | grep -- '-source$' | grep -v "+filepath.Base(runner.Source)))
	for name, want := range runner.Systems {
		a := driveOn(t, h, driverRequest{
			Dir: "/nix/store", Flake: filepath.Base(runner.Source), Inputs: strings.Fields(library), Configuration: name,
		})
		if a.Error != "" || a.DrvPath != want.DrvPath || a.OutPath != want.Toplevel {
			t.Errorf("%s: %+v, want %+v", name, a, want)
		}
	}
}

// A sandbox is made as root with few capabilities, as somebody else, and without
// a user namespace; else its absence is an error.
func TestSandboxWhere(t *testing.T) {
	t.Parallel()
	h := driverHost(t)
	runner := h.Runner()
	sources := strings.Fields(h.Run("sh", "-c", "cd /nix/store; ls -d *-source"))
	limits := Limits{CPU: time.Minute, Memory: 4 << 30, Files: 256 << 20, Stall: time.Minute}
	unit := []string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect"}
	for _, where := range []struct {
		name string
		how  []string
		want string
	}{
		{"as root", nil, ""},
		{"as the unit", append(slices.Clone(unit), "-p", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SETUID CAP_SETGID", "-p", "NoNewPrivileges=yes", "-p", "RestrictNamespaces=user mnt pid net ipc", "-p", "LimitCORE=0", "-p", "PrivateTmp=yes"), ""},
		{"as somebody", []string{"setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--inh-caps=-all"}, ""},
		{"without user namespaces", append(slices.Clone(unit), "-p", "RestrictNamespaces=mnt pid net ipc"), ""},
		{"without namespaces", append(slices.Clone(unit), "-p", "RestrictNamespaces=yes"), ErrConfinement.Error()},
		{"without capabilities", append(slices.Clone(unit), "-p", "CapabilityBoundingSet="), ErrConfinement.Error()},
	} {
		a := driveOn(t, h, driverRequest{Dir: "/nix/store", Flake: filepath.Base(runner.Source), Inputs: sources, Configuration: "testhost", Limits: limits}, where.how...)
		if where.want == "" && (a.Error != "" || a.DrvPath != runner.Systems["testhost"].DrvPath) || !strings.Contains(a.Error, where.want) {
			t.Errorf("%s: %+v, want an error with %q", where.name, a, where.want)
		}
	}
}

// hostile are flakes whose toplevel is an expression of somebody who wants
// something else than a system. Each must fail as want says.
var hostile = []struct{ name, toplevel, want string }{
	{"reads a file", `drv { secret = builtins.readFile "/srv/secret"; }`, "forbidden in pure evaluation mode"},
	{"reads a file by a path", `drv { secret = builtins.readFile /srv/secret; }`, "forbidden in pure evaluation mode"},
	{"lists a directory", `drv { secret = builtins.attrNames (builtins.readDir "/root"); }`, "forbidden in pure evaluation mode"},
	{"leaves its source", `drv { secret = builtins.readFile (self + "/../../../srv/secret"); }`, "forbidden in pure evaluation mode"},
	{"copies a file", `drv { secret = "${/srv/secret}"; }`, "forbidden in pure evaluation mode"},
	{"copies a directory by its hash", `drv { secret = builtins.path { path = "/srv"; sha256 = "HASH"; }; }`, "forbidden in pure evaluation mode"},
	{"follows a link of its source", `drv { secret = builtins.readFile (self + "/link"); }`, "forbidden in pure evaluation mode"},
	{"fetchurl of a file", `drv { secret = builtins.fetchurl { url = "file:///srv/secret"; sha256 = "HASH"; }; }`, "ile:///srv/secret"},
	{"fetchTarball of a file", `drv { secret = builtins.fetchTarball { url = "file:///srv/secret.tar"; sha256 = "HASH"; }; }`, "file:///srv/secret.tar"},
	{"fetchTree of a path", `drv { secret = (builtins.fetchTree { type = "path"; path = "/srv"; narHash = "HASH"; }).outPath; }`, "srv' does not exist"},
	{"fetchTree of a file", `drv { secret = (builtins.fetchTree { type = "file"; url = "file:///srv/secret"; narHash = "HASH"; }).outPath; }`, "file:///srv/secret"},
	{"fetchGit of a repository", `drv { secret = (builtins.fetchGit { url = "file:///srv/repository"; rev = "0123456789012345678901234567890123456789"; }).outPath; }`, "file:///srv/repository"},
	{"fetchMercurial of a repository", `drv { secret = (builtins.fetchMercurial { url = "file:///srv/repository"; rev = "0123456789012345678901234567890123456789"; }).outPath; }`, "hg"},
	{"getFlake of a path", `drv { secret = (builtins.getFlake "path:/srv?narHash=HASH").outPath; }`, "srv' does not exist"},
	{"the network", `drv { secret = builtins.fetchurl { url = "http://127.0.0.1:8080/"; name = "x"; sha256 = "HASH"; }; }`, "127.0.0.1:8080"},
	{"import from derivation", `drv { x = import (derivation { name = "made.nix"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "cat /srv/secret >$out" ]; }); }`, "made.nix.drv"},
	{"runs a program", `drv { x = builtins.exec [ "/bin/sh" "-c" "cat /srv/secret" ]; }`, "exec"},
	{"a library of its own", `drv { x = builtins.importNative (self + "/lib.so") "f"; }`, "importNative"},
	{"endless recursion", `let f = x: f (x + 1) + 1; in drv { x = f 0; }`, "stack overflow"},
	{"an endless loop", `drv { x = builtins.length (builtins.genericClosure { startSet = [ { key = 0; } ]; operator = { key }: [ { key = key + 1; } ]; }); }`, "processor time"},
	{"busy for ever", `let f = n: if n == 0 then 0 else f (n - 1); in drv { x = builtins.foldl' (a: _: a + f 1000) 0 (builtins.genList (x: x) 10000000); }`, "processor time"},
	{"endless output", `let f = n: builtins.trace "${toString n} ${builtins.toString (builtins.genList (x: x) 1000)}" (if n == 0 then 0 else f (n - 1)); in drv { x = builtins.foldl' (a: _: a + f 1000) 0 (builtins.genList (x: x) 10000000); }`, "processor time"},
	{"100 GB of memory", `let f = n: if n == 0 then "x" else let s = f (n - 1); in s + s; in drv { x = f 37; }`, "out of memory"},
	{"a long list", `drv { x = builtins.length (builtins.genList (x: x) 100000000000); }`, "out of memory"},
	{"a long result", `let f = n: if n == 0 then "xxxxxxxxxxxxxxxx" else let s = f (n - 1); in s + s; in { drvPath = f 21; outPath = "x"; system = "x"; }`, "printed more than it should"},
}

// TestHostileFlakes: whoever writes a flake that is evaluated reads nothing of
// the machine, runs nothing on it, changes nothing on it, and cannot keep it busy
// for longer than the limits allow.
func TestHostileFlakes(t *testing.T) {
	t.Parallel()
	h := driverHost(t)
	const secret = "the key of this machine"
	h.Run("sh", "-euc", `
		umask 077
		printf '%s' "$1" >/srv/secret
		mkdir -p /srv/repository
		tar -C /srv -cf /srv/secret.tar secret`, "sh", secret)
	sum := sha256.Sum256([]byte(secret))
	hash := "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
	limits := Limits{CPU: 20 * time.Second, Memory: 4 << 30, Files: 256 << 20, Stall: 10 * time.Minute}
	flakes := t.TempDir()
	for i, f := range hostile {
		dir := filepath.Join(flakes, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		flake := `{ outputs = { self }: let drv = attrs: derivation ({ name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; } // attrs); in {
			nixosConfigurations.x.config.system.build.toplevel = ` + strings.ReplaceAll(f.toplevel, "HASH", hash) + `; }; }`
		writeFile(t, filepath.Join(dir, "flake.nix"), flake)
		if err := os.Chmod(filepath.Join(dir, "flake.nix"), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/srv/secret", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
	}
	h.Push(flakes, "/srv/flakes")
	h.Run("mkdir", "-p", "/var/lib/scratch")
	before := machineState(h)
	for i, f := range hostile {
		for _, scratch := range []string{"", fmt.Sprintf("/var/lib/scratch/%d", i)} {
			if scratch != "" {
				h.Run("mkdir", "-p", "-m", "700", scratch)
			}
			limits := limits
			switch f.want {
			case "out of memory":
				// So little that a slow machine too reaches it before the other limit.
				limits.Memory = 1 << 30
			case "processor time":
				limits.CPU = time.Second
			}
			a := driveOn(t, h, driverRequest{Dir: "/srv/flakes", Flake: fmt.Sprint(i), Configuration: "x", Limits: limits, Scratch: scratch})
			if a.Error == "" || !strings.Contains(a.Error, f.want) {
				t.Errorf("%s (scratch %q): %+v, want an error with %q", f.name, scratch, a, f.want)
			}
			if strings.Contains(a.Error, secret) {
				t.Errorf("%s: it read the secret: %s", f.name, a.Error)
			}
			t.Logf("%-32s %5d ms  %s", f.name, a.Took.Milliseconds(), clip(a.Error))
		}
	}
	if _, _, code := h.Exec(t.Context(), "grep", "-rqF", secret, "/var/lib/scratch", "/nix/store"); code == 0 {
		t.Error("the secret is in a scratch store")
	}
	h.Run("sh", "-c", "rm -r /var/lib/scratch/*") // and nothing is mounted there
	if after := machineState(h); after != before {
		t.Errorf("the machine was changed:\n%s", testhost.ChangedLines(before, after))
	}
}

// machineState lists what is on a machine's disk, with what a write would change.
func machineState(h *testhost.Host) string {
	return h.Run("sh", "-c", `find / -xdev \( -path /var/log -o -path /var/lib/scratch -o -path /root \) -prune -o -printf '%p %y %m %U %G %s %T@ %C@ %l\n' | sort`)
}
