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

// Stage serves from now on the release that find returns. It is called when no
// other run can come between what it finds and what is served, so that the one
// that found the newer release is the one that stays. When Stage fails, what was
// served before goes on being served. The errors are those of find, of package
// release, for a bundle that breaks a rule an *[release.UntrustedError], or of
// the file system.
func (s *Stager) Stage(ctx context.Context, find func(context.Context) (*release.Release, error)) (*Staged, error) {
	if err := os.MkdirAll(filepath.Join(s.Dir, stagesName), 0o750); err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := find(ctx)
	if err != nil {
		return nil, err
	}
	if r.Unsigned() {
		return nil, ErrUnsigned
	}
	asset, err := bundleName(r, s.Tarball)
	if err != nil {
		return nil, err
	}
	// First, so that what a run has left that was killed takes no room.
	if err := s.clean(); err != nil {
		return nil, err
	}
	name := stageName(r.Tag(), r.Digest().String(), asset, s.URL)
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

// stageName returns what a stage is called. It depends on everything that its
// files depend on, so that whatever has the name has the contents.
func stageName(tag release.Tag, sums, asset string, base BaseURL) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00%s", recordSchema, sums, asset, base)
	return fmt.Sprintf("%s-%x", tag, h.Sum(nil)[:stageDigits/2])
}

// stageDigits is how many hexadecimal digits a stage's name ends with.
const stageDigits = 12

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
	if err := checkSystem(ctx, r, parsed); err != nil {
		return Record{}, s.blame(r, asset, err)
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

// checkSystem wants a bundle to start a system that the release has a manifest of:
// another one could not be verified once it runs.
func checkSystem(ctx context.Context, r *release.Release, script Script) error {
	var systems []string
	for _, configuration := range r.Info().Configurations {
		m, err := r.Manifest(ctx, configuration)
		if err != nil {
			return err
		}
		init := string(m.Toplevel.OutPath) + "/init"
		if init == script.Init() {
			return nil
		}
		systems = append(systems, configuration)
	}
	return badBundle("its %s starts %s, which is not the system of any of %s", ScriptName, clip(script.Init()), strings.Join(systems, ", "))
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

// switchTo has current lead to the stage name; what it led to is before. Once it
// does, nothing is an error any more: what cannot be removed is in the way of the
// next run, which says so.
func (s *Stager) switchTo(name, before string) error {
	if before != "" {
		if err := s.link(previousName, before); err != nil {
			return err
		}
	}
	if err := s.link(currentName, name); err != nil {
		return err
	}
	_ = s.clean()
	return nil
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
	if errors.Is(err, unix.EINVAL) {
		return "", fmt.Errorf("%s is no link; remove it, or name another directory", filepath.Join(s.Dir, link))
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

// isStageName reports whether name can be that of a stage: a tag, a dash, and
// digits.
func isStageName(name string) bool {
	at := len(name) - stageDigits - 1
	if at < 0 || name[at] != '-' || strings.Trim(name[at+1:], "0123456789abcdef") != "" {
		return false
	}
	_, err := release.ParseTag(name[:at])
	return err == nil
}

// CheckCurrent checks the stage that is served, whichever that is by then: while
// it is looked at, another run may serve another one and remove it. The name is
// "" for none.
func (s *Stager) CheckCurrent(ctx context.Context) (name string, record Record, err error) {
	for range 10 {
		if name, err = s.Current(); err != nil || name == "" {
			return "", Record{}, err
		}
		record, err = s.Check(ctx, name)
		if err == nil {
			break
		}
		if now, nowErr := s.Current(); nowErr != nil || now == name {
			break
		}
	}
	return name, record, err
}

// Check holds the stage name to its record, byte for byte, since what serves the
// files looks at nothing but their names; and the record to the name. Anything
// that is another one is an *[AlteredError]. The record itself is believed: who
// can write to the directory can change both.
func (s *Stager) Check(ctx context.Context, name string) (Record, error) {
	dir := filepath.Join(s.Dir, stagesName, name)
	altered := func(file, format string, args ...any) error {
		return &AlteredError{filepath.Join(dir, file), fmt.Sprintf(format, args...)}
	}
	switch info, err := os.Lstat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return Record{}, altered("", "it is not there")
	case err != nil:
		return Record{}, err
	case !info.IsDir():
		return Record{}, altered("", "it is no directory")
	}
	data, err := readSmall(filepath.Join(dir, recordName), maxRecord)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotRegular) {
		return Record{}, altered(recordName, "%v", err)
	}
	if err != nil {
		return Record{}, err
	}
	record, err := parseRecord(data)
	if err != nil {
		return Record{}, altered(recordName, "%v", err)
	}
	if own := stageName(record.Tag, record.Sums, record.Tarball, record.URL); own != name {
		return Record{}, altered(recordName, "it is that of %s", own)
	}
	for file, want := range record.Files {
		got, err := hashFile(ctx, filepath.Join(dir, file))
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotRegular):
			return Record{}, altered(file, "%v", err)
		case err != nil:
			return Record{}, err
		case got != want:
			return Record{}, altered(file, "it has %d bytes and SHA-256 %s, want %d bytes and %s", got.Size, got.SHA256, want.Size, want.SHA256)
		}
	}
	return record, nil
}

// AlteredError says that something of a stage is not what was staged.
type AlteredError struct {
	Name   string // of the file
	Detail string
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("%s is not what was staged: %s; stage the release again", e.Name, e.Detail)
}

// clean removes the stages that neither link leads to, and what was in the making.
// What has another name is somebody's, and left: the directory may not be one that
// a Stager has made.
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
		if !keep[e.Name()] && (isStageName(e.Name()) || strings.HasPrefix(e.Name(), tempPrefix)) {
			if err := os.RemoveAll(filepath.Join(stages, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, link := range []string{currentName, previousName} {
		if err := os.Remove(filepath.Join(s.Dir, tempPrefix+link)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
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
