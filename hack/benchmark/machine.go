package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/pkg/closure"
)

const (
	machineHost   = "bench-machine"
	machineRounds = 15
	crowdRounds   = 5
	// machineGoal limits the cost of a run with the tier, relative to one without it.
	machineGoal = 1.10
	machineRSS  = 64 << 20 // bytes

	// The numbers of a crowded machine.
	crowdFiles, crowdProcesses, crowdMounts = 100_000, 2_000, 5_000
	crowdDir                                = "/srv/crowd"
	crowdMountDir                           = "/run/crowd"

	systemBase    = "/root/base"
	machineConfig = "/root/machine.json"
)

// driveMachine measures the machine tier beside the contents of a realistic store, and
// on a crowded machine, and writes its part of the document if the store is as large
// as that says.
func driveMachine(ctx context.Context, paths int) error {
	h := benchHost{ctx, machineHost}
	if err := h.testhost("up", machineHost, "--runner", "--owner", strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	defer func() { _ = h.testhost("down", machineHost) }()
	if err := h.pushPrograms(); err != nil {
		return err
	}
	say("making a system of %d paths", paths)
	if _, err := h.exec("ec-verify", "manifest", "create", "/etc/every-channel/flake#testhost", "--out", systemBase, "--tag", tag); err != nil {
		return err
	}
	if _, err := h.exec("benchmark", "system", strconv.Itoa(paths)); err != nil {
		return err
	}
	toplevel, err := h.exec("sh", "-c", "echo /nix/store/*-nixos-system-bench")
	if err != nil {
		return err
	}
	if err := h.testhost("activate", machineHost, strings.TrimSpace(toplevel)); err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "hack/testhost", "path", machineHost).Output()
	if err != nil {
		return err
	}
	if err := testhost.ShowUpper(strings.TrimSpace(string(root))); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(strings.TrimSpace(string(root)), machineConfig), machineAsked(), 0o600); err != nil {
		return err
	}
	machine, err := describe(h.exec)
	if err != nil {
		return err
	}
	const alone, with, crowdedAlone, crowded = "contents", "contents and machine", "contents, crowded", "contents and machine, crowded"
	asked := slices.Concat(ecVerify, []string{"--config", machineConfig})
	pair := []entry{{alone, ecVerify}, {with, asked}}
	nothing := func() error { return nil }
	if _, err := inTurns(h.cost, 1, nothing, pair); err != nil {
		return err // the page cache was cold
	}
	got, err := inTurns(h.cost, machineRounds, nothing, pair)
	if err != nil {
		return err
	}
	say("crowding the machine")
	if _, err := h.exec("benchmark", "crowd"); err != nil {
		return err
	}
	crowd, err := inTurns(h.cost, crowdRounds, nothing, []entry{{crowdedAlone, ecVerify}, {crowded, asked}})
	if err != nil {
		return err
	}
	maps.Copy(got, crowd)
	var text strings.Builder
	fmt.Fprintf(&text, machineHeading+`

Written by `+"`go run ./hack/benchmark machine`"+`: a run that hashes a realistic store of %d
paths, and the same run with all parts of the tier machine (%s),
in turns, every second round the other way round, on a test host, warm. Medians of %d
rounds; the ratio of the pairs is the median of each round's own. A crowded machine has
%d files in the upper layer of its root, %d processes and %d mounts more; %d rounds.

%s
| | wall | least | CPU | least | peak memory |
|---|---|---|---|---|---|
`, paths, strings.Join(running.Parts(), ", "), machineRounds, crowdFiles, crowdProcesses, crowdMounts, crowdRounds, list(machine))
	p := part{got: got}
	for _, name := range []string{alone, with, crowdedAlone, crowded} {
		p.order = append(p.order, entry{name: name})
	}
	for _, row := range p.times() {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
	}
	text.WriteString("\n" + goalTable([]goal{
		ratio("wall time with the tier machine, of that of contents alone", got[with], got[alone], wall, machineGoal),
		plain("the same, of the pairs", paired(got[with], got[alone], wall), machineGoal),
		plain("peak memory on a crowded machine, of 64 MiB", float64(peak(got[crowded]))/machineRSS, 1),
	}))
	fmt.Print(text.String())
	if paths != realPaths {
		return nil
	}
	return writePart(machineHeading, text.String())
}

// machineAsked returns a configuration that asks for all parts. What a test host has
// of Debian, and a benchmark has put there, is allowed.
func machineAsked() []byte {
	type exception struct {
		Match  string `json:"match"`
		Reason string `json:"reason"`
	}
	var allow []exception
	for _, name := range slices.Concat(testhost.Debian(), []string{"/root/", "/srv/", inRoot + "ec-verify", inRoot + "benchmark"}) {
		allow = append(allow, exception{name, "the benchmark"})
	}
	data, err := json.Marshal(map[string]any{"machine": map[string]any{"parts": running.Parts(), "allow": allow}})
	if err != nil {
		panic(err) // it is all strings
	}
	return data
}

// makeSystem makes a system that has so many paths beside those of the one that runs.
func makeSystem(ctx context.Context, paths int) error {
	data, err := os.ReadFile(filepath.Join(systemBase, release.ManifestName("testhost")))
	if err != nil {
		return err
	}
	base, err := closure.DecodeManifest(data)
	if err != nil {
		return err
	}
	return makeStore(ctx, shapes["real"], paths, base)
}

// makeCrowd fills the machine that it runs on.
func makeCrowd(ctx context.Context) error {
	for i := range crowdFiles {
		dir := filepath.Join(crowdDir, fmt.Sprint(i%100))
		if i < 100 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%06d", i)), nil, 0o644); err != nil {
			return err
		}
	}
	for i := range crowdMounts {
		dir := filepath.Join(crowdMountDir, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	for range crowdProcesses {
		// They are not to end with this program.
		if err := exec.CommandContext(context.WithoutCancel(ctx), "setsid", "sleep", "3600").Start(); err != nil {
			return err
		}
	}
	return nil
}
