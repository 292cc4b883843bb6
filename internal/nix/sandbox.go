package nix

import (
	"bufio"
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

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// An evaluation runs the code of the flake's author. It runs in a sandbox: a file
// system with only nix, /dev/null and the evaluated sources; no network, no other
// processes, and a user without permissions outside. Files that nix writes are in
// memory and vanish with the sandbox, unless the evaluation is for a [Scratch] store.
//
// The first process of the sandbox is this program again ([Confined]). It sets up the
// file system, drops its capabilities and runs nix. The kernel ends everything in the
// sandbox when the first process or its parent ends.
//
// If this process may create a user namespace, the sandbox needs no other privilege:
// the units that verify have no CAP_SYS_ADMIN.

const (
	// sandboxName is the argv[0] of the first process of a sandbox.
	sandboxName = "ec-verify-sandbox"
	// sandboxUser is the user and group of nix as the sandbox sees them.
	sandboxUser = 1000
	// nobody is that user outside of the sandbox.
	nobody = 65534
)

// Files inherited by the first process of a sandbox.
const (
	sandboxSpecFile   = 3 // what to do, as JSON
	sandboxStatusFile = 4 // takes a status in each line, as JSON
	sandboxMountFile  = 5 // and those after it: detached mounts
)

// Limits limits an evaluation. Zero is no limit.
type Limits struct {
	// CPU is the processor time, in whole seconds. Waiting does not count: an
	// evaluation slowed down by other programs takes longer and does not fail.
	CPU time.Duration
	// Memory is the address space of nix in bytes; Files is how much it may write to
	// files in memory.
	Memory, Files int64
	// Stall is how long nix may go without using the processor at all.
	Stall time.Duration
}

// origin is a file or directory of a store in a sandbox.
type origin struct {
	// Name is its name in the working directory of the sandbox's first process.
	// Otherwise File is the descriptor of a detached mount of it.
	Name string `json:"name"`
	File int    `json:"file"`
	// Path is its store path in the sandbox.
	Path string `json:"path"`
}

// sandboxStep is one run of a program of nix in a sandbox.
type sandboxStep struct {
	Args  []string `json:"args"` // the program's name first
	Stdin string   `json:"stdin"`
	// Quiet drops what it prints on standard output.
	Quiet bool `json:"quiet"`
}

// sandboxSpec is what the first process of a sandbox reads.
type sandboxSpec struct {
	Program  program  `json:"program"`
	StoreDir string   `json:"storeDir"`
	Origins  []origin `json:"origins"`
	// Scratch is the number of a detached mount of the directory that becomes
	// the parent of store and database; 0 for memory.
	Scratch int           `json:"scratch"`
	Steps   []sandboxStep `json:"steps"`
	CPU     uint64        `json:"cpu"`    // seconds
	Memory  uint64        `json:"memory"` // bytes
	Files   uint64        `json:"files"`  // bytes
	// User means that the sandbox has a user namespace.
	User bool `json:"user"`
}

// sandboxStatus is a line that the first process of a sandbox writes.
type sandboxStatus struct {
	// CPU is the processor time that nix has used so far, in nanoseconds.
	CPU int64 `json:"cpu,omitzero"`
	// Ended means that nix has ended, with Code or by Signal.
	Ended  bool   `json:"ended,omitzero"`
	Code   int    `json:"code,omitzero"`
	Signal string `json:"signal,omitzero"`
	// Failed is why the sandbox could not be set up.
	Failed string `json:"failed,omitzero"`
}

// sandbox is one use of a sandbox.
type sandbox struct {
	spec    sandboxSpec
	origins []sandboxOrigin
	// scratch is the directory with the store and database of the sandbox; "" for
	// memory.
	scratch string
	limits  Limits
	// used, if set, is called with the processor time that nix has used so far.
	used func(time.Duration)
}

// sandboxOrigin is a source, and its path in the sandbox.
type sandboxOrigin struct {
	EvalSource
	path closure.StorePath
}

// runSandbox runs the steps of s and returns the standard output of the last. It
// fails with [ErrConfinement] if a sandbox can't be set up, with [ErrTimeout] if nix
// exceeded its processor time, and otherwise like a run outside of a sandbox.
func (n *Nix) runSandbox(ctx context.Context, s sandbox) ([]byte, error) {
	s.spec.CPU = uint64(s.limits.CPU / time.Second)
	s.spec.Memory, s.spec.Files = uint64(s.limits.Memory), uint64(s.limits.Files)
	// The thread that makes the sandbox changes its own working directory, and
	// ends with this goroutine.
	type result struct {
		out []byte
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		out, err := n.runSandboxHere(ctx, s)
		done <- result{out, err}
	}()
	r := <-done
	return r.out, r.err
}

func (n *Nix) runSandboxHere(ctx context.Context, s sandbox) ([]byte, error) {
	// The sandbox finds the store as its working directory, since its user may
	// not be permitted to reach it by name.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("%w: unshare the working directory: %w", ErrConfinement, err)
	}
	if err := unix.Fchdir(int(s.origins[0].Store.Fd())); err != nil {
		return nil, err
	}
	out, err := n.startSandbox(ctx, s, true)
	if errors.Is(err, ErrConfinement) && os.Geteuid() == 0 {
		// Not every kernel provides user namespaces; without one, root can create the
		// others.
		again, errRoot := n.startSandbox(ctx, s, false)
		if !errors.Is(errRoot, ErrConfinement) {
			return again, errRoot
		}
		return nil, fmt.Errorf("%w; and without a user namespace: %w", err, errRoot)
	}
	return out, err
}

func (n *Nix) startSandbox(ctx context.Context, s sandbox, user bool) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.spec.User = user
	mounts, err := s.mount()
	defer func() {
		for _, m := range mounts {
			m.Close()
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfinement, err)
	}
	spec, err := memoryFile(sandboxName, s.spec)
	if err != nil {
		return nil, err
	}
	defer spec.Close()
	statuses, status, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer statuses.Close()
	defer status.Close()

	stdout := &limitedBuffer{limit: maxStdout}
	var kept tail
	stderr := &lineWriter{line: func(line string) { kept.add(printable(line)) }}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{sandboxName}
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = append([]*os.File{spec, status}, mounts...)
	cmd.SysProcAttr = sandboxAttributes(user)
	cmd.WaitDelay = n.grace
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", s.program(), ctx.Err())
		}
		return nil, fmt.Errorf("%w: %w", ErrConfinement, err)
	}
	status.Close()
	last := make(chan sandboxStatus)
	go func() { last <- s.watch(statuses, cancel) }()
	err = cmd.Wait()
	statuses.Close()
	end := <-last
	stderr.close()
	switch {
	case errors.Is(context.Cause(ctx), ErrTimeout):
		return nil, fmt.Errorf("%s: %w", s.program(), context.Cause(ctx))
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", s.program(), ctx.Err())
	case stdout.over:
		return nil, fmt.Errorf("%s: %w: %d bytes", s.program(), errOutput, stdout.limit)
	case end.Failed != "":
		return nil, fmt.Errorf("%w: %s", ErrConfinement, end.Failed)
	case !end.Ended:
		return nil, fmt.Errorf("%w: it ended by itself: %v", ErrConfinement, err)
	case end.Signal != "" && s.limits.CPU > 0 && time.Duration(end.CPU) >= s.limits.CPU:
		return nil, fmt.Errorf("%s: %w: more than %v of processor time", s.program(), ErrTimeout, s.limits.CPU)
	case end.Code != 0 || end.Signal != "":
		return nil, &ExitError{Args: s.last(), Code: end.Code, Signal: end.Signal, Stderr: kept.String()}
	}
	return stdout.buf.Bytes(), nil
}

// last is the command that a sandbox is made for.
func (s *sandbox) last() []string { return s.spec.Steps[len(s.spec.Steps)-1].Args }

func (s *sandbox) program() string { return s.last()[0] }

// mount opens what the sandbox cannot reach by itself, and lists the origins.
// The caller must close the files even if it returns an error.
func (s *sandbox) mount() (mounts []*os.File, err error) {
	open := func(dir int, name string) (int, error) {
		fd, err := unix.OpenTree(dir, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return 0, &os.PathError{Op: "open_tree", Path: name, Err: err}
		}
		mounts = append(mounts, os.NewFile(uintptr(fd), name))
		return sandboxMountFile + len(mounts) - 1, nil
	}
	if s.scratch != "" {
		if s.spec.Scratch, err = open(unix.AT_FDCWD, s.scratch); err != nil {
			return mounts, err
		}
	}
	s.spec.Origins = nil
	for _, o := range s.origins {
		at := origin{Name: o.Name, Path: string(o.path)}
		if o.Store != s.origins[0].Store {
			if at.File, err = open(int(o.Store.Fd()), o.Name); err != nil {
				return mounts, err
			}
		}
		s.spec.Origins = append(s.spec.Origins, at)
	}
	return mounts, nil
}

// watch reads the statuses of a sandbox until it ends, and returns the last. It kills
// a sandbox that does not use the processor for too long.
func (s *sandbox) watch(statuses io.Reader, cancel context.CancelCauseFunc) sandboxStatus {
	stalled := func() {
		cancel(fmt.Errorf("%w: it did not use the processor for %v", ErrTimeout, s.limits.Stall))
	}
	var timer *time.Timer
	if s.limits.Stall > 0 {
		timer = time.AfterFunc(s.limits.Stall, stalled)
		defer timer.Stop()
	}
	var last sandboxStatus
	lines := bufio.NewScanner(statuses)
	for lines.Scan() {
		var now sandboxStatus
		if err := json.Unmarshal(lines.Bytes(), &now); err != nil {
			return sandboxStatus{Failed: "its status is malformed"}
		}
		if now.CPU > last.CPU && timer != nil {
			timer.Reset(s.limits.Stall)
		}
		if s.used != nil && now.CPU > 0 {
			s.used(time.Duration(now.CPU))
		}
		last = now
	}
	return last
}

// sandboxAttributes makes a process the first of a sandbox.
func sandboxAttributes(user bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
	}
	if !user {
		return attr
	}
	outside, gid := os.Geteuid(), os.Getegid()
	if outside == 0 {
		outside, gid = nobody, nobody
		attr.GidMappingsEnableSetgroups = true
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: sandboxUser, HostID: outside, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: sandboxUser, HostID: gid, Size: 1}}
	attr.Credential = &syscall.Credential{Uid: sandboxUser, Gid: sandboxUser, NoSetGroups: outside != nobody}
	attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	return attr
}

// memoryFile returns a file in memory with v as JSON.
func memoryFile(name string, v any) (*os.File, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sandboxEnvironment is the environment of nix in a sandbox.
func sandboxEnvironment() []string {
	return []string{
		"HOME=" + sandboxHome, "TMPDIR=/tmp", "PATH=", "LC_ALL=C", "NO_COLOR=1",
		"XDG_CACHE_HOME=" + sandboxHome, "XDG_CONFIG_HOME=" + sandboxHome, "XDG_DATA_HOME=" + sandboxHome, "XDG_STATE_HOME=" + sandboxHome,
		"NIX_CONF_DIR=/none", "NIX_USER_CONF_FILES=/none",
	}
}

const sandboxHome = "/home"

// registration is what nix-store --load-db reads.
func registration(infos []closure.PathInfo) string {
	var b strings.Builder
	for _, info := range infos {
		fmt.Fprintf(&b, "%s\n%x\n%d\n%s\n%d\n", info.Path, info.NarHash[:], info.NarSize, "", len(info.References))
		for _, ref := range info.References {
			fmt.Fprintln(&b, ref)
		}
	}
	return b.String()
}

// program is the nix program with all that it needs to run.
type program struct {
	// Loader is the dynamic loader, "" for a static program.
	Loader string `json:"loader"`
	// File is the program itself.
	File string `json:"file"`
	// Libraries are the shared libraries, by the names that they are looked for.
	Libraries map[string]string `json:"libraries"`
}

// command returns the command line of p in a sandbox, args[0] being the name
// that it is called by.
func (p program) command(args []string) (path string, argv []string) {
	if p.Loader == "" {
		return sandboxNix, args
	}
	return sandboxLoader, append([]string{"ld.so", "--argv0", args[0], "--library-path", sandboxLibraries, sandboxNix}, args[1:]...)
}

// Where a sandbox has the program.
const (
	sandboxProgram   = "/program"
	sandboxNix       = sandboxProgram + "/nix"
	sandboxLoader    = sandboxProgram + "/loader"
	sandboxLibraries = sandboxProgram + "/lib"
)

// findProgram returns the nix program, and asks its loader which
// libraries it needs. It does not run the program.
func (n *Nix) findProgram(ctx context.Context) (program, error) {
	bin, err := n.dir()
	if err != nil {
		return program{}, err
	}
	file, err := filepath.EvalSymlinks(filepath.Join(bin, "nix-instantiate"))
	if err != nil {
		return program{}, err
	}
	loader, err := interpreter(file)
	if err != nil || loader == "" {
		return program{File: file}, err
	}
	p := program{Loader: loader, File: file, Libraries: make(map[string]string)}
	if n.config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, n.config.Timeout, ErrTimeout)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, loader, "--list", file)
	cmd.Env = []string{"LC_ALL=C"}
	stdout := &limitedBuffer{limit: maxLine}
	cmd.Stdout = stdout
	if err := cmd.Run(); err != nil {
		return program{}, fmt.Errorf("list the libraries of %s: %w", file, err)
	}
	for line := range strings.SplitSeq(stdout.buf.String(), "\n") {
		// "\tlibc.so.6 => /lib/libc.so.6 (0x7f…)"
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue // the loader itself, and the kernel's own
		}
		path, _, ok := strings.Cut(rest, " (")
		if !ok || !filepath.IsAbs(path) {
			return program{}, fmt.Errorf("library %s of %s is not found", name, file)
		}
		if p.Libraries[filepath.Base(name)], err = filepath.EvalSymlinks(path); err != nil {
			return program{}, err
		}
	}
	return p, nil
}
