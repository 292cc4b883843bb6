package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	warmRounds = 5
	coldRounds = 3
	inRoot     = "/usr/local/bin/"
)

// bench is one run of everything.
type bench struct {
	ctx  context.Context
	root string // the file tree that commands run in
}

// results are the medians of all rounds.
type results struct {
	Machine                          []string
	Files                            int
	Bytes                            int64
	ECWarm, NixWarm, Memory          cost
	ECCold, CatCold, NixCold, ECDisk cost
}

// prepare makes a file tree with the programs and a store of so many packages.
// The returned function removes it.
func prepare(ctx context.Context, packages int) (b bench, done func(), err error) {
	base, err := exec.CommandContext(ctx, "hack/testhost", "build").Output()
	if err != nil {
		return b, nil, fmt.Errorf("hack/testhost build: %w", err)
	}
	// Beside the base, and so on a disk rather than on a file system in memory.
	dir, err := os.MkdirTemp(filepath.Dir(strings.TrimSpace(string(base))), "bench-")
	if err != nil {
		return b, nil, err
	}
	done = func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			done()
		}
	}()
	b = bench{ctx, filepath.Join(dir, "root")}
	// A plain copy: the layers of a test host would be measured as well.
	if err := b.command("cp", "-a", "--reflink=auto", strings.TrimSpace(string(base)), b.root); err != nil {
		return b, nil, err
	}
	for name, pkg := range map[string]string{"ec-verify": "./cmd/ec-verify", "benchmark": "./hack/benchmark"} {
		if err := b.command("env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", b.root+inRoot+name, pkg); err != nil {
			return b, nil, err
		}
	}
	say("making a store of %d packages", packages)
	_, err = b.output("benchmark", "store", strconv.Itoa(packages))
	return b, done, err
}

// storeSize returns how many files and bytes the store has.
func (b bench) storeSize() (files int, bytes int64, err error) {
	out, err := b.output("sh", "-c", "find /nix/store/*-package-* -type f | wc -l; du -sb --apparent-size /nix/store | cut -f1")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(out, &files, &bytes)
	return files, bytes, err
}

func drive(ctx context.Context) error {
	b, done, err := prepare(ctx, storePackages)
	if err != nil {
		return err
	}
	defer done()
	r, err := b.rounds()
	if err != nil {
		return err
	}
	fmt.Print(r.table())
	return writeDocument(func(_, neighbour string) (string, string) { return r.document(), neighbour })
}

var (
	ecVerify = []string{
		inRoot + "ec-verify", "--against", "boot-bench", "--release", "/srv/releases", "--unsafe-unsigned",
		"--unsafe-skip", "source,eval,live", "--progress", "never",
	}
	nixVerify = []string{"sh", "-c", "exec nix --extra-experimental-features nix-command store verify --no-trust --recursive /nix/store/*-nixos-system-bench"}
)

func (b bench) rounds() (*results, error) {
	r := &results{}
	readers := strconv.Itoa(2 * runtime.NumCPU()) // as many as ec-verify has
	cat := []string{"sh", "-c", "find /nix/store/*-package-* -type f -print0 | xargs -0 -n 256 -P " + readers + " cat >/dev/null"}
	var err error
	if r.Files, r.Bytes, err = b.storeSize(); err != nil {
		return nil, err
	}
	memory := []string{inRoot + "benchmark", "sha256", strconv.FormatInt(r.Bytes, 10)}
	// What each warm round measures, one after the other, so that what disturbs
	// one disturbs its peer as well.
	warm := map[*cost][]string{&r.ECWarm: ecVerify, &r.NixWarm: nixVerify, &r.Memory: memory}
	cold := map[*cost][]string{&r.ECCold: ecVerify, &r.CatCold: cat, &r.NixCold: nixVerify, &r.ECDisk: append(slices.Clone(ecVerify), "--read", "disk")}
	say("warming the page cache")
	if _, err := b.cost(cat); err != nil {
		return nil, err
	}
	if err := b.medians(warm, []*cost{&r.ECWarm, &r.NixWarm, &r.Memory}, warmRounds, func() error { return nil }); err != nil {
		return nil, err
	}
	if err := b.medians(cold, []*cost{&r.CatCold, &r.ECCold, &r.NixCold, &r.ECDisk}, coldRounds, dropCaches); err != nil {
		return nil, err
	}
	r.Machine, err = b.machine()
	return r, err
}

func (b bench) medians(what map[*cost][]string, order []*cost, rounds int, before func() error) error {
	got := make(map[*cost][]cost)
	for i := range rounds {
		say("round %d of %d", i+1, rounds)
		for _, c := range order {
			if err := before(); err != nil {
				return err
			}
			one, err := b.cost(what[c])
			if err != nil {
				return err
			}
			got[c] = append(got[c], one)
		}
	}
	for c, all := range got {
		*c = cost{
			Wall: median(all, func(c cost) time.Duration { return c.Wall }),
			CPU:  median(all, func(c cost) time.Duration { return c.CPU }),
			RSS:  slices.MaxFunc(all, func(a, b cost) int { return int(a.RSS - b.RSS) }).RSS,
		}
	}
	return nil
}

func median(all []cost, of func(cost) time.Duration) time.Duration {
	values := make([]time.Duration, 0, len(all))
	for _, c := range all {
		values = append(values, of(c))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (b bench) cost(argv []string) (cost, error) {
	out, err := b.output(append([]string{"benchmark", "run"}, argv...)...)
	if err != nil {
		return cost{}, err
	}
	var c cost
	return c, json.Unmarshal([]byte(out), &c)
}

// dropCaches makes the next read come from the disk.
func dropCaches() error {
	if out, err := exec.Command("sync").CombinedOutput(); err != nil {
		return fmt.Errorf("sync: %w\n%s", err, out)
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// output runs a command in the root, in namespaces that end with it.
func (b bench) output(argv ...string) (string, error) {
	const enter = `mount -t proc proc "$0/proc"; exec chroot "$0" env PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LC_ALL=C "$@"`
	args := append([]string{"--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-euc", enter, b.root}, argv...)
	cmd := exec.CommandContext(b.ctx, "unshare", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%q: %w", argv, err)
	}
	return string(out), nil
}

func (b bench) command(argv ...string) error {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%q: %w", argv, err)
	}
	return nil
}

// machine describes what the numbers were made on.
func (b bench) machine() ([]string, error) {
	out, err := b.output("sh", "-c", `grep -m1 '^model name' /proc/cpuinfo | cut -d: -f2
		grep -cw sha_ni /proc/cpuinfo
		awk '/MemTotal/ { print $2 }' /proc/meminfo
		uname -r
		nix --version
		stat -f -c %T /nix/store`)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 6 {
		return nil, fmt.Errorf("describe the machine: got %q", out)
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64)
	if err != nil {
		return nil, err
	}
	sha := "with SHA instructions"
	if strings.TrimSpace(lines[1]) == "0" {
		sha = "without SHA instructions"
	}
	return []string{
		fmt.Sprintf("%d × %s, %s", runtime.NumCPU(), strings.TrimSpace(lines[0]), sha),
		fmt.Sprintf("%d GiB of memory, Linux %s, store on %s", (kib+512<<10)>>20, strings.TrimSpace(lines[3]), strings.TrimSpace(lines[5])),
		fmt.Sprintf("%s, %s", runtime.Version(), strings.TrimSpace(lines[4])),
		time.Now().UTC().Format("2006-01-02"),
	}, nil
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "benchmark: "+format+"\n", args...)
}
