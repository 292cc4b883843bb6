package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	asideMark     = ".damaged-"
	journalSuffix = "-journal"
)

// replace sets the damaged ledger aside and opens a new one, which is empty. If
// another process was quicker, it opens the one that it finds.
func (l *Ledger) replace(ctx context.Context, bad *DamagedError) error {
	exclusive, err := l.alone(ctx)
	if err != nil {
		return fmt.Errorf("%w; it could not be set aside: %w", bad, err)
	}
	err = l.reload(ctx)
	if !exclusive {
		return err
	}
	if errors.As(err, &bad) {
		if err := l.closeDatabase(); err != nil {
			return err
		}
		if l.setAside, err = l.rename(); err != nil {
			return fmt.Errorf("%w; it could not be set aside: %w", bad, err)
		}
		err = l.reload(ctx)
	}
	if err != nil && !errors.Is(err, errEmpty) {
		return err
	}
	if lockErr := flock(ctx, l.lock, unix.LOCK_SH, l.wait); lockErr != nil {
		return fmt.Errorf("open ledger %s: %w", l.file, lockErr)
	}
	return err
}

// alone exchanges the shared lock for the exclusive one once nobody else has the ledger
// open. If another process has meanwhile replaced the damaged file, it returns with the
// shared lock instead.
func (l *Ledger) alone(ctx context.Context) (exclusive bool, err error) {
	found, err := os.Lstat(l.file)
	if err != nil {
		return false, err
	}
	// Two processes that each wait for the other to release its share would wait forever.
	if err := unix.Flock(int(l.lock.Fd()), unix.LOCK_UN); err != nil {
		return false, err
	}
	for deadline := time.Now().Add(l.wait); ; {
		err := flock(ctx, l.lock, unix.LOCK_EX, 0)
		if err == nil || !errors.Is(err, ErrBusy) {
			return err == nil, err
		}
		if now, err := os.Lstat(l.file); err != nil || !os.SameFile(found, now) {
			return false, flock(ctx, l.lock, unix.LOCK_SH, l.wait)
		}
		if time.Now().After(deadline) {
			return false, fmt.Errorf("%w for more than %s", ErrBusy, l.wait)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// reload opens the file anew, whatever it is by now.
func (l *Ledger) reload(ctx context.Context) error {
	if err := l.closeDatabase(); err != nil {
		return err
	}
	return l.load(ctx, "rwc")
}

func (l *Ledger) closeDatabase() error {
	if l.db == nil {
		return nil
	}
	err := l.db.Close()
	l.db = nil
	return err
}

// rename gives the file a name that says that it is damaged, and returns that.
func (l *Ledger) rename() (string, error) {
	kept, err := SetAside(filepath.Dir(l.file))
	if err != nil {
		return "", err
	}
	if len(kept) >= keptAside {
		return "", fmt.Errorf("%d damaged ledgers are kept already, the last as %s: look for what damages them, then move them away",
			len(kept), kept[len(kept)-1])
	}
	base := l.file + asideMark + l.now().UTC().Format("20060102T150405Z")
	name := base
	for n := 2; exists(name); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	// The journal first: without it the ledger stays damaged, but a new ledger
	// must not find a journal that isn't its own.
	if err := os.Rename(l.file+journalSuffix, name+journalSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.Rename(l.file, name); err != nil {
		return "", err
	}
	return name, hostfile.SyncDir(filepath.Dir(l.file))
}

// SetAside returns the damaged ledgers in the directory dir, the oldest first.
func SetAside(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for damaged ledgers: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), FileName+asideMark) && !strings.HasSuffix(e.Name(), journalSuffix) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
