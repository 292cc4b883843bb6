package nix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxStdout limits the output of a program; the longest expected is the metadata
	// of a flake with its lock file.
	maxStdout = 16 << 20
	// graceTime is how long Nix may take to end after SIGTERM, before it is killed.
	graceTime = 10 * time.Second
)

// command is one run of one program.
type command struct {
	program string
	args    []string
	stdin   io.Reader
	// out, unless nil, receives the program's standard output, of any size; the run
	// then returns none of it.
	out io.Writer
	// isolated runs are those on an examined machine: without its nix.conf and, as
	// far as permitted, without a network.
	isolated bool
	// confined runs build or fetch: see [confinement]. Those that build are
	// isolated as well.
	confined *confinement
	// temp is the parent of the run's private directory; "" for the default.
	temp string
	// stateless runs read and write no files, and need no private directory.
	stateless bool

	timeout time.Duration
	// memory bounds the writable memory of each of its processes, in bytes; 0 is no
	// bound.
	memory uint64
	// line, if set, is called with each line of standard error and returns what to
	// keep of it for an error.
	line func(string) (keep string, ok bool)
}

// inherited are the environment variables passed to runs that are not isolated: the
// store, Nix's configuration, and access to the network.
var inherited = []string{
	"NIX_REMOTE", "NIX_CONF_DIR", "NIX_CONFIG", "NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
}

// run runs c to its end and returns its standard output.
func (n *Nix) run(ctx context.Context, c command) ([]byte, error) {
	bin, err := n.dir()
	if err != nil {
		return nil, err
	}
	private, remove, err := c.privateDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	limited := ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, c.timeout, ErrTimeout)
		defer cancel()
	}
	p := &process{command: c, bin: bin, private: private, grace: n.grace, stdout: limitedBuffer{limit: maxStdout}}
	p.stderr.line = p.keep

	// Pdeathsig is sent when the thread that started the child ends, not the process;
	// so the thread is kept until the child has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := p.start(limited)
	if errors.Is(err, ErrConfinement) {
		return nil, err
	}
	if err == nil {
		err = cmd.Wait()
		if limited.Err() != nil {
			// Kill what did not end with its parent.
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
	}
	p.stderr.close()
	return p.result(ctx, limited, err)
}

// privateDir makes the directory of a run, and returns how to remove it.
func (c *command) privateDir() (dir string, remove func(), err error) {
	if c.stateless {
		return "/none", func() {}, nil
	}
	if dir, err = os.MkdirTemp(c.temp, "ec-verify-nix-"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// process is a running command with its output.
type process struct {
	command
	bin     string // directory of Nix's programs
	private string // directory of this run
	grace   time.Duration
	stdout  limitedBuffer
	stderr  lineWriter
	kept    tail // of standard error, for an error
}

// keep records a line of standard error for an error message.
func (p *process) keep(line string) {
	if p.line != nil {
		var ok bool
		if line, ok = p.line(line); !ok {
			return
		}
	}
	// A message of the JSON log has several lines.
	for part := range strings.SplitSeq(line, "\n") {
		p.kept.add(printable(part))
	}
}

// start starts the process: confined, or without a network if permitted. If it can't
// be confined, the error is an [ErrConfinement] and it is not started.
func (p *process) start(ctx context.Context) (*exec.Cmd, error) {
	cloneflags := uintptr(0)
	if p.isolated {
		cloneflags = unix.CLONE_NEWNET
	}
	cmd := p.prepare(ctx, cloneflags)
	if p.confined != nil {
		started, err := p.confined.apply(cmd)
		if err != nil {
			return nil, err
		}
		defer started()
	}
	err := cmd.Start()
	switch {
	case err == nil || ctx.Err() != nil:
	case p.confined != nil:
		err = fmt.Errorf("%w: %w", ErrConfinement, err)
	case p.isolated:
		// Not permitted, here or by this kernel. Settings and an unreachable proxy
		// also keep Nix off the network, though less strictly.
		cmd = p.prepare(ctx, 0)
		err = cmd.Start()
	}
	if err == nil && p.memory > 0 {
		// One that has ended already needs no limit.
		_ = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: p.memory, Max: p.memory}, nil)
	}
	return cmd, err
}

// prepare returns the process, which is not started.
func (p *process) prepare(ctx context.Context, cloneflags uintptr) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, p.program), p.args...)
	cmd.Dir = p.private
	if p.stateless {
		cmd.Dir = "/"
	}
	cmd.Env = environment(p.bin, p.private, p.isolated)
	cmd.Stdin = p.stdin
	cmd.Stdout = &p.stdout
	if p.out != nil {
		cmd.Stdout = p.out
	}
	cmd.Stderr = &p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A session of its own has no terminal: what asks there, such as ssh about an
		// unknown host key, would be stopped, and wait without a word.
		Setsid:     true,
		Pdeathsig:  syscall.SIGTERM,
		Cloneflags: cloneflags,
	}
	// The session is a group, since Nix has helpers of its own.
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = p.grace
	return cmd
}

// result classifies how the process ended: err is from starting it or waiting for it,
// limited is the context of both, and ctx the caller's.
func (p *process) result(ctx, limited context.Context, err error) ([]byte, error) {
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		return p.stdout.buf.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", p.program, ctx.Err())
	case limited.Err() != nil:
		return nil, fmt.Errorf("%s: %w: more than %v", p.program, context.Cause(limited), p.timeout)
	case p.stdout.over:
		return nil, fmt.Errorf("%s: %w: %d bytes", p.program, errOutput, p.stdout.limit)
	case errors.As(err, &exit):
		e := &ExitError{Args: append([]string{p.program}, p.args...), Code: exit.ExitCode(), Stderr: p.kept.String()}
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			e.Signal = status.Signal().String()
		}
		return nil, e
	}
	return nil, fmt.Errorf("%s: %w", p.program, err)
}

// environment returns all variables of a run; nothing else is inherited.
func environment(bin, private string, isolated bool) []string {
	in := func(name string) string { return filepath.Join(private, name) }
	env := []string{
		"HOME=" + in("home"),
		"XDG_CACHE_HOME=" + in("cache"),
		"XDG_CONFIG_HOME=" + in("config"),
		"XDG_DATA_HOME=" + in("data"),
		"XDG_STATE_HOME=" + in("state"),
		"TMPDIR=" + in("tmp"),
		"LC_ALL=C",
		"NO_COLOR=1",
		// This file does not exist, so there are no user settings.
		"NIX_USER_CONF_FILES=" + in("none"),
	}
	if isolated {
		// Port 9 is the discard service; nothing listens there.
		const nowhere = "http://127.0.0.1:9"
		return append(env, "PATH="+bin, "NIX_CONF_DIR="+in("none"),
			"http_proxy="+nowhere, "https_proxy="+nowhere, "all_proxy="+nowhere, "HTTPS_PROXY="+nowhere, "ALL_PROXY="+nowhere, "no_proxy=")
	}
	env = append(env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	// Nobody is there to answer ssh. Of an option that is given twice it takes the first.
	return append(env, "NIX_SSHOPTS="+strings.TrimSpace("-oBatchMode=yes "+os.Getenv("NIX_SSHOPTS")))
}
