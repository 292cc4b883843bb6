package activate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
)

// rootName is the link that keeps the garbage collector from the system that is being
// judged. It has one name, so that a run that was killed leaves no more than one.
const rootName = "ec-verify-switch"

// Hold protects p, and everything that Nix registered as its references, from the garbage
// collector until the end of s. p need not exist yet.
//
// A collection reads the roots once, at its start, while it holds gc.lock exclusively.
// Hold takes that lock shared, as Nix does to add a root: either the collection sees the
// link, or it is over.
func (s *Switch) Hold(ctx context.Context, p closure.StorePath) error {
	m := s.machine
	lock, err := os.OpenFile(filepath.Join(m.NixState, "gc.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	taken, err := hostfile.WaitLock(ctx, lock, unix.LOCK_SH, m.GCWait)
	if err != nil {
		return err
	}
	if !taken {
		return fmt.Errorf("a garbage collection has been running for more than %s (%s): wait for its end", m.GCWait, lock.Name())
	}
	dir := filepath.Join(m.NixState, "gcroots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := filepath.Join(dir, rootName)
	if err := hostfile.ReplaceLink(string(p), root); err != nil {
		return err
	}
	s.root = root
	return nil
}
