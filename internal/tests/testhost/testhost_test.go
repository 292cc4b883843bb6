package testhost

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// evaluate evaluates a machine's embedded flake as ec-verify does: purely, from the store,
// writing only a fetcher cache in the given home.
const evaluate = `{ flake, name }:
let toplevel = (builtins.getFlake flake).nixosConfigurations.${name}.config.system.build.toplevel;
in { drvPath = toplevel.drvPath; toplevel = toplevel.outPath; }`

func TestRunner(t *testing.T) {
	t.Parallel()
	suites := []string{"trixie"}
	if os.Getenv("EC_VERIFY_TEST_SID") == "1" {
		suites = append(suites, "sid")
	}
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			testRunner(t, Start(t, Options{Suite: suite, Runner: true}))
		})
	}
}

func testRunner(t *testing.T, h *Host) {
	runner := h.Runner()
	current, other := runner.Systems["testhost"], runner.Systems["testhost-other"]

	t.Run("is running", func(t *testing.T) {
		if got := h.Run("systemctl", "is-system-running"); got != "running" {
			t.Errorf("systemd is %s:\n%s", got, h.Run("systemctl", "--failed"))
		}
		if got := h.Run("sh", "-c", "ls /sys/class/net"); got != "lo" {
			t.Errorf("network devices: got %q, want lo alone", got)
		}
		if got := h.Run("journalctl", "--quiet", "--boot", "--lines=1", "--output=cat"); got == "" {
			t.Error("the journal is empty")
		}
		h.Run("nix-store", "--store", "daemon", "--query", "--hash", current.Toplevel)
	})

	t.Run("evaluates without writing", func(t *testing.T) {
		home := h.Run("mktemp", "-d")
		before := h.NixState()
		for name, want := range runner.Systems {
			out := h.Run("env", "-i", "PATH=/usr/bin", "HOME="+home, "XDG_CACHE_HOME="+home,
				"nix-instantiate", "--readonly-mode", "--eval", "--json", "--strict",
				"--option", "pure-eval", "true",
				"--argstr", "flake", runner.FlakeRef(), "--argstr", "name", name, "-E", evaluate)
			var got System
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("evaluate %s: %v in %q", name, err, out)
			}
			if got != want {
				t.Errorf("evaluate %s: got %v, want %v", name, got, want)
			}
		}
		if after := h.NixState(); after != before {
			t.Error("evaluating wrote to /nix")
		}
	})

	t.Run("points to its system", func(t *testing.T) {
		for link, want := range map[string]string{
			"/run/current-system":          current.Toplevel,
			"/run/booted-system":           current.Toplevel,
			"/nix/var/nix/profiles/system": current.Toplevel,
			"/etc/every-channel/flake":     runner.Source,
		} {
			if got := h.Run("readlink", "-f", link); got != want {
				t.Errorf("%s leads to %s, want %s", link, got, want)
			}
		}
		wantCmdline(t, h, current)
		h.Activate(other.Toplevel, current.Toplevel)
		if got := h.Run("readlink", "/run/current-system"); got != other.Toplevel {
			t.Errorf("switched to %s, want %s", got, other.Toplevel)
		}
		wantCmdline(t, h, current)
		h.Activate(current.Toplevel, current.Toplevel)
	})

	t.Run("has what is hard to verify", func(t *testing.T) {
		closure := strings.Fields(h.Run("nix-store", "--query", "--requisites", current.Toplevel))
		if !slices.Contains(closure, runner.Source) {
			t.Error("the flake's source is not in the closure")
		}
		drvs := strings.Fields(h.Run("nix-store", "--query", "--requisites", current.DrvPath))
		drvs = slices.DeleteFunc(drvs, func(p string) bool { return !strings.HasSuffix(p, ".drv") })
		if len(drvs) < 30 {
			t.Errorf("%d derivations, want 30 at least", len(drvs))
		}
		shared := 0
		for _, p := range strings.Fields(h.Run("nix-store", "--query", "--requisites", other.Toplevel)) {
			if slices.Contains(closure, p) {
				shared++
			}
		}
		if shared == 0 || shared == len(closure) {
			t.Errorf("the two systems share %d of %d paths, want some", shared, len(closure))
		}

		info, err := os.Stat(h.Path(find(t, closure, "-firmware-1") + "/lib/firmware/big.bin"))
		if err != nil || info.Size() != 40<<20 {
			t.Errorf("the big file: %v, %v, want 40 MiB", info, err)
		}
		oddities := h.Path(find(t, closure, "-oddities-1"))
		for _, name := range []string{"..foo", "...", "caf\xe9", "\xff\xfe", "café", "cafe\u0301", "new\nline", "dir\x80/file"} {
			if _, err := os.Lstat(filepath.Join(oddities, "names", name)); err != nil {
				t.Errorf("odd names: %v", err)
			}
		}
		if entries, err := os.ReadDir(filepath.Join(oddities, "empty")); err != nil || len(entries) != 0 {
			t.Errorf("the empty directory: %v, %v", entries, err)
		}
	})
}

// TestReproducible builds each derivation again. It is a host of its own since
// nix notes in its database what came out.
func TestReproducible(t *testing.T) {
	t.Parallel()
	h := Start(t, Options{Runner: true})
	system := h.Runner().Systems["testhost-unreproducible"]
	out := h.Run("bash", "-c", `
		for drv in $(nix-store --query --requisites "$1" | grep '[.]drv$'); do
			nix-store --realise --check "$drv" >/dev/null 2>/tmp/log || echo "$? $drv"
		done`, "-", system.DrvPath)
	if lines := strings.Split(out, "\n"); len(lines) != 1 || !strings.HasPrefix(out, "104 ") ||
		!strings.HasSuffix(out, "-clock-1.drv") {
		t.Errorf("built otherwise: %q, want clock-1 alone", lines)
	}
}

func TestMakeRunner(t *testing.T) {
	t.Parallel()
	h := Start(t, Options{})
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../../testdata/flake")); err != nil {
		t.Fatal(err)
	}
	prepared := Start(t, Options{Runner: true}).Runner()

	h.MakeRunner(dir, "testhost-other")
	same := h.Runner()
	if same.Source != prepared.Source || same.Systems["testhost"] != prepared.Systems["testhost"] {
		t.Errorf("of one flake: got %v, want %v", same, prepared)
	}
	if got := h.Run("readlink", "/run/current-system"); got != same.Systems["testhost-other"].Toplevel {
		t.Errorf("active is %s, want testhost-other", got)
	}

	file := filepath.Join(dir, "system", "flake.nix")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "26.05.2", "26.05.3", 1)
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	h.MakeRunner(dir, "testhost")
	if got := h.Runner().Systems["testhost"].Toplevel; !strings.HasSuffix(got, "-26.05.3") {
		t.Errorf("of a changed flake: got %s", got)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	h := Start(t, Options{})
	stdout, stderr, code := h.ExecInput(t.Context(), strings.NewReader("in\n"), "sh", "-c", "cat; echo diag >&2; exit 7")
	if stdout != "in\n" || stderr != "diag\n" || code != 7 {
		t.Errorf("got %q, %q, %d, want %q, %q, 7", stdout, stderr, code, "in\n", "diag\n")
	}
	if _, _, code := h.Exec(t.Context(), "sh", "-c", "kill -TERM $$"); code != 128+15 {
		t.Errorf("ended by SIGTERM: status %d, want 143", code)
	}
	// Every host and this machine have one clock.
	caps := h.Run("sed", "-n", `s/^CapEff:\t//p`, "/proc/self/status")
	if set, err := strconv.ParseUint(caps, 16, 64); err != nil || set&(1<<unix.CAP_SYS_TIME) != 0 {
		t.Errorf("a command may set the clock of this machine: capabilities %q, %v", caps, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, code := h.Exec(ctx, "sh", "-c", "sleep 6543 | cat"); code == 0 {
		t.Error("a command that was cut off succeeded")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // it is about to end
		if _, _, code := h.Exec(t.Context(), "pgrep", "-f", "sleep 6543"); code == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a command that was cut off runs on in the host")
		}
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	h := Start(t, Options{Runner: true})
	toplevel := h.Runner().Systems["testhost"].Toplevel
	valid := func() bool {
		_, _, code := h.Exec(t.Context(), "nix-store", "--verify-path", toplevel)
		return code == 0
	}
	file := toplevel + "/init"
	before, err := os.Stat(h.Path(file))
	if err != nil {
		t.Fatal(err)
	}

	h.FlipByte(file, 3)
	if valid() {
		t.Error("a changed byte is not seen")
	}
	after, err := os.Stat(h.Path(file))
	if err != nil || !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() || after.Size() != before.Size() {
		t.Errorf("a changed byte shows: %v, was %v (%v)", after, before, err)
	}
	h.FlipByte(file, 3)
	if !valid() {
		t.Error("the byte is not back")
	}

	h.AddFile(toplevel+"/added", "new", 0o444)
	if valid() {
		t.Error("an added file is not seen")
	}
	h.Remove(toplevel + "/added")
	h.Chmod(file, 0o444)
	if valid() {
		t.Error("a lost executable bit is not seen")
	}
	h.Chmod(file, 0o555)
	if !valid() {
		t.Error("what was added is not gone again")
	}

	h.SQL("update ValidPaths set hash = 'sha256:" + strings.Repeat("0", 64) + "' where path = '" + toplevel + "'")
	if got := h.Run("nix-store", "--query", "--hash", toplevel); strings.Trim(got, "sha256:0") != "" {
		t.Errorf("hash in the database is %s, want zeros", got)
	}
}

func TestBreakFile(t *testing.T) {
	t.Parallel()
	h := Start(t, Options{Runner: true})
	closure := strings.Fields(h.Run("nix-store", "--query", "--requisites", h.Runner().Systems["testhost"].Toplevel))
	for _, file := range []string{
		find(t, closure, "-firmware-1") + "/lib/firmware/big.bin",
		find(t, closure, "-library-00-1.0") + "/lib/lib00.so.1.0",
		find(t, closure, "-etc-os-release"),
	} {
		want := h.Run("sha256sum", file)
		undo := h.BreakFile(file)
		_, stderr, code := h.Exec(t.Context(), "sha256sum", file)
		if code == 0 || !strings.Contains(stderr, "Input/output error") {
			t.Errorf("read broken %s: status %d, %q, want an I/O error", file, code, stderr)
		}
		undo()
		if got := h.Run("sha256sum", file); got != want {
			t.Errorf("mended %s: got %s, want %s", file, got, want)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	layer := filepath.Join(t.TempDir(), "layer")
	if err := os.MkdirAll(filepath.Join(layer, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	const layered = "/srv/layered"
	if err := os.WriteFile(filepath.Join(layer, layered), []byte("layered"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := Start(t, Options{Runner: true, Layers: []string{layer}})
	toplevel := h.Runner().Systems["testhost"].Toplevel
	h.Run("sh", "-c", "echo kept >/etc/note")
	h.Checkpoint()
	for range 2 {
		h.Run("sh", "-c", "echo lost >/etc/note; rm -rf /nix/var/nix/db "+toplevel+"; echo lost >"+layered)
		h.Restore()
		if got := h.Run("cat", layered); got != "layered" {
			t.Errorf("after restoring the layer has %q", got)
		}
		if got := h.Run("cat", "/etc/note"); got != "kept" {
			t.Errorf("after restoring the note says %q", got)
		}
		h.Run("nix-store", "--verify-path", toplevel)
		wantCmdline(t, h, h.Runner().Systems["testhost"])
	}
}

// TestNothingLeft ends hosts in the midst of things and looks for what is left
// of them anywhere on the machine.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	var names []string
	t.Run("up", func(t *testing.T) {
		for range 2 {
			h := Start(t, Options{Runner: true})
			names = append(names, h.Name())
			h.BreakFile(h.Runner().Systems["testhost"].Toplevel + "/init")
			h.Run("systemd-run", "--quiet", "sleep", "infinity")
			h.Run("sh", "-c", "setsid sleep infinity </dev/null >/dev/null 2>&1 &")
		}
	})
	if len(names) == 0 {
		t.Skip("test host: there was none to end")
	}
	for _, name := range names {
		left := leftOf(t, name)
		// A loop device and a mount go a moment after the last process.
		for end := time.Now().Add(time.Minute); len(left) > 0 && time.Now().Before(end); left = leftOf(t, name) {
			time.Sleep(50 * time.Millisecond)
		}
		for _, what := range left {
			t.Errorf("%s is left: %s", name, what)
		}
		script, err := findScript()
		if err != nil {
			t.Fatal(err)
		}
		h := &Host{t: t, name: name, script: script}
		if list := h.must("list"); strings.Contains(list, name) {
			t.Errorf("%s is left: it is listed", name)
		}
		if _, _, code := h.bounded("down", name); code != 1 {
			t.Errorf("ending %s again: status %d, want 1", name, code)
		}
	}
}

// leftOf returns where the processes and loop devices of this machine name a host.
func leftOf(t *testing.T, name string) (left []string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	looked := map[string]bool{} // at mount namespaces
	for _, proc := range procs {
		// A process that was ended but that its parent has yet to wait for has
		// a cgroup still; it has no mounts.
		stat, _ := os.ReadFile(proc + "/stat")
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "Z") {
			continue
		}
		files := []string{"cgroup", "cmdline"}
		if space, err := os.Readlink(proc + "/ns/mnt"); err == nil && !looked[space] {
			looked[space] = true
			files = append(files, "mountinfo")
		}
		for _, file := range files {
			if text, _ := os.ReadFile(filepath.Join(proc, file)); strings.Contains(string(text), name) {
				left = append(left, fmt.Sprintf("%s/%s has\n%s", proc, file, text))
			}
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, loop := range loops {
		if text, _ := os.ReadFile(loop); strings.Contains(string(text), name) {
			left = append(left, fmt.Sprintf("%s has %s", loop, text))
		}
	}
	return left
}

func wantCmdline(t *testing.T, h *Host, booted System) {
	t.Helper()
	if got := h.Run("cat", "/proc/cmdline"); !strings.Contains(got+" ", "init="+booted.Toplevel+"/init ") {
		t.Errorf("/proc/cmdline is %q, want init= of %s", got, booted.Toplevel)
	}
}

// find returns the one path of the closure that ends in suffix.
func find(t *testing.T, closure []string, suffix string) string {
	t.Helper()
	for _, p := range closure {
		if strings.HasSuffix(p, suffix) {
			return p
		}
	}
	t.Fatalf("no path of the closure ends in %s", suffix)
	return ""
}
