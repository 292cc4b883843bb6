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

const inRoot = "/usr/local/bin/"

// bench is a file tree with one store.
type bench struct {
	ctx  context.Context
	root string // the file tree that commands run in
}

// prepare makes a file tree with the programs and a store of so many paths of a
// shape. The returned function removes it.
func prepare(ctx context.Context, shape string, paths int) (b bench, done func(), err error) {
	return prepareAs(ctx, []string{"store", shape, strconv.Itoa(paths)})
}

// prepareAs is prepare for a store that a command of this program makes there.
func prepareAs(ctx context.Context, command []string) (b bench, done func(), err error) {
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
	say("making a store: %s", strings.Join(command, " "))
	_, err = b.output(append([]string{"benchmark"}, command...)...)
	return b, done, err
}

// storeSize returns how many files and bytes the store has.
func (b bench) storeSize() (files int, bytes int64, err error) {
	out, err := b.output("sh", "-c", "find /nix/store -type f | wc -l; du -sb --apparent-size /nix/store | cut -f1")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(out, &files, &bytes)
	return files, bytes, err
}

var (
	ecVerify = []string{
		inRoot + "ec-verify", "--against", tag, "--release", releases, "--unsafe-unsigned",
		"--unsafe-skip", "source,eval,live", "--progress", "never",
	}
	nixVerify = []string{"sh", "-c", "exec nix --extra-experimental-features nix-command store verify --no-trust --recursive /nix/store/*-nixos-system-bench"}
)

// with returns a command with more arguments.
func with(argv []string, more ...string) []string { return slices.Concat(argv, more) }

// onOne returns a command that has one processor to run on.
func onOne(argv []string) []string {
	return with([]string{"taskset", "--cpu-list", "0", "env", "GOMAXPROCS=1"}, argv...)
}

// cat reads the same files with as many readers as ec-verify has.
func cat() []string {
	readers := strconv.Itoa(2 * runtime.NumCPU())
	return []string{"sh", "-c", "find /nix/store -type f -print0 | xargs -0 -n 256 -P " + readers + " cat >/dev/null"}
}

// An entry is a command that is measured against others in the same rounds.
type entry struct {
	name string
	argv []string
}

// rounds is [inTurns] in the root.
func (b bench) rounds(n int, before func() error, entries []entry) (measured, error) {
	return inTurns(b.cost, n, before, entries)
}

// inTurns measures the entries in turn, n times, so that a disturbance hits all of them;
// every second round goes backwards, so that a slow change of the machine favours none.
func inTurns(run func(argv []string) (cost, error), n int, before func() error, entries []entry) (measured, error) {
	got := make(measured)
	for i := range n {
		say("round %d of %d", i+1, n)
		turns := slices.Clone(entries)
		if i%2 == 1 {
			slices.Reverse(turns)
		}
		for _, e := range turns {
			if err := before(); err != nil {
				return nil, err
			}
			one, err := run(e.argv)
			if err != nil {
				return nil, err
			}
			got[e.name] = append(got[e.name], one)
		}
	}
	return got, nil
}

// warm reads the store once, so that the page cache has it, and then changes
// nothing between commands.
func (b bench) warm() (before func() error, err error) {
	say("warming the page cache")
	_, err = b.cost(cat())
	return func() error { return nil }, err
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
	// The root is a mount of its own: without one, what is mounted there is not known.
	const enter = `mount --bind "$0" "$0"; mount -t proc proc "$0/proc"; exec chroot "$0" env PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LC_ALL=C "$@"`
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
func (b bench) machine() ([]string, error) { return describe(b.output) }

// describe describes the machine on which output runs commands.
func describe(output func(argv ...string) (string, error)) ([]string, error) {
	out, err := output("sh", "-c", `grep -m1 '^model name' /proc/cpuinfo | cut -d: -f2
		grep -cw sha_ni /proc/cpuinfo
		awk '/MemTotal/ { print $2 }' /proc/meminfo
		uname -r
		nix --version
		df --output=fstype /nix/store | tail -n 1`)
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
		when(),
	}, nil
}

// when returns the date, and the commit of this repository that is measured. A changed
// docs/benchmarks.md does not make it "dirty": each benchmark writes its part of that.
func when() string {
	commit := "unknown"
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	if exec.Command("git", "diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)docs/benchmarks.md").Run() != nil {
		commit += "-dirty"
	}
	return fmt.Sprintf("%s, commit %s", time.Now().UTC().Format("2006-01-02"), commit)
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "benchmark: "+format+"\n", args...)
}
