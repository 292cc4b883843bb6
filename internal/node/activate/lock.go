package activate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// lockName is the lock of this program's own switches, below /run.
	lockName = "nixos/ec-verify-switch.lock"
	// scriptLockName is the lock that NixOS's switch-to-configuration holds while it
	// runs, whoever started it.
	scriptLockName = "nixos/switch-to-configuration.lock"
)

// HeldError means that a switch can't start because another one is under way.
type HeldError struct {
	Lock string
	PID  int // who switches, 0 if it is unknown
}

func (e *HeldError) Error() string {
	who := ""
	if e.PID > 0 {
		who = fmt.Sprintf(", by process %d", e.PID)
	}
	return fmt.Sprintf("another switch is under way%s (%s): wait for its end", who, e.Lock)
}

// Switch is a switch under way. No other one starts before its End.
type Switch struct {
	machine *Machine
	lock    *os.File
	root    string // the link that keeps the garbage collector away; "" for none
	// activated is the system that was activated; "" for none.
	activated closure.StorePath
}

// Begin excludes other switches of this program, and fails with a [*HeldError] if one is
// under way, of this program or NixOS's own.
func Begin(ctx context.Context, m *Machine) (*Switch, error) {
	f, taken, err := m.lockRun(lockName)
	if err != nil {
		return nil, err
	}
	s := &Switch{machine: m, lock: f}
	if taken {
		err = m.idle(ctx)
	} else {
		err = &HeldError{f.Name(), readPID(f)}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	writePID(f)
	return s, nil
}

// writePID says in the lock file whom others wait for. It is for people alone: failing to
// is no reason not to switch.
func writePID(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
}

func readPID(f *os.File) int {
	var buf [20]byte
	n, _ := f.ReadAt(buf[:], 0)
	pid, _ := strconv.Atoi(string(buf[:n]))
	return pid
}

// End releases the locks of s, and what protected the system that was activated from the
// garbage collector, also as a candidate: its profile or its running does so now.
func (s *Switch) End() error {
	var err error
	if s.root != "" {
		err = os.Remove(s.root)
	}
	if s.activated != "" {
		err = errors.Join(err, s.machine.releaseCandidate(s.activated))
	}
	_ = s.lock.Truncate(0) // of the process, which switches no more
	return errors.Join(err, s.lock.Close())
}

// idle fails while a switch of others, or one that an earlier run left behind, is
// under way.
func (m *Machine) idle(ctx context.Context) error {
	name := filepath.Join(m.Run, scriptLockName)
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		defer f.Close()
		taken, err := hostfile.TryLock(f, unix.LOCK_EX)
		if err != nil {
			return err
		}
		if !taken {
			return &HeldError{Lock: name}
		}
	}
	return m.Script.Busy(ctx)
}
