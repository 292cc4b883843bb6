package testhost

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Program copies ec-verify, as make builds it, to the file to. All packages share what is
// built: only the first one of a run waits for the linker.
func Program(to string) error {
	script, err := findScript()
	if err != nil {
		return err
	}
	top := filepath.Dir(filepath.Dir(script))
	bin := filepath.Join(top, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	// Two tests may be here at the same time, each with a program of its own to build.
	lock, err := os.Open(bin)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", bin, err)
	}
	if out, err := exec.Command("make", "-C", top, "bin/ec-verify").CombinedOutput(); err != nil {
		return fmt.Errorf("build ec-verify: %w\n%s", err, out)
	}
	return copyFile(filepath.Join(bin, "ec-verify"), to)
}

// Test copies the test that runs, of the package pkg, to the file to as a program that
// runs on any Linux. If this test was linked with C libraries, it is built again without.
func Test(pkg, to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if static, err := isStatic(self); err != nil {
		return err
	} else if static {
		return copyFile(self, to)
	}
	return BuildTest(pkg, to)
}

// BuildTest builds the tests of the package pkg as a program that runs on any Linux.
func BuildTest(pkg, to string) error {
	// As make test builds: other flags would have everything compiled again.
	cmd := exec.Command("go", "test", "-c", "-trimpath", "-vet=off", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, out)
	}
	return nil
}

func isStatic(program string) (bool, error) {
	f, err := elf.Open(program)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755) //nolint:gosec // a program
}
