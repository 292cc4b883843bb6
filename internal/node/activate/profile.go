package activate

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// profileWait is how long another program that sets the profile is waited for.
	profileWait = 30 * time.Second
	// maxGeneration is the largest number of a generation that is counted on from.
	maxGeneration = 1 << 30
)

// profile is a profile that is locked.
type profile struct {
	link string
	lock *os.File
}

// set points the profile to p, as a new generation unless the newest one is p already,
// and returns the generation's number.
//
// It does what nix-env --set does, with the same names and lock, without running it:
// nix-env treats a store path as something to build or fetch, asks a daemon and a
// database for it, and does not sync to disk. Here the link contains the very path that
// was judged, and a rename sets it: before it the profile is entirely the old one, after
// it the new one, even after a power cut.
func (l *profile) set(p closure.StorePath) (generation int, err error) {
	dir, name := filepath.Split(l.link)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	newest := 0
	for _, e := range entries {
		if n, ok := generationOf(name, e.Name()); ok {
			newest = max(newest, n)
		}
	}
	link := func(n int) string { return fmt.Sprintf("%s-%d-link", name, n) }
	generation = newest
	if target, err := os.Readlink(dir + link(newest)); err != nil || target != string(p) {
		generation = newest + 1
		if err := os.Symlink(string(p), dir+link(generation)); err != nil {
			return 0, err
		}
	}
	// The generation before the link to it.
	if err := hostfile.SyncDir(dir); err != nil {
		return 0, err
	}
	if err := hostfile.ReplaceLink(link(generation), l.link); err != nil {
		return 0, err
	}
	return generation, nil
}

// generationOf returns the number of the generation that entry is of the profile name.
func generationOf(name, entry string) (int, bool) {
	number, ok := strings.CutPrefix(entry, name+"-")
	if !ok {
		return 0, false
	}
	if number, ok = strings.CutSuffix(number, "-link"); !ok {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil && n > 0 && n <= maxGeneration && strconv.Itoa(n) == number
}

// lockProfile takes the lock that Nix takes to set a profile. When Nix is done, it
// removes such a file and writes to the removed one: a file that is not empty is no
// longer a lock.
func lockProfile(ctx context.Context, link string) (*profile, error) {
	name := link + ".lock"
	for deadline := time.Now().Add(profileWait); time.Now().Before(deadline); {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		taken, err := hostfile.WaitLock(ctx, f, unix.LOCK_EX, time.Until(deadline))
		if err != nil {
			f.Close()
			return nil, err
		}
		info, err := f.Stat()
		if taken && err == nil && (info.Size() == 0 || leftOver(name, info) && f.Truncate(0) == nil) {
			return &profile{link, f}, nil
		}
		f.Close()
	}
	return nil, &HeldError{Lock: name}
}

// leftOver reports whether the file of a lock is still there although it counts as removed:
// something is mounted over it.
func leftOver(name string, lock fs.FileInfo) bool {
	info, err := os.Lstat(name)
	return err == nil && os.SameFile(info, lock)
}

// unlock lets others set the profile.
func (l *profile) unlock() {
	// The next switch uses the file that is there: this one, if it is mounted over.
	if err := os.Remove(l.lock.Name()); err == nil {
		_, _ = l.lock.WriteString("d")
	}
	l.lock.Close()
}
