package repository

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// root is the repository's.
const root = "../../.."

// nixFiles returns the repository's Nix files, relative to root.
func nixFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(e.Name(), ".") && name != root:
			return fs.SkipDir
		case !e.IsDir() && strings.HasSuffix(name, ".nix"):
			rel, err := filepath.Rel(root, name)
			files = append(files, rel)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("%d Nix files; the repository has more", len(files))
	}
	return files
}

// isFixture tells files that tests of other packages have recorded the bytes of.
func isFixture(file string) bool { return strings.HasPrefix(file, "internal/") }

func TestNixFilesAreInOrder(t *testing.T) {
	for _, file := range nixFiles(t) {
		if isFixture(file) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		found := append(Style(string(data)), DeadBindings(string(data))...)
		// Flakes of tests may be whatever a test needs.
		if !strings.HasPrefix(file, "testdata/") {
			found = append(found, Impurities(string(data))...)
		}
		for _, f := range found {
			t.Errorf("%s: %v", file, f)
		}
	}
}

// needNix returns the path of a nix program, or skips the test.
func needNix(t *testing.T, program string) string {
	t.Helper()
	name, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%v; hack/setup installs it", err)
	}
	return name
}

func TestNixFilesParse(t *testing.T) {
	program := needNix(t, "nix-instantiate")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"--parse"}
	for _, file := range nixFiles(t) {
		args = append(args, filepath.Join(root, file))
	}
	if out, err := privateNix(ctx, t, program, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// privateNix is a nix command with a store of its own, so that it needs none.
func privateNix(ctx context.Context, t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(),
		"NIX_STORE_DIR="+dir+"/store", "NIX_STATE_DIR="+dir+"/var", "NIX_LOG_DIR="+dir+"/log",
		"NIX_CONF_DIR="+dir+"/etc", "NIX_REMOTE=", "HOME="+dir)
	return cmd
}

// evaluate evaluates a Nix expression into v. Nothing but builtins is there.
func evaluate(t *testing.T, expr string, v any) {
	t.Helper()
	program := needNix(t, "nix-instantiate")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := privateNix(ctx, t, program, "--eval", "--strict", "--json", "--readonly-mode", "-E", expr)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("evaluate %s: %v\n%s", expr, err, stderr.String())
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatal(err)
	}
}

// lockFile has the parts of flake.lock that these tests use.
type lockFile struct {
	Nodes map[string]struct {
		Locked, Original map[string]any
		Inputs           map[string]any
	}
	Root    string
	Version int
}

// TestOneLockedInput: a runner has the input in its closure, and a lock file
// that does not fit to flake.nix sends it to the network.
func TestOneLockedInput(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "flake.lock"))
	if err != nil {
		t.Fatal(err)
	}
	var lock lockFile
	if err := json.Unmarshal(data, &lock); err != nil {
		t.Fatal(err)
	}
	if len(lock.Nodes) != 2 || len(lock.Nodes[lock.Root].Inputs) != 1 {
		t.Fatalf("flake.lock has the nodes %v; one input and no other is what a runner carries", lock.Nodes)
	}
	nixpkgs := lock.Nodes["nixpkgs"]
	var inputs map[string]struct{ URL string }
	evaluate(t, "(import "+abs(t, "flake.nix")+").inputs", &inputs)
	o := nixpkgs.Original
	if want := "github:" + o["owner"].(string) + "/" + o["repo"].(string) + "/" + o["ref"].(string); len(inputs) != 1 || inputs["nixpkgs"].URL != want {
		t.Errorf("flake.nix has the inputs %v, flake.lock was made for %s", inputs, want)
	}
	for _, key := range []string{"rev", "narHash", "lastModified"} {
		if nixpkgs.Locked[key] == nil {
			t.Errorf("flake.lock does not lock %s", key)
		}
	}
}

func abs(t *testing.T, file string) string {
	t.Helper()
	name, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return name
}
