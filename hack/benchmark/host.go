package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// benchHost is a test host to measure on.
type benchHost struct {
	ctx  context.Context
	name string
}

func (h benchHost) testhost(args ...string) error {
	cmd := exec.CommandContext(h.ctx, "hack/testhost", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("hack/testhost %q: %w", args, err)
	}
	return nil
}

func (h benchHost) exec(argv ...string) (string, error) {
	cmd := exec.CommandContext(h.ctx, "hack/testhost", append([]string{"exec", h.name}, argv...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%q: %w", argv, err)
	}
	return string(out), nil
}

func (h benchHost) cost(argv []string) (cost, error) {
	out, err := h.exec(append([]string{inRoot + "benchmark", "run"}, argv...)...)
	if err != nil {
		return cost{}, err
	}
	var c cost
	return c, json.Unmarshal([]byte(out), &c)
}

// pushPrograms builds ec-verify and this program, and copies them to the host.
func (h benchHost) pushPrograms() error {
	dir, err := os.MkdirTemp("", "benchmark-programs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{"ec-verify": "./cmd/ec-verify", "benchmark": "./hack/benchmark"} {
		file := filepath.Join(dir, name)
		build := exec.CommandContext(h.ctx, "go", "build", "-trimpath", "-o", file, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		if err := h.testhost("push", h.name, file, inRoot+name); err != nil {
			return err
		}
	}
	return nil
}
