package runlock

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	// lockName is the file in the state directory that is locked. Only its owner may open
	// it, because whoever can read a file can lock it.
	lockName = ".run.lock"
	private  = 0o600
	// poll is how often a held lock is tried again.
	poll = 100 * time.Millisecond
	// maxSwaps is how often a directory that was replaced is opened again.
	maxSwaps = 10
)

// Lock is held by this process until [Lock.Release].
type Lock struct {
	file   *os.File
	holder string // the file that says who holds it
	died   *Holder
	// owed is the record to restore once a look releases the lock.
	owed *Holder
}

// Died returns the previous holder, if it did not release the lock: it crashed or was
// killed.
func (l *Lock) Died() (Holder, bool) {
	if l == nil || l.died == nil {
		return Holder{}, false
	}
	return *l.died, true
}

// HeldError means that a run can't start because another one is under way.
type HeldError struct {
	Dir string
	// Holder is the zero value if it is unknown.
	Holder Holder
}

func (e *HeldError) Error() string {
	who := "another process"
	if e.Holder.PID > 0 {
		who = e.Holder.String()
	}
	return fmt.Sprintf("a run with the state directory %s is under way, by %s; wait for it with --wait, or give this one another --state-dir", e.Dir, who)
}

// Acquire takes the lock of the state directory dir, which is created if needed, for me.
// While another process holds it, waiting is called with its holder, and again when that
// changes; after wait the error is a [*HeldError], and ctx's own when ctx ends.
//
// If the lock file does not exist and can't be created, the lock and the error are nil:
// nothing can be remembered there, so no lock is needed. (The directory itself is never
// locked, because whoever can read it could do the same.) A nil *Lock may be released.
func Acquire(ctx context.Context, dir string, wait time.Duration, me Holder, waiting func(Holder)) (*Lock, error) {
	l, err := await(ctx, dir, wait, waiting)
	if l == nil {
		return nil, err
	}
	l.enter(dir, me)
	return l, nil
}

// await waits for the lock of the state directory dir, and says nowhere who holds it.
func await(ctx context.Context, dir string, wait time.Duration, waiting func(Holder)) (*Lock, error) {
	f, err := open(dir)
	if err != nil {
		return nil, nil //nolint:nilerr // see Acquire
	}
	l := &Lock{file: f}
	deadline := time.Now().Add(wait)
	var last Holder
	swapped := 0
	for asked := false; ; asked = true {
		taken, err := hostfile.TryLock(f, unix.LOCK_EX)
		if taken {
			if l.named(dir) || swapped == maxSwaps {
				return l, nil
			}
			swapped++
			// The directory was removed or replaced meanwhile: this lock protects
			// nothing, and another run may hold the new one.
			f.Close()
			if f, err = open(dir); err != nil {
				return nil, nil //nolint:nilerr // see Acquire
			}
			l.file = f
			continue
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		holder, _ := Look(dir)
		if !time.Now().Before(deadline) {
			f.Close()
			return nil, &HeldError{dir, holder}
		}
		if waiting != nil && (!asked || holder != last) {
			waiting(holder)
		}
		last = holder
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(poll):
		}
	}
}

// enter records that me holds the lock, and learns who has not released it before. Failing
// to write the record is no reason not to run.
func (l *Lock) enter(dir string, me Holder) {
	l.holder = filepath.Join(dir, holderName)
	if before, named := readHolder(dir); named {
		l.died = &before
		if before.Died != nil {
			l.died = before.Died
		}
	}
	if me.Look && l.died != nil && !l.died.Look {
		me.Died = l.died
		l.owed = l.died
	}
	_ = me.write(l.holder)
}

// named reports whether the locked file is still the lock file of dir.
func (l *Lock) named(dir string) bool {
	locked, err := l.file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(filepath.Join(dir, lockName))
	return err == nil && os.SameFile(locked, now)
}

// open opens the lock file of dir.
func open(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, lockName)
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|flags, private)
	if err != nil {
		// On a file system that is read-only or full.
		if f, err = os.OpenFile(name, os.O_RDONLY|flags, 0); err != nil {
			return nil, err
		}
	}
	if info, err := f.Stat(); err == nil && info.Mode().Perm() != private {
		_ = f.Chmod(private)
	}
	return f, nil
}

// Release releases the lock. A process that ends without it has died; see [Died].
func (l *Lock) Release() {
	if l == nil {
		return
	}
	if l.owed == nil || l.owed.write(l.holder) != nil {
		_ = os.Remove(l.holder)
	}
	l.file.Close()
}
