package nix

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
)

// A run that builds or fetches is confined: the nix program and everything that it
// starts or mounts are in process, mount and network namespaces of their own; a run
// that fetches keeps the machine's network. Nix is the first process of its
// namespace, so the kernel kills all builders with it, whatever their user or process
// group. Nix gets SIGKILL when this process ends, however it ends. Only files need to
// be cleaned up.
//
// A process inside the namespaces must set them up before it becomes nix. That
// process is this program again; see [Confined].

// confinedName is the argv[0] of that process.
const confinedName = "ec-verify-confined-nix"

// confinedSpec is the file descriptor from which it reads its instructions.
const confinedSpec = 3

// ErrConfinement is wrapped if nix could not be isolated from the machine and so was
// not started: not root, or a kernel without the namespaces.
var ErrConfinement = errors.New("nix cannot be confined here")

// Bind is a file or directory that a confined run sees, read-only, in a second place.
// Both paths are absolute; To exists and is of the same kind. Submounts of From are
// not visible.
type Bind struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// confinement is the instructions for a confined process.
type confinement struct {
	Binds   []Bind   `json:"binds"`
	Program string   `json:"program"`
	Args    []string `json:"args"`

	network bool // it keeps the machine's
}

// apply makes cmd a confined run. The caller starts it soon, and calls the returned
// function afterwards, or if it does not start it.
func (c confinement) apply(cmd *exec.Cmd) (started func(), err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: it takes root", ErrConfinement)
	}
	c.Program, c.Args = cmd.Path, cmd.Args
	f, err := memoryFile(confinedName, c)
	if err != nil {
		return nil, err
	}
	cmd.Path, cmd.Args = "/proc/self/exe", []string{confinedName}
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC
	if !c.network {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A scratch store is useless after that, so Nix needs no time to clean up.
	cmd.Cancel = func() error { return unix.Kill(cmd.Process.Pid, unix.SIGKILL) }
	return func() { f.Close() }, nil
}

// Confined is the part of a confined run inside the namespaces. A program that builds
// with this package calls it first. In a process started by a confined run it becomes
// nix, or returns an exit status and true; in all others it returns false at once.
func Confined() (code int, ok bool) {
	if len(os.Args) != 1 || os.Getpid() != 1 {
		return 0, false
	}
	switch os.Args[0] {
	case sandboxName:
		return runSandboxInit(), true
	case confinedName:
	default:
		return 0, false
	}
	// Scheduling attributes belong to a thread, and the thread that calls execve is
	// the one that remains.
	runtime.LockOSThread()
	err := enterConfinement()
	// In the form of Nix's own messages, so that the same parser finds it.
	fmt.Fprintf(os.Stderr, "error: %s: %v\n", confinementFailed, err)
	return 1, true
}

// confinementFailed is the prefix of the message of a confined process that could not
// become nix.
const confinementFailed = "set up the namespaces of a build"

func enterConfinement() error {
	var c confinement
	f := os.NewFile(confinedSpec, "specification")
	if err := json.UnmarshalRead(f, &c); err != nil {
		return err
	}
	f.Close()
	// Nothing that is mounted from here on is seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, b := range c.Binds {
		if err := b.mount(); err != nil {
			return fmt.Errorf("bind %s to %s: %w", b.From, b.To, err)
		}
	}
	// Nix looks up its children there by the process IDs of its namespace.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	idle()
	return fmt.Errorf("execute %s: %w", c.Program, syscall.Exec(c.Program, c.Args, os.Environ()))
}

// mount mounts b. It is read-only before it is visible anywhere, so it is never
// writable.
func (b Bind) mount() error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, b.From, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return err
	}
	if err := setMount(tree, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV); err != nil {
		unix.Close(tree)
		return err
	}
	return moveMount(tree, filepath.Clean(b.To))
}

// idle gives priority to everything else on the machine: for processors, and for
// disks whose scheduler supports it. Errors, as from a system call filter, do not
// prevent the build.
func idle() {
	const (
		ioprioWhoProcess = 1
		ioprioClassIdle  = 3 << 13
	)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioClassIdle)
}
