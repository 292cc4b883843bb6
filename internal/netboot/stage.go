package netboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/release"
)

const (
	stagesName   = "stages"
	currentName  = "current"
	previousName = "previous"
	lockName     = ".lock"
	// tempPrefix begins the names of what has no name yet, or none any more.
	tempPrefix = ".tmp-"
)

// ErrUnsigned is what a release is refused with that nobody vouches for: there
// is no way to serve one.
var ErrUnsigned = errors.New("an unsigned release is never served to machines; sign it")

// A Stager puts releases into a directory that machines boot from; the
// package's documentation says how it looks. One process at a time may work on
// a directory.
type Stager struct {
	// Dir is made if it does not exist.
	Dir string
	// URL is how machines reach what is served from Dir.
	URL BaseURL
	// Tarball is the pattern of the bundle's name, of [filepath.Match].
	Tarball string
}

// Staged is what Stage has done.
type Staged struct {
	Record
	Name string // of the stage
	// Fetched says that the bundle was fetched: the stage was not there before.
	Fetched bool
	// Switched says that machines get another release, or the same in another
	// way, than before.
	Switched bool
	// Replaced is the stage that was served before; "" for none.
	Replaced string
}

// Stage serves r from now on. When it fails, what was served before goes on
// being served. The errors are those of package release, for a bundle that
// breaks a rule an *[release.UntrustedError], or of the file system.
func (s *Stager) Stage(ctx context.Context, r *release.Release) (*Staged, error) {
	if r.Unsigned() {
		return nil, ErrUnsigned
	}
	asset, err := bundleName(r, s.Tarball)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(s.Dir, stagesName), 0o750); err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	// First, so that what a run has left that was killed takes no room.
	if err := s.clean(); err != nil {
		return nil, err
	}
	name := s.name(r, asset)
	before, err := s.Current()
	if err != nil {
		return nil, err
	}
	record, err := s.Check(ctx, name)
	fetched := err != nil
	if fetched {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if record, err = s.make(ctx, r, asset, name); err != nil {
			return nil, err
		}
	}
	staged := &Staged{Record: record, Name: name, Fetched: fetched, Switched: before != name}
	if before == name {
		return staged, nil
	}
	staged.Replaced = before
	return staged, s.switchTo(name, before)
}

// name returns what the stage of r is called. It depends on everything that
// its files depend on, so that whatever has the name has the contents.
func (s *Stager) name(r *release.Release, asset string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00%s", recordSchema, r.Digest(), asset, s.URL)
	return fmt.Sprintf("%s-%x", r.Tag(), h.Sum(nil)[:6])
}

// make makes the stage name, which may exist in a damaged state.
func (s *Stager) make(ctx context.Context, r *release.Release, asset, name string) (Record, error) {
	stages := filepath.Join(s.Dir, stagesName)
	dir, err := os.MkdirTemp(stages, tempPrefix)
	if err != nil {
		return Record{}, err
	}
	defer os.RemoveAll(dir)
	// Whole and checked before a byte of it is unpacked.
	in, err := r.Asset(ctx, asset)
	if err != nil {
		return Record{}, err
	}
	defer in.Close()
	files, script, err := unpack(ctx, in, dir)
	if err != nil {
		return Record{}, s.blame(r, asset, err)
	}
	parsed, err := ParseScript(script)
	if err != nil {
		return Record{}, s.blame(r, asset, badBundle("its %s: %v", ScriptName, err))
	}
	if files[ScriptName], err = writeFile(filepath.Join(dir, ScriptName), bytes.NewReader(parsed.Encode(s.URL, r.Tag(), name))); err != nil {
		return Record{}, err
	}
	if err := r.CopyTo(ctx, filepath.Join(dir, "release"), func(string) bool { return false }); err != nil {
		return Record{}, err
	}
	record := Record{recordSchema, r.Tag(), r.Digest().String(), asset, s.URL, files}
	data, err := record.encode()
	if err != nil {
		return Record{}, err
	}
	if _, err := writeFile(filepath.Join(dir, recordName), bytes.NewReader(data)); err != nil {
		return Record{}, err
	}
	// So far nobody but this user could look into it.
	if err := os.Chmod(dir, 0o750); err != nil { //nolint:gosec // for the servers, which are in its group
		return Record{}, err
	}
	if err := syncDir(dir); err != nil {
		return Record{}, err
	}
	if err := put(dir, filepath.Join(stages, name)); err != nil {
		return Record{}, err
	}
	return record, syncDir(stages)
}

// put gives the directory from its name, in one step. A damaged one of the same
// name is then at from.
func put(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: from, New: to, Err: err}
	}
	return nil
}

// blame says of which release a bundle is that breaks a rule.
func (s *Stager) blame(r *release.Release, asset string, err error) error {
	var bad errBundle
	if !errors.As(err, &bad) {
		return err
	}
	u := release.Untrusted(ReasonMalformedNetboot, "%s: %v", asset, bad.error)
	u.Tag, u.Source = r.Tag(), r.Source()
	return u
}

// ReasonMalformedNetboot means: a netboot bundle has other members, or another
// script, than it may have.
const ReasonMalformedNetboot release.Reason = "malformed-netboot"

// switchTo has current lead to the stage name; what it led to is before.
func (s *Stager) switchTo(name, before string) error {
	if before != "" {
		if err := s.link(previousName, before); err != nil {
			return err
		}
	}
	if err := s.link(currentName, name); err != nil {
		return err
	}
	return s.clean()
}

// link has the link called link lead to the stage name, in one step, and brings
// that to the disk.
func (s *Stager) link(link, name string) error {
	temp := filepath.Join(s.Dir, tempPrefix+link)
	// What a killed run has left is cleaned away before; so nothing is there.
	if err := os.Symlink(filepath.Join(stagesName, name), temp); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(s.Dir, link)); err != nil {
		return err
	}
	return syncDir(s.Dir)
}

// Current returns the name of the stage that is served; "" for none.
func (s *Stager) Current() (string, error) { return s.follow(currentName) }

// Previous returns the name of the stage that was served before; "" for none.
func (s *Stager) Previous() (string, error) { return s.follow(previousName) }

func (s *Stager) follow(link string) (string, error) {
	target, err := os.Readlink(filepath.Join(s.Dir, link))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	dir, name := filepath.Split(target)
	if dir != stagesName+"/" || !isStageName(name) {
		return "", fmt.Errorf("%s leads to %q, which is no stage; remove it", filepath.Join(s.Dir, link), clip(target))
	}
	return name, nil
}

// isStageName reports whether name can be that of a stage: a tag, in form.
func isStageName(name string) bool {
	_, err := release.ParseTag(strings.TrimSuffix(name[:max(0, len(name)-12)], "-"))
	return err == nil && !strings.Contains(name, "/")
}

// Check holds the stage name to its record, byte for byte, since what serves the
// files looks at nothing but their names. A file that is another one is an
// *[AlteredError].
func (s *Stager) Check(ctx context.Context, name string) (Record, error) {
	dir := filepath.Join(s.Dir, stagesName, name)
	data, err := readSmall(filepath.Join(dir, recordName), maxRecord)
	if err != nil {
		return Record{}, err
	}
	record, err := parseRecord(data)
	if err != nil {
		return Record{}, fmt.Errorf("%s: %w", filepath.Join(dir, recordName), err)
	}
	for file, want := range record.Files {
		got, err := hashFile(ctx, filepath.Join(dir, file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return Record{}, err
		}
		if got != want {
			return Record{}, &AlteredError{filepath.Join(dir, file), got, want}
		}
	}
	return record, nil
}

// AlteredError says that a file of a stage is not the one that was staged.
type AlteredError struct {
	Name      string
	Got, Want File
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("%s is not what was staged: it has %d bytes and SHA-256 %s, want %d bytes and %s; stage the release again",
		e.Name, e.Got.Size, e.Got.SHA256, e.Want.Size, e.Want.SHA256)
}

// clean removes what neither link leads to.
func (s *Stager) clean() error {
	keep := make(map[string]bool)
	for _, link := range []string{currentName, previousName} {
		name, err := s.follow(link)
		if err != nil {
			return err
		}
		keep[name] = true
	}
	stages := filepath.Join(s.Dir, stagesName)
	entries, err := os.ReadDir(stages)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := os.RemoveAll(filepath.Join(stages, e.Name())); err != nil {
				return err
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, tempPrefix+"*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// lock keeps other processes out of the directory; the lock goes with the
// process.
func (s *Stager) lock() (unlock func(), err error) {
	name := filepath.Join(s.Dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another run is at work in %s; wait for it", s.Dir)
		}
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	return func() { f.Close() }, nil
}

// syncDir brings the names in dir to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
