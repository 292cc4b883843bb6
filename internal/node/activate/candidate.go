package activate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// candidateRootName is the link that keeps the garbage collector from a candidate.
	candidateRootName = "ec-verify-candidate"
	// candidateLockName is the lock of whoever may change that link, below /run.
	candidateLockName = "nixos/ec-verify-candidate.lock"
)

// CandidateRoot protects a candidate from the garbage collector.
type CandidateRoot struct {
	machine *Machine
	lock    *os.File
	link    string
	system  closure.StorePath
	kept    bool
}

// HoldCandidate protects p, and everything that Nix registered as its references, from
// the garbage collector, in place of an earlier candidate. p need not exist yet. It fails
// if the protection can't be had, or if another process judges a candidate.
func HoldCandidate(ctx context.Context, m *Machine, p closure.StorePath) (*CandidateRoot, error) {
	// Who else can write to the directory could remove the link at any time.
	if err := hostfile.CheckOwn(filepath.Join(m.NixState, "gcroots")); err != nil {
		return nil, err
	}
	lock, taken, err := m.lockRun(candidateLockName)
	if err != nil {
		return nil, err
	}
	if !taken {
		defer lock.Close()
		by := ""
		if pid := readPID(lock); pid > 0 {
			by = fmt.Sprintf(" by process %d", pid)
		}
		return nil, fmt.Errorf("another candidate is being judged%s (%s)", by, lock.Name())
	}
	writePID(lock)
	r := &CandidateRoot{machine: m, lock: lock, system: p}
	if r.link, err = m.makeRoot(ctx, candidateRootName, p); err != nil {
		return nil, errors.Join(err, r.End())
	}
	return r, nil
}

// Keep has the protection go on after End, until a switch activates the system or
// another candidate is held. It returns the link that protects it, and fails if that was
// removed or replaced since.
func (r *CandidateRoot) Keep() (link string, err error) {
	if err := r.machine.collectorSees(r.link, r.system); err != nil {
		return "", err
	}
	r.kept = true
	return r.link, nil
}

// End ends the protection, unless it is kept.
func (r *CandidateRoot) End() error {
	var err error
	if r.link != "" && !r.kept {
		err = removeRoot(r.link, r.system)
	}
	_ = r.lock.Truncate(0) // of the process, which judges no more
	return errors.Join(err, r.lock.Close())
}

// removeRoot removes the link root if it leads to p.
func removeRoot(root string, p closure.StorePath) error {
	if target, err := os.Readlink(root); err != nil || target != string(p) {
		return nil //nolint:nilerr // it is not there, or of others
	}
	return os.Remove(root)
}

// releaseCandidate ends the protection of p as a candidate, because the machine now runs
// or boots it. While another process judges a candidate, the link is that one's.
func (m *Machine) releaseCandidate(p closure.StorePath) error {
	root := filepath.Join(m.NixState, "gcroots", candidateRootName)
	if target, err := os.Readlink(root); err != nil || target != string(p) {
		return nil //nolint:nilerr // there is none
	}
	lock, taken, err := m.lockRun(candidateLockName)
	if err != nil {
		return err
	}
	defer lock.Close()
	if !taken {
		return nil
	}
	return removeRoot(root, p)
}

// lockRun opens the lock file of that name, below /run, and locks it exclusively; taken is
// false if another process has it.
func (m *Machine) lockRun(name string) (f *os.File, taken bool, err error) {
	name = filepath.Join(m.Run, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, false, err
	}
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, false, err
	}
	if taken, err = hostfile.TryLock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, false, err
	}
	return f, taken, nil
}
