package repository

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOrbstackBuild: the scripts give Nix the commands of docs/RUNNER_IMAGES.md
// word for word, and on a Mac enter the machine.
func TestOrbstackBuild(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(root, "docs/RUNNER_IMAGES.md"))
	if err != nil {
		t.Fatal(err)
	}
	for image, attribute := range map[string]string{
		"aarch64-netboot": "netboot", "x86_64-netboot": "netboot", "x86_64-iso": "isoImage", "aarch64-sdimage": "sdImage",
	} {
		t.Run(image, func(t *testing.T) {
			arch, _, _ := strings.Cut(image, "-")
			calls, out, code := runBuild(t, "Linux", arch+"-linux", image)
			want := "nix build .#nixosConfigurations.ec-runner-" + image + ".config.system.build." + attribute
			if code != 0 || !strings.Contains(calls, want+"\n") {
				t.Errorf("exit status %d, want %q among the calls:\n%s\n%s", code, want, calls, out)
			}
			if !strings.Contains(string(document), "\n"+want+"\n") {
				t.Errorf("docs/RUNNER_IMAGES.md does not have %q", want)
			}
		})
	}
	t.Run("another architecture", func(t *testing.T) {
		calls, out, code := runBuild(t, "Linux", "x86_64-linux", "aarch64-sdimage")
		if code != 1 || strings.Contains(calls, "nix build") || !strings.Contains(out, "takes one for aarch64-linux") {
			t.Errorf("exit status %d; %s\n%s", code, calls, out)
		}
	})
	t.Run("macOS", func(t *testing.T) {
		calls, out, code := runBuild(t, "Darwin", "", "--machine", "other", "x86_64-iso")
		top := abs(t, ".")
		want := "orb -m other -w " + top + " " + top + "/hack/orbstack/build x86_64-iso\n"
		if code != 0 || calls != want {
			t.Errorf("exit status %d, calls %q, want %q\n%s", code, calls, want, out)
		}
	})
	for _, args := range [][]string{nil, {"x86_64"}, {"--machine"}, {"--machine", "a;b", "x86_64-iso"}, {"x86_64-iso", "x86_64-netboot"}} {
		if calls, out, code := runBuild(t, "Linux", "x86_64-linux", args...); code != 64 || calls != "" {
			t.Errorf("%q: exit status %d, want 64; %s\n%s", args, code, calls, out)
		}
	}
}

// runBuild runs hack/orbstack/build where uname, nix and orb are stand-ins, and
// returns what they were called with.
func runBuild(t *testing.T, kernel, system string, args ...string) (calls, out string, code int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	for name, script := range map[string]string{
		"uname": `echo ` + kernel,
		"orb":   `echo "orb $*" >>` + log,
		"nix": `[ "$1 $2" = "config show" ] || echo "nix $*" >>` + log + `
case "$*" in *"show system"*) echo ` + system + ` ;; esac`,
		// What was built is another matter.
		"find": `:`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{abs(t, "hack/orbstack/build")}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	output, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data), string(output), cmd.ProcessState.ExitCode()
}
