package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// CopyTo puts SHA256SUMS.txt, its bundle and the assets that want accepts (nil
// for all) into the directory dir, which must not exist or be empty. It
// appears there in one step, when everything was checked: whatever happens
// before, dir is as it was. What a run has fetched that was ended, or that the
// source failed, is left beside dir ([PartialDir]), and taken up again by the next
// one; its digest is what says in the end whether it was right. An error that says
// so is an *[InterruptedError].
func (r *Release) CopyTo(ctx context.Context, dir string, want func(name string) bool) (err error) {
	dir, err = checkTarget(filepath.Clean(dir))
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	staging, release, err := r.openStaging(PartialDir(dir), want)
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", r.tag, printable(dir), err)
	}
	defer release()
	defer func() {
		// After the last step the name is free for another run.
		var interrupted *InterruptedError
		if err != nil && !errors.As(err, &interrupted) {
			_ = hostfile.RemoveTree(staging)
		}
	}()
	if err := r.stage(ctx, staging, want); err != nil {
		if held := fetchedIn(staging); held > 0 && (ctx.Err() != nil || isUnavailable(err)) {
			return &InterruptedError{Dir: staging, Bytes: held, Err: err}
		}
		return err
	}
	// os.Rename refuses a directory as its target, even an empty one.
	if err := unix.Rename(staging, dir); err != nil {
		return fmt.Errorf("copy %s to %s: %w", r.tag, printable(dir), err)
	}
	return hostfile.SyncDir(parent)
}

// PartialDir is where [Release.CopyTo] puts together what is to be dir.
func PartialDir(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".partial")
}

// InterruptedError says that a copy was broken off, and that what was fetched is
// kept for the next one.
type InterruptedError struct {
	Dir   string
	Bytes int64 // that are kept
	Err   error
}

func (e *InterruptedError) Error() string {
	return fmt.Sprintf("%v; the %s that were fetched are kept in %s, and the same command goes on from there (remove it if you do not want to)",
		e.Err, humanize.IBytes(uint64(max(0, e.Bytes))), printable(e.Dir))
}

func (e *InterruptedError) Unwrap() error { return e.Err }

// fetchedIn returns how many bytes of what is large are in dir.
func fetchedIn(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Name() != InfoName && !isSumsFile(e.Name()) {
			n += info.Size()
		}
	}
	return n
}

// checkTarget returns the directory that stands for dir, a link followed, if a
// release may be put there.
func checkTarget(dir string) (string, error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return dir, nil
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("%s is a link to nowhere; name a directory", printable(dir))
	case err != nil:
		return "", err
	case len(entries) > 0:
		return "", fmt.Errorf("%s is not empty; name a directory that is, or that does not exist yet", printable(dir))
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	var own, parent unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &own), unix.Stat(filepath.Join(dir, ".."), &parent)); err != nil {
		return "", err
	}
	// It is replaced as a whole, which neither can be.
	if dir == "." || own.Dev != parent.Dev || own.Ino == parent.Ino {
		return "", fmt.Errorf("%s is the working directory or a mount point; name a directory in it", printable(dir))
	}
	return dir, nil
}

// openStaging returns a directory that nobody else writes to, for the files of
// r that want accepts: the one at path, with those that an earlier run has left
// of the same release, and nothing else in it. release ends the claim on it.
func (r *Release) openStaging(path string, want func(name string) bool) (dir string, release func(), err error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	claim := os.NewFile(uintptr(fd), path)
	release = func() { claim.Close() }
	if err := r.claim(claim, want); err != nil {
		release()
		return "", nil, err
	}
	return path, release, nil
}

// claim takes the directory d over from an earlier run.
func (r *Release) claim(d *os.File, want func(name string) bool) error {
	busy := fmt.Errorf("another run is at work in %s; wait for it", printable(d.Name()))
	if taken, err := hostfile.TryLock(d, unix.LOCK_EX); err != nil {
		return err
	} else if !taken {
		return busy
	}
	own, err := d.Stat()
	if err != nil {
		return err
	}
	// It may have been finished between the opening and the lock.
	if now, err := os.Lstat(d.Name()); err != nil || !os.SameFile(own, now) {
		return busy
	}
	// Who can write to it could change a file after its check.
	if !isMine(own) || own.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s was made by somebody else; remove it, or name another directory", printable(d.Name()))
	}
	sums, err := hostfile.ReadSmall(filepath.Join(d.Name(), SumsName), MaxSumsSize)
	same := err == nil && bytes.Equal(sums, r.rawSums)
	entries, err := os.ReadDir(d.Name())
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		_, listed := r.sums.Digest(e.Name())
		if same && listed && e.Name() != InfoName && (want == nil || want(e.Name())) && err == nil && info.Mode().IsRegular() && isMine(info) {
			continue
		}
		if err := hostfile.RemoveTree(filepath.Join(d.Name(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isMine reports whether info is of something that this user has made, and of
// a file that has no second name.
func isMine(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == uint32(os.Geteuid()) && (info.IsDir() || st.Nlink == 1) //nolint:gosec // a user id is not negative
}

// stage writes the checked files of r into dir and makes them last. Only when
// it has returned nil are they to be used.
func (r *Release) stage(ctx context.Context, dir string, want func(name string) bool) error {
	// The sums come first: they tell a later run whose files it finds.
	for _, small := range []struct {
		name string
		data []byte
	}{{SumsName, r.rawSums}, {BundleName, r.rawBundle}, {InfoName, r.rawInfo}} {
		if small.data == nil {
			continue
		}
		err := writeSynced(filepath.Join(dir, small.name), unix.O_EXCL, func(f *os.File) error {
			_, err := f.Write(small.data)
			return err
		})
		if err != nil {
			return fmt.Errorf("copy %s: %w", r.tag, err)
		}
	}
	for name := range r.sums.All() {
		if name == InfoName || want != nil && !want(name) {
			continue
		}
		err := writeSynced(filepath.Join(dir, name), 0, func(f *os.File) error { return r.complete(ctx, f, name) })
		if err != nil {
			return r.named(err)
		}
	}
	// Until here nobody else could look into it.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what is published is no secret
		return fmt.Errorf("copy %s: %w", r.tag, err)
	}
	return hostfile.SyncDir(dir)
}

// writeSynced opens the file at path, which is made if need be, has write write
// to it, and makes it last.
func writeSynced(path string, flags int, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|flags, 0o644) //nolint:gosec // what is published is no secret
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
