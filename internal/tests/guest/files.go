//go:build qemu

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Write replaces file, and never writes into what it was linked to.
func Write(t *testing.T, file, text string) {
	t.Helper()
	replace(t, file)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// WriteProgram is Write of what can be run.
func WriteProgram(t *testing.T, file, text string) {
	t.Helper()
	Write(t, file, text)
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Link replaces file by a link to target.
func Link(t *testing.T, target, file string) {
	t.Helper()
	replace(t, file)
	if err := os.Symlink(target, file); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// Command runs a command that must succeed.
func Command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(append([]string{name}, args...), " "), err, out)
	}
}

// Shell runs a script that must succeed.
func Shell(t *testing.T, script string, args ...string) {
	t.Helper()
	Command(t, "bash", append([]string{"-euo", "pipefail", "-c", script, "-"}, args...)...)
}
