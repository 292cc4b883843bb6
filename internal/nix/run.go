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
	// maxStdout bounds what a program may print; the longest that is asked for
	// is the metadata of a flake with its lock file.
	maxStdout = 16 << 20
	// graceTime is how long Nix may take to end once it was asked to, before it
	// is killed.
	graceTime = 10 * time.Second
)

// command is one run of one program.
type command struct {
	program string
	args    []string
	stdin   io.Reader
	// isolated runs are those on a machine under examination: without its
	// nix.conf and, as far as permitted, without a network.
	isolated bool
	// confined runs build or fetch: see [confinement]. Those that build are
	// isolated as well.
	confined *confinement
	// temp is where the run's private directory is made; "" for the usual place.
	temp string
	// stateless runs read and write no files, and have no such directory.
	stateless bool

	timeout time.Duration
	// line, if set, is given each line of standard error and says what of it is
	// kept for an error.
	line func(string) (keep string, ok bool)
}

// inherited are the variables that a run that is not isolated gets from our own
// environment: where the store is, what Nix is configured with, and how to get
// at the network.
var inherited = []string{
	"NIX_REMOTE", "NIX_CONF_DIR", "NIX_CONFIG", "NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
}

// run runs c to its end and returns what it printed on standard output.
func (n *Nix) run(ctx context.Context, c command) ([]byte, error) {
	bin, err := n.dir()
	if err != nil {
		return nil, err
	}
	private := "/none"
	if !c.stateless {
		if private, err = os.MkdirTemp(c.temp, "ec-verify-nix-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(private)
		if err := os.Mkdir(filepath.Join(private, "tmp"), 0o700); err != nil {
			return nil, err
		}
	}
	runCtx := ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		runCtx, cancel = context.WithTimeoutCause(ctx, c.timeout, ErrTimeout)
		defer cancel()
	}

	stdout := &limitedBuffer{limit: maxStdout}
	var kept tail
	stderr := &lineWriter{line: func(line string) {
		keep, ok := line, true
		if c.line != nil {
			keep, ok = c.line(line)
		}
		if ok {
			// A message of the JSON log has several lines.
			for part := range strings.SplitSeq(keep, "\n") {
				kept.add(printable(part))
			}
		}
	}}
	newCommand := func(cloneflags uintptr) *exec.Cmd {
		cmd := exec.CommandContext(runCtx, filepath.Join(bin, c.program), c.args...)
		cmd.Dir = private
		if c.stateless {
			cmd.Dir = "/"
		}
		cmd.Env = environment(bin, private, c.isolated)
		cmd.Stdin = c.stdin
		cmd.Stdout = stdout
		cmd.Stderr = stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Setpgid:    true,
			Pdeathsig:  syscall.SIGTERM,
			Cloneflags: cloneflags,
		}
		// The group, since Nix has helpers of its own.
		cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
		cmd.WaitDelay = n.grace
		return cmd
	}

	// Pdeathsig is sent when the thread that started the child ends, not the
	// process; so the thread is kept until the child has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var cloneflags uintptr
	if c.isolated {
		cloneflags = unix.CLONE_NEWNET
	}
	cmd := newCommand(cloneflags)
	if c.confined != nil {
		started, err := c.confined.apply(cmd)
		if err != nil {
			return nil, err
		}
		defer started()
	}
	err = cmd.Start()
	if c.confined != nil && err != nil && runCtx.Err() == nil {
		return nil, fmt.Errorf("%w: %w", ErrConfinement, err)
	}
	if c.isolated && err != nil && runCtx.Err() == nil {
		// Not permitted, here or in this kernel. Settings and a proxy that is
		// not there keep Nix off the network as well, if less strictly.
		cmd = newCommand(0)
		err = cmd.Start()
	}
	if err == nil {
		err = cmd.Wait()
		if runCtx.Err() != nil {
			// What did not end with its parent.
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
	}
	stderr.close()
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		return stdout.buf.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", c.program, ctx.Err())
	case runCtx.Err() != nil:
		return nil, fmt.Errorf("%s: %w: more than %v", c.program, context.Cause(runCtx), c.timeout)
	case stdout.over:
		return nil, fmt.Errorf("%s: %w: %d bytes", c.program, errOutput, stdout.limit)
	case errors.As(err, &exit):
		e := &ExitError{Args: append([]string{c.program}, c.args...), Code: exit.ExitCode(), Stderr: kept.String()}
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			e.Signal = status.Signal().String()
		}
		return nil, e
	}
	return nil, fmt.Errorf("%s: %w", c.program, err)
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
		// A file that does not exist: no settings of a user.
		"NIX_USER_CONF_FILES=" + in("none"),
	}
	if isolated {
		// Port 9 is for discarding; nothing listens there.
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
	return env
}
