package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

const (
	evaluationHost   = "bench-evaluation"
	evaluationRounds = 3
	// The input that the flake gets is of the size of nixpkgs.
	inputFiles, inputBytes = 50_000, 350 << 20
)

// driveEvaluation measures the eval tier on a flake with an input of the size of
// nixpkgs, beside hashing the same sources and beside Nix's own evaluation, on a
// test host, and writes its part of the document.
func driveEvaluation(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "benchmark-evaluation-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say("making an input of %d files and %d MiB", inputFiles, inputBytes>>20)
	if err := makeLargeFlake(ctx, dir); err != nil {
		return err
	}
	h := benchHost{ctx, evaluationHost}
	if err := h.testhost("up", evaluationHost); err != nil {
		return err
	}
	defer func() { _ = h.testhost("down", evaluationHost) }()
	if err := h.testhost("runner", evaluationHost, filepath.Join(dir, "flake")); err != nil {
		return err
	}
	if err := h.pushPrograms(); err != nil {
		return err
	}
	if _, err := h.exec("ec-verify", "manifest", "create", "/etc/every-channel/flake#testhost", "--out", releases+"/"+tag, "--tag", tag); err != nil {
		return err
	}
	source, err := h.exec("readlink", "-fn", "/etc/every-channel/flake")
	if err != nil {
		return err
	}
	input, err := h.exec("sh", "-c", "ls -d /nix/store/*-source | grep -v "+source)
	if err != nil {
		return err
	}
	machine, err := describe(h.exec)
	if err != nil {
		return err
	}
	entries := []entry{
		{"ec-verify, eval tier", []string{
			inRoot + "ec-verify", "--against", tag, "--release", releases, "--unsafe-unsigned", "--unsafe-skip", "source,live,contents", "--progress", "never",
		}},
		{"ec-verify hash of the sources", []string{inRoot + "ec-verify", "hash", source, strings.TrimSpace(input)}},
		{"nix eval, as root", []string{
			"nix", "--extra-experimental-features", "nix-command flakes", "eval", "--offline", "--raw",
			"path:" + source + "#nixosConfigurations.testhost.config.system.build.toplevel.drvPath",
		}},
	}
	var text strings.Builder
	fmt.Fprintf(&text, evaluationHeading+`

Written by `+"`go run ./hack/benchmark evaluation`"+`: the eval tier on a flake whose
input has %d files and %d MiB, beside hashing the same sources and beside plain
`+"`nix eval`"+` of the same flake, on a test host, in turns. Medians of %d rounds; Nix runs in one. The eval tier
hashes the sources and then evaluates; what it writes lies in the state directory, or in
memory for as long as it takes. Nix copies the sources into the store before it
evaluates, and once more where it can't tell that they are there.

%s
| | wall | CPU | peak memory |
|---|---|---|---|
`, inputFiles, inputBytes>>20, evaluationRounds, list(machine))
	for _, cold := range []bool{false, true} {
		got := make(measured)
		for i := range evaluationRounds {
			say("round %d of %d", i+1, evaluationRounds)
			for _, e := range entries {
				if i > 0 && e.argv[0] == "nix" {
					continue // once: it takes minutes
				}
				if cold {
					if err := dropCaches(); err != nil {
						return err
					}
				}
				c, err := h.cost(e.argv)
				if err != nil {
					return err
				}
				got[e.name] = append(got[e.name], c)
			}
		}
		label := map[bool]string{false: "warm", true: "cold"}[cold]
		for _, e := range entries {
			all := got[e.name]
			w, c := sorted(all, wall), sorted(all, cpu)
			fmt.Fprintf(&text, "| %s: %s | %s | %s | %d MiB |\n", label, e.name, seconds(w[len(w)/2]), seconds(c[len(c)/2]), peak(all)>>20)
		}
	}
	return writePart(evaluationHeading, text.String())
}

// makeLargeFlake copies the flake of the test hosts with a large input.
func makeLargeFlake(ctx context.Context, dir string) error {
	flake := filepath.Join(dir, "flake")
	if out, err := exec.CommandContext(ctx, "cp", "-r", "testdata/flake", flake).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	random := rand.New(rand.NewPCG(3, 4))
	block := make([]byte, 2*inputBytes/inputFiles)
	for i := range block {
		block[i] = byte(random.Uint32())
	}
	for i := range inputFiles {
		name := filepath.Join(flake, "library", "pkgs", fmt.Sprint(i%500), fmt.Sprintf("%d.nix", i))
		if i < 500 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(name, block[:random.IntN(len(block))], 0o644); err != nil {
			return err
		}
	}
	before, err := nar.HashPath(ctx, "testdata/flake/library", nar.Options{})
	if err != nil {
		return err
	}
	after, err := nar.HashPath(ctx, filepath.Join(flake, "library"), nar.Options{})
	if err != nil {
		return err
	}
	lockFile := filepath.Join(flake, "system", "flake.lock")
	lock, err := os.ReadFile(lockFile)
	if err != nil {
		return err
	}
	if !strings.Contains(string(lock), before.Hash.String()) {
		return fmt.Errorf("%s does not name the hash %s", lockFile, before.Hash)
	}
	return os.WriteFile(lockFile, []byte(strings.ReplaceAll(string(lock), before.Hash.String(), after.Hash.String())), 0o644)
}
