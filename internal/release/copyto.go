package release

import (
	"bytes"
	"cmp"
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

// CopyTo writes SHA256SUMS.txt, its bundle and the assets that want accepts (nil for
// all) to the directory dir, which must be missing or empty. The directory appears in
// one step, after everything was checked; until then dir is unchanged. If the run is
// interrupted or the source fails, the fetched files stay beside dir ([PartialDir])
// and the next run resumes with them; the final digest check covers them too. The
// error is then an *[InterruptedError].
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
		// After the rename, another run may use the name.
		if err != nil && !errors.As(err, new(*InterruptedError)) {
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

// PartialDir is the directory in which [Release.CopyTo] assembles dir.
func PartialDir(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".partial")
}

// InterruptedError means that a copy ended early and that the fetched files are kept
// for the next run.
type InterruptedError struct {
	Dir   string
	Bytes int64 // bytes kept
	Err   error
}

func (e *InterruptedError) Error() string {
	return fmt.Sprintf("%v; the %s fetched so far are kept in %s: run the same command again to resume, or remove that directory",
		e.Err, humanize.IBytes(uint64(max(0, e.Bytes))), printable(e.Dir))
}

func (e *InterruptedError) Unwrap() error { return e.Err }

// fetchedIn returns the total size of the large files in dir.
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

// checkTarget returns dir with links resolved, if a release may be written there.
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
		return "", fmt.Errorf("%s is not empty; name an empty directory, or one that does not exist", printable(dir))
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	var own, parent unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &own), unix.Stat(filepath.Join(dir, ".."), &parent)); err != nil {
		return "", err
	}
	// dir is replaced by a rename, which neither the working directory nor a mount
	// point allows.
	if dir == "." || own.Dev != parent.Dev || own.Ino == parent.Ino {
		return "", fmt.Errorf("%s is the working directory or a mount point; name a directory in it", printable(dir))
	}
	return dir, nil
}

// openStaging returns the directory at path, to which nobody else can write, for the
// files of r that want accepts. Files of the same release from an earlier run are
// kept, everything else in it is removed. release gives up the lock.
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

// claim prepares the directory d, which an earlier run may have left.
func (r *Release) claim(d *os.File, want func(name string) bool) error {
	if err := lockOwn(d); err != nil {
		return err
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

// lockOwn locks the directory d, to which nobody else may be able to write: they could
// change a file after its check.
func lockOwn(d *os.File) error {
	busy := fmt.Errorf("another run is using %s; wait for it to end", printable(d.Name()))
	if taken, err := hostfile.TryLock(d, unix.LOCK_EX); err != nil {
		return err
	} else if !taken {
		return busy
	}
	own, err := d.Stat()
	if err != nil {
		return err
	}
	// The earlier run may have finished between the open and the lock.
	if now, err := os.Lstat(d.Name()); err != nil || !os.SameFile(own, now) {
		return busy
	}
	if !isMine(own) || own.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s was made by somebody else; remove it, or name another directory", printable(d.Name()))
	}
	return nil
}

// isMine reports whether info describes a directory or a file without further hard
// links, owned by this user.
func isMine(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == uint32(os.Geteuid()) && (info.IsDir() || st.Nlink == 1) //nolint:gosec // a user id is not negative
}

// stage writes the checked files of r to dir and syncs them. They must only be used
// if it returns nil.
func (r *Release) stage(ctx context.Context, dir string, want func(name string) bool) error {
	// The sums come first: they tell a later run which release the files belong to.
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
	// Until here no other user could read the directory.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what is published is no secret
		return fmt.Errorf("copy %s: %w", r.tag, err)
	}
	return hostfile.SyncDir(dir)
}

// writeSynced opens or creates the file at path, calls write on it, and syncs it.
func writeSynced(path string, flags int, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|flags, 0o644) //nolint:gosec // what is published is no secret
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return cmp.Or(err, f.Close())
}
