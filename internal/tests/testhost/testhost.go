// Package testhost gives tests a machine of their own: its own systemd,
// journald, nix daemon and store, root in it, and no network. It is a Go face
// of hack/testhost, which says what such a machine is; nothing but tests and
// benchmarks may import it.
//
// A host takes about a second to start and far less to end, so a test case
// that damages its store starts a host rather than sharing one and repairing
// it. Cases that share one go back to a known disk by [Host.Checkpoint] and
// [Host.Restore], which cost a boot.
//
// The methods of [Host] fail the test by t.Fatal and so belong in the test's
// own goroutine, but for [Host.Exec] and [Host.ExecInput], which report what
// the command did and may be called from any.
package testhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// RequireEnv is the name of an environment variable. If it is "1", a test fails instead of
// being skipped on a machine that can't run hosts.
const RequireEnv = "EC_VERIFY_REQUIRE_TESTHOST"

const (
	startTimeout = 25 * time.Minute // the first ever makes the base system
	hostTimeout  = 15 * time.Minute // any other step
	exitCannot   = 77               // of hack/testhost: not on this machine
)

// notes is where a runner notes what was embedded and built.
const notes = "/var/lib/ec-verify-testhost"

// Options say what host to start. The zero value is a bare one of the default
// suite.
type Options struct {
	// Suite is the Debian suite that the host is made of, and thereby its
	// version of nix: "trixie" (2.26), which empty means, or "sid".
	Suite string

	// With are Debian packages that the host has beside those of every host.
	With []string

	// Layers are directories with files that the host has over those of its system, the
	// first one uppermost: quicker than [Host.Push] for what many hosts have. Owners and
	// modes are those of the files; the host changes copies. They must not change before
	// the host has ended.
	Layers []string

	// Runner starts the host as a runner of Flake, prepared once and kept: much quicker
	// than MakeRunner. Flake and Configuration are what that takes; if they are empty,
	// testdata/flake and its testhost.
	Runner               bool
	Flake, Configuration string
}

// A Host is a running test host.
type Host struct {
	t      testing.TB
	name   string
	script string   // hack/testhost
	root   string   // the host's root directory, from outside
	way    []string // what comes before a command to run in it
}

var started atomic.Int64

// Start starts a host that ends with the test. It skips the test in short mode
// and where the machine can have no such hosts, unless [RequireEnv] is set.
func Start(t testing.TB, opts Options) *Host {
	t.Helper()
	require := os.Getenv(RequireEnv) == "1"
	if testing.Short() && !require {
		t.Skip("test host: not in short mode")
	}
	script, err := findScript()
	if err != nil {
		t.Fatalf("test host: %v", err)
	}
	h := &Host{
		t:      t,
		name:   fmt.Sprintf("test-%d-%d", os.Getpid(), started.Add(1)),
		script: script,
	}
	// The owner lets a later run end the host if this process is killed.
	args := []string{"up", h.name, "--owner", strconv.Itoa(os.Getpid())}
	if opts.Suite != "" {
		args = append(args, "--suite", opts.Suite)
	}
	if len(opts.With) > 0 {
		args = append(args, "--with", strings.Join(opts.With, ","))
	}
	for _, dir := range opts.Layers {
		args = append(args, "--layer", dir)
	}
	if opts.Runner {
		args = append(args, "--runner")
	}
	if opts.Flake != "" {
		args = append(args, "--flake", opts.Flake)
	}
	if opts.Configuration != "" {
		args = append(args, "--configuration", opts.Configuration)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	_, stderr, code := h.command(ctx, nil, args...)
	switch {
	case code == exitCannot && !require:
		t.Skipf("test host: %s", lastLine(stderr))
	case code != 0:
		t.Fatalf("start test host: exit status %d\n%s", code, stderr)
	}
	t.Cleanup(func() {
		if _, stderr, code := h.bounded("down", h.name); code != 0 {
			t.Errorf("end test host %s: exit status %d\n%s", h.name, code, stderr)
		}
	})
	h.findRoot()
	return h
}

// Name is the host's name to hack/testhost.
func (h *Host) Name() string { return h.name }

// Exec runs a command in the host as root, with a plain environment and no standard input.
// The code is 128+n if signal n ended it. When ctx ends, a signal ends the command and its
// children.
func (h *Host) Exec(ctx context.Context, argv ...string) (stdout, stderr string, code int) {
	return h.ExecInput(ctx, nil, argv...)
}

// ExecInput is Exec with a standard input.
func (h *Host) ExecInput(ctx context.Context, stdin io.Reader, argv ...string) (stdout, stderr string, code int) {
	cgroup, err := os.Open(h.root + "/sys/fs/cgroup/exec")
	if err != nil {
		return "", fmt.Sprintf("test host %s is not up: %v\n", h.name, err), 1
	}
	defer cgroup.Close()
	return run(ctx, stdin, &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}, slices.Concat(h.way, argv))
}

// Run runs a command that must succeed, and returns its standard output
// without the last newline.
func (h *Host) Run(argv ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hostTimeout)
	defer cancel()
	stdout, stderr, code := h.Exec(ctx, argv...)
	if code != 0 {
		h.t.Fatalf("in test host: %q: exit status %d\n%s", argv, code, stderr)
	}
	return strings.TrimSuffix(stdout, "\n")
}

// Path is the path from outside of the file that is at p inside. Links among
// p's directories are followed as they lead inside; a link at p is not.
func (h *Host) Path(p string) string {
	h.t.Helper()
	if !filepath.IsAbs(p) {
		h.t.Fatalf("test host: path %q is not absolute", p)
	}
	dir, name := filepath.Split(p)
	// By the host itself: from outside an absolute link would lead out of it.
	dir = strings.TrimSuffix(h.Run("realpath", "-mz", "--", dir), "\x00")
	return filepath.Join(h.root, dir, name)
}

// Push copies a file or tree of this machine to dst in the host, over what is
// there. Owners become root, modes stay.
func (h *Host) Push(src, dst string) {
	h.t.Helper()
	h.must("push", h.name, src, dst)
}

// MakeRunner makes the host a runner of the flake in the directory dir, laid
// out as testdata/flake is: runs its script prepare, if it has one, registers its
// source, builds its configurations and activates the one called configuration.
func (h *Host) MakeRunner(dir, configuration string) {
	h.t.Helper()
	h.must("runner", h.name, dir, configuration)
}

// A Runner describes the source and the systems of a host that is a runner.
type Runner struct {
	Source     string            // store path of the embedded flake
	SourceHash string            // its NAR hash, in SRI form
	Systems    map[string]System // by configuration
}

// FlakeRef is the locked reference of the embedded flake.
func (r Runner) FlakeRef() string { return "path:" + r.Source + "?narHash=" + r.SourceHash }

// A System is one built configuration of a flake.
type System struct {
	DrvPath  string
	Toplevel string
}

// Runner describes a host that [Host.MakeRunner] made.
func (h *Host) Runner() Runner {
	h.t.Helper()
	r := Runner{Systems: make(map[string]System)}
	if _, err := fmt.Sscan(h.readNote("source"), &r.Source, &r.SourceHash); err != nil {
		h.t.Fatalf("test host: read what it runs: %v", err)
	}
	for line := range strings.Lines(h.readNote("systems")) {
		var name string
		var s System
		if _, err := fmt.Sscan(line, &name, &s.DrvPath, &s.Toplevel); err != nil {
			h.t.Fatalf("test host: read its systems: %q: %v", line, err)
		}
		r.Systems[name] = s
	}
	return r
}

func (h *Host) readNote(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.root, notes, name))
	if err != nil {
		h.t.Fatalf("test host: it is no runner: %v", err)
	}
	return string(text)
}

// Activate makes current the host's current system and its profile's newest,
// and booted the one that it booted, with the init= of its /proc/cmdline.
func (h *Host) Activate(current, booted string) {
	h.t.Helper()
	h.must("activate", h.name, current, booted)
}

// Checkpoint freezes the host's disk for [Host.Restore] and boots it anew: its processes,
// and the contents of /run and /tmp, do not survive.
func (h *Host) Checkpoint() {
	h.t.Helper()
	h.must("checkpoint", h.name)
	h.findRoot()
}

// Restore boots the host anew with its disk as of the last Checkpoint, or as
// it was started.
func (h *Host) Restore() {
	h.t.Helper()
	h.must("restore", h.name)
	h.findRoot()
}

// Reboot has the host shut down as a machine does, which ends its units one after
// the other, and boots it again with the disk that it has then.
func (h *Host) Reboot() {
	h.t.Helper()
	h.must("reboot", h.name)
	h.findRoot()
}

func (h *Host) findRoot() {
	h.t.Helper()
	lines := strings.Split(strings.TrimSuffix(h.must("way", h.name), "\n"), "\n")
	h.root, h.way = lines[0], lines[1:]
}

func (h *Host) must(args ...string) string {
	h.t.Helper()
	stdout, stderr, code := h.bounded(args...)
	if code != 0 {
		h.t.Fatalf("testhost %s: exit status %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// bounded is for what runs in a test's cleanup too, when its context is done.
func (h *Host) bounded(args ...string) (stdout, stderr string, code int) {
	ctx, cancel := context.WithTimeout(context.Background(), hostTimeout)
	defer cancel()
	return h.command(ctx, nil, args...)
}

func (h *Host) command(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	return run(ctx, stdin, &syscall.SysProcAttr{Setpgid: true}, append([]string{h.script}, args...))
}

// run runs a command in a process group of its own: ending that reaches what it started
// in a host as well.
func run(ctx context.Context, stdin io.Reader, attr *syscall.SysProcAttr, argv []string) (stdout, stderr string, code int) {
	var out, diag bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &diag
	cmd.SysProcAttr = attr
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Exited():
		code = exit.ExitCode()
	case errors.As(err, &exit):
		code = 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
	default:
		code = -1
		fmt.Fprintf(&diag, "%v\n", err)
	}
	return out.String(), diag.String(), code
}

// findScript looks for hack/testhost from the working directory upwards, which
// in a test is the directory of its package.
func findScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "hack", "testhost")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no directory above the test's has hack/testhost")
		}
		dir = filepath.Dir(dir)
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
