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

// A run that builds, or fetches what is built from, is confined: the nix program,
// everything that it starts, and everything that these mount live in process,
// mount and network namespaces of their own; one that fetches has the machine's
// network. Nix is the first process of its namespace, so that the kernel ends all
// builders with it, whatever user they run as and wherever they put themselves;
// and it gets SIGKILL when this process ends, however that ends. Nothing needs to
// be cleaned up but files.
//
// The namespaces have to be furnished by a process inside of them, before it
// becomes nix. That process is this program once more; see [Confined].

// confinedName is the argv[0] of that process.
const confinedName = "ec-verify-confined-nix"

// confinedSpec is the number of the file that it reads what to do from.
const confinedSpec = 3

// ErrConfinement is wrapped where nix could not be cut off from the machine
// that it runs on, and so was not begun: not root, or a kernel without the
// namespaces.
var ErrConfinement = errors.New("nix cannot be confined here")

// Bind is a file or directory that a confined run sees, read-only, in a second
// place. Both are absolute; To exists and is of the same kind. Submounts of
// From are not seen.
type Bind struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// confinement is what a confined process is told.
type confinement struct {
	Binds   []Bind   `json:"binds"`
	Program string   `json:"program"`
	Args    []string `json:"args"`

	network bool // it keeps the machine's
}

// apply makes cmd a confined run of what it was. The caller starts it soon, and
// calls the returned function then or if it does not.
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
	// What is in a scratch store is of no use after that, so that there is
	// nothing that Nix should get the time to put in order.
	cmd.Cancel = func() error { return unix.Kill(cmd.Process.Pid, unix.SIGKILL) }
	return func() { f.Close() }, nil
}

// Confined is the part of a confined run that lies in the namespaces. A program
// that builds by this package calls it before anything else. In a process that a
// confined run started it becomes nix, or returns the exit status to end with
// and true; in all others it returns false at once.
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
	// Scheduling belongs to a thread, and the one that calls execve is the one
	// that remains.
	runtime.LockOSThread()
	err := enterConfinement()
	// Like a message of Nix itself, so that it is found where those are.
	fmt.Fprintf(os.Stderr, "error: %s: %v\n", confinementFailed, err)
	return 1, true
}

// confinementFailed begins the message of a confined process that did not
// become nix.
const confinementFailed = "furnish the namespaces of a build"

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
	// Nix looks its children up there by the numbers that it knows them by.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	idle()
	return fmt.Errorf("execute %s: %w", c.Program, syscall.Exec(c.Program, c.Args, os.Environ()))
}

// mount attaches b. It is read-only before it appears anywhere: at no time can
// something be written through it.
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

// idle gives way to everything else on the machine: the processors, and disks
// whose scheduler knows priorities. That it is not permitted, as for a system
// call filter, is no reason not to build.
func idle() {
	const (
		ioprioWhoProcess = 1
		ioprioClassIdle  = 3 << 13
	)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioClassIdle)
}
