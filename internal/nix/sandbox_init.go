package nix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
)

// runSandboxInit is the first process of a sandbox. It returns its exit status.
func runSandboxInit() int {
	// Capabilities, and the signal at the end of a parent, belong to a thread.
	runtime.LockOSThread()
	unix.CloseOnExec(sandboxStatusFile)
	status := os.NewFile(sandboxStatusFile, "status")
	tell := func(s sandboxStatus) {
		line, err := json.Marshal(s)
		if err == nil {
			_, err = status.Write(append(line, '\n'))
		}
		if err != nil {
			// Nobody is there any more: the parent ended before this process asked to
			// be ended with it.
			os.Exit(1) //nolint:forbidigo // it is the main program of the sandbox, which ends with it
		}
	}
	var s sandboxSpec
	spec := os.NewFile(sandboxSpecFile, "specification")
	err := json.UnmarshalRead(spec, &s)
	spec.Close()
	if err == nil {
		err = s.layOut()
	}
	if err == nil {
		err = s.giveUp()
	}
	if err != nil {
		tell(sandboxStatus{Failed: err.Error()})
		return 1
	}
	for i, step := range s.Steps {
		end, err := s.run(step, tell)
		if err != nil {
			tell(sandboxStatus{Failed: err.Error()})
			return 1
		}
		if i == len(s.Steps)-1 || end.Code != 0 || end.Signal != "" {
			tell(end)
			return 0
		}
	}
	return 0
}

// sandboxRoot is where the new root directory is made; every machine has it.
const sandboxRoot = "/tmp"

// layOut makes the file system of the sandbox and enters it.
func (s *sandboxSpec) layOut() error {
	// Nothing that is mounted from here on is seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	trees, err := s.openTrees()
	if err != nil {
		return err
	}
	// These are the only options of tmpfs; the rest is in flags.
	data := "mode=0755,nr_inodes=200k"
	if s.Files > 0 {
		data += fmt.Sprintf(",size=%d", s.Files)
	}
	if err := unix.Mount("sandbox", sandboxRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mount a file system in memory: %w", err)
	}
	if err := os.Chdir(sandboxRoot); err != nil {
		return err
	}
	nix := path.Dir(s.StoreDir)[1:]
	for _, dir := range []string{"home", "tmp", nix} {
		if err := s.mkdirAll(dir); err != nil {
			return err
		}
	}
	if s.Scratch != 0 {
		if err := errors.Join(setMount(s.Scratch, 0), moveMount(s.Scratch, nix)); err != nil {
			return fmt.Errorf("attach the scratch store: %w", err)
		}
	}
	if err := s.mkdirAll(s.StoreDir[1:]); err != nil {
		return err
	}
	// There is no /proc: a new one cannot be mounted where that outside is
	// covered in part. Nix asks it for its own name alone.
	if err := os.MkdirAll("proc/self", 0o755); err != nil {
		return err
	}
	if err := os.Symlink(sandboxNix, "proc/self/exe"); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.attach(); err != nil {
			return fmt.Errorf("attach %s: %w", t.to, err)
		}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root directory: %w", err)
	}
	// The former root is mounted over the new one.
	if err := unix.Unmount("/", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	return os.Chdir("/")
}

// mkdirAll makes a directory that nix may write to.
func (s *sandboxSpec) mkdirAll(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil || s.User {
		return err
	}
	return os.Chown(dir, nobody, nobody)
}

// tree is a detached mount, and where it goes relative to the new root.
type tree struct {
	fd     int
	to     string
	dir    bool
	target string // of a symbolic link, which is made anew
}

// openTrees opens all that the sandbox has of the file system outside.
func (s *sandboxSpec) openTrees() ([]tree, error) {
	var trees []tree
	add := func(from, to string, flags int) error {
		t, err := openTree(from, to, flags)
		if err != nil {
			return fmt.Errorf("bind %s: %w", from, err)
		}
		trees = append(trees, t)
		return nil
	}
	for _, o := range s.Origins {
		if o.File != 0 {
			t, err := mountedTree(o.File, o.Path[1:])
			if err != nil {
				return nil, fmt.Errorf("bind %s: %w", o.Name, err)
			}
			trees = append(trees, t)
			continue
		}
		// Relative to the working directory, which is the store.
		if o.Name == "" || o.Name[0] == '.' || strings.ContainsRune(o.Name, '/') {
			return nil, fmt.Errorf("%q is not a name in a store", o.Name)
		}
		if err := add(o.Name, o.Path[1:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, err
		}
	}
	files := map[string]string{s.Program.File: sandboxNix, "/dev/null": "/dev/null"}
	if s.Program.Loader != "" {
		files[s.Program.Loader] = sandboxLoader
	}
	for name, file := range s.Program.Libraries {
		if err := add(file, path.Join(sandboxLibraries, name)[1:], 0); err != nil {
			return nil, err
		}
	}
	for from, to := range files {
		if err := add(from, to[1:], 0); err != nil {
			return nil, err
		}
	}
	return trees, nil
}

// openTree opens a file or directory as a mount that nothing can be written
// through. What is mounted within it is not seen.
func openTree(from, to string, flags int) (tree, error) {
	t := tree{to: to, fd: -1}
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, from, &st, flags); err != nil {
		return t, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(unix.AT_FDCWD, from, buf)
		t.target = string(buf[:max(n, 0)])
		return t, err
	case unix.S_IFDIR:
		t.dir = true
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|uint(flags))
	if err != nil {
		return t, err
	}
	t.fd = fd
	return t, protect(fd)
}

// mountedTree is openTree for something that is mounted already, and so no symbolic link.
func mountedTree(fd int, to string) (tree, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return tree{}, err
	}
	return tree{to: to, fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, protect(fd)
}

// protect lets nothing be written through a detached mount.
func protect(fd int) error { return setMount(fd, unix.MOUNT_ATTR_RDONLY) }

// setMount sets attributes of a detached mount. What is mounted within it later
// is not seen outside, where the same directory may be a shared mount.
func setMount(fd int, attributes uint64) error {
	attr := unix.MountAttr{Attr_set: attributes | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
}

func (t tree) attach() error {
	if err := os.MkdirAll(path.Dir(t.to), 0o755); err != nil {
		return err
	}
	var err error
	if t.target != "" {
		if err = os.Symlink(t.target, t.to); errors.Is(err, os.ErrExist) {
			err = nil
		}
		return err
	}
	if t.dir {
		err = os.Mkdir(t.to, 0o755)
	} else {
		err = os.WriteFile(t.to, nil, 0o444)
	}
	// A scratch store has it from before.
	if err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return moveMount(t.fd, t.to)
}

func moveMount(fd int, to string) error {
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// giveUp gives up all that nix could misuse.
func (s *sandboxSpec) giveUp() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	if !s.User {
		// With the user go all capabilities, and, which is to stay, the signal at the
		// end of the parent.
		err := errors.Join(syscall.Setgroups([]int{}), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody),
			unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0))
		if err != nil {
			return fmt.Errorf("become nobody: %w", err)
		}
		return nil
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

// sampled is the interval at which the processor time of nix is read.
const sampled = time.Second

// run runs one step to its end.
func (s *sandboxSpec) run(step sandboxStep, tell func(sandboxStatus)) (sandboxStatus, error) {
	file, argv := s.Program.command(step.Args)
	cmd := exec.CommandContext(context.Background(), file) // this process ends it, by ending
	cmd.Args = argv
	cmd.Env = sandboxEnvironment()
	cmd.Dir = "/tmp"
	cmd.Stdin = strings.NewReader(step.Stdin)
	cmd.Stderr = os.Stderr
	if !step.Quiet {
		cmd.Stdout = os.Stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return sandboxStatus{}, fmt.Errorf("start %s: %w", step.Args[0], err)
	}
	pid := cmd.Process.Pid
	if err := s.limit(pid); err != nil {
		return sandboxStatus{}, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(sampled)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if used, ok := processorTime(pid); ok {
					tell(sandboxStatus{CPU: used})
				}
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	if err != nil && !errors.As(err, new(*exec.ExitError)) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, syscall.EPIPE) {
		return sandboxStatus{}, err
	}
	end := sandboxStatus{Ended: true, Code: cmd.ProcessState.ExitCode(), CPU: int64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		end.Signal = ws.Signal().String()
	}
	return end, nil
}

// limit bounds a process of the sandbox.
func (s *sandboxSpec) limit(pid int) error {
	// At the first limit the kernel sends SIGXCPU, which Nix ignores, at the
	// second SIGKILL.
	const insist = 1
	bound := func(resource int, soft, hard uint64) error {
		if soft == 0 {
			return nil
		}
		return unix.Prlimit(pid, resource, &unix.Rlimit{Cur: soft, Max: hard}, nil)
	}
	// A core dump would take the memory of nix to a file of the machine outside. At
	// 1 the kernel makes none, not even for a program that it hands dumps to. Where
	// there is a limit of 0 already, that stays: raising it takes a capability.
	core := func() error {
		var now unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &now); err != nil || now.Max == 0 {
			return err
		}
		return bound(unix.RLIMIT_CORE, 1, 1)
	}
	if err := errors.Join(bound(unix.RLIMIT_CPU, s.CPU, s.CPU+insist), bound(unix.RLIMIT_AS, s.Memory, s.Memory), core()); err != nil {
		return fmt.Errorf("limit nix: %w", err)
	}
	return nil
}

// processorTime returns the processor time that a child has used, in
// nanoseconds; see clock_getcpuclockid(3).
func processorTime(pid int) (int64, bool) {
	const scheduled = 2 // the clock of a process, exact
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|scheduled, &ts); err != nil {
		return 0, false
	}
	return ts.Nano(), true
}
