package netboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

const (
	stagesName   = "stages"
	releaseName  = "release"  // in a stage
	fetchedName  = ".fetched" // a release not yet in a stage
	currentName  = "current"
	previousName = "previous"
	lockName     = ".lock"
	// tempPrefix is the name prefix of stages being created or removed.
	tempPrefix = ".tmp-"
)

// ErrUnsigned is the error for an unsigned release: there is no option to serve one.
var ErrUnsigned = errors.New("an unsigned release is never served to machines; sign it")

// A Stager puts releases into a directory that machines boot from; see the package
// documentation for its layout. Only one process at a time may work on a directory.
type Stager struct {
	// Dir is created if it does not exist.
	Dir string
	// URL is the address at which machines reach Dir.
	URL BaseURL
	// Tarball is the pattern of the bundle's name, as in [filepath.Match].
	Tarball string
	// Open opens the release tag with the files in the directory dir, by the host's
	// current policy. It is called for each stage that is checked. The errors are
	// those of [release.Open].
	Open func(ctx context.Context, dir string, tag release.Tag) (*release.Release, error)
}

// Staged is the result of Stage.
type Staged struct {
	Record
	Name string // of the stage
	// Fetched means that the bundle was fetched: the stage did not exist before.
	Fetched bool
	// Switched means that machines now get another release, or the same in another
	// way.
	Switched bool
	// Replaced is the stage that was served before; "" for none.
	Replaced string
}

// Stage serves the release that find returns. find is called under the lock, so that
// no other run can come between and the newer release stays. If Stage fails, the
// previous release continues to be served. The errors are those of find and of
// package release, an *[release.UntrustedError] for an invalid bundle, or file system
// errors.
func (s *Stager) Stage(ctx context.Context, find func(context.Context) (*release.Release, error)) (*Staged, error) {
	if err := os.MkdirAll(s.Dir, 0o750); err != nil {
		return nil, err
	}
	if err := checkOwner(s.Dir); err != nil {
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
	r, err := find(ctx)
	if err != nil {
		return nil, s.alsoAltered(ctx, err)
	}
	if r.Unsigned() {
		return nil, ErrUnsigned
	}
	asset, err := bundleName(r, s.Tarball)
	if err != nil {
		return nil, err
	}
	// First, so that leftovers of a killed run take no space.
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
			return nil, s.alsoAltered(ctx, err)
		}
	}
	// An incomplete fetch of another release is no longer needed.
	other := filepath.Join(s.Dir, fetchedName)
	_ = errors.Join(hostfile.RemoveTree(other), hostfile.RemoveTree(release.PartialDir(other)))
	staged := &Staged{Record: record, Name: name, Fetched: fetched, Switched: before != name}
	if before == name {
		return staged, s.dropPrevious(ctx)
	}
	if before != "" {
		if _, err := s.Check(ctx, before); FaultOf(err) == NoFault {
			staged.Replaced = before
		}
	}
	return staged, s.switchTo(name, staged.Replaced)
}

// alsoAltered adds to err, which prevents another release from being served, that the
// currently served one was altered.
func (s *Stager) alsoAltered(ctx context.Context, err error) error {
	var altered *AlteredError
	if _, checkErr := s.checkLink(ctx, s.Current); errors.As(checkErr, &altered) {
		return fmt.Errorf("%w; and the release that is served meanwhile was altered: %w", err, altered)
	}
	return err
}

// dropPrevious removes the link previous if its stage was altered or is no longer
// trusted: it only exists for machines in the middle of a boot.
func (s *Stager) dropPrevious(ctx context.Context) error {
	name, err := s.Previous()
	if err != nil || name == "" {
		return err
	}
	if _, err := s.Check(ctx, name); FaultOf(err) == NoFault {
		return nil
	}
	if err := os.Remove(filepath.Join(s.Dir, previousName)); err != nil {
		return err
	}
	return errors.Join(hostfile.SyncDir(s.Dir), s.clean())
}

// stageName returns the name of a stage. It depends on everything that determines the
// files, so the same name means the same contents.
func stageName(tag release.Tag, sums, asset string, base BaseURL) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00%s", recordSchema, sums, asset, base)
	return fmt.Sprintf("%s-%x", tag, h.Sum(nil)[:stageDigits/2])
}

// stageDigits is the number of hexadecimal digits at the end of a stage's name.
const stageDigits = 12

// make creates the stage name, which may exist in a damaged state.
func (s *Stager) make(ctx context.Context, r *release.Release, asset, name string) (Record, error) {
	stages := filepath.Join(s.Dir, stagesName)
	dir, err := os.MkdirTemp(stages, tempPrefix)
	if err != nil {
		return Record{}, err
	}
	defer func() { _ = hostfile.RemoveTree(dir) }() // if it fails, the next run removes it or reports that
	// The bundle is completely checked before any of it is unpacked. An incomplete
	// fetch of an earlier run is resumed.
	fetched := filepath.Join(s.Dir, fetchedName)
	if err := hostfile.RemoveTree(fetched); err != nil {
		return Record{}, err
	}
	if err := r.CopyTo(ctx, fetched, func(name string) bool { return name == asset }); err != nil {
		return Record{}, err
	}
	kept := filepath.Join(dir, releaseName)
	if err := os.Rename(fetched, kept); err != nil {
		return Record{}, err
	}
	script, err := s.unpackKept(ctx, r, filepath.Join(kept, asset), func(name string, in io.Reader) error {
		return writeFile(filepath.Join(dir, name), in)
	})
	if err != nil {
		return Record{}, err
	}
	if err := checkSystem(ctx, r, script); err != nil {
		return Record{}, s.blame(r, asset, err)
	}
	if err = writeFile(filepath.Join(dir, ScriptName), bytes.NewReader(script.Encode(s.URL, r.Tag(), name))); err != nil {
		return Record{}, err
	}
	record := Record{recordSchema, r.Tag(), r.Digest().String(), asset, s.URL}
	data, err := record.encode()
	if err != nil {
		return Record{}, err
	}
	if err := writeFile(filepath.Join(dir, recordName), bytes.NewReader(data)); err != nil {
		return Record{}, err
	}
	// So far only this user could read it.
	if err := os.Chmod(dir, 0o750); err != nil { //nolint:gosec // for the servers, which are in its group
		return Record{}, err
	}
	if err := hostfile.SyncDir(dir); err != nil {
		return Record{}, err
	}
	if err := put(dir, filepath.Join(stages, name)); err != nil {
		return Record{}, err
	}
	return record, hostfile.SyncDir(stages)
}

// checkSystem requires that a bundle starts a system with a manifest in the release:
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

// put moves the directory from to its name to, in one step. A damaged one of the same
// name is at from afterwards.
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

// unpackKept unpacks the bundle file, which must be r's asset of the same name; any
// deviation from the asset is an *[AlteredError], whatever else is wrong. A bundle
// that breaks a rule is an *[release.UntrustedError]. It returns the script.
func (s *Stager) unpackKept(ctx context.Context, r *release.Release, file string, take func(name string, in io.Reader) error) (Script, error) {
	asset := filepath.Base(file)
	want, ok := r.Sums().Digest(asset)
	if !ok {
		return Script{}, &AlteredError{file, fmt.Sprintf("the release has no %s", asset)}
	}
	f, err := hostfile.OpenNoFollow(file)
	if err != nil {
		return Script{}, asAltered(file, err)
	}
	defer f.Close()
	h := sha256.New()
	in := io.TeeReader(hostfile.WithContext(ctx, f), h)
	data, unpackErr := unpack(ctx, in, take)
	if _, err := io.Copy(io.Discard, in); err != nil {
		return Script{}, err
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want.String() {
		return Script{}, &AlteredError{file, fmt.Sprintf("it has SHA-256 %s, but the signed %s wants %s", got, release.SumsName, want)}
	}
	if unpackErr != nil {
		return Script{}, s.blame(r, asset, unpackErr)
	}
	script, err := ParseScript(data)
	if err != nil {
		return Script{}, s.blame(r, asset, badBundle("its %s: %v", ScriptName, err))
	}
	return script, nil
}

// blame adds the release to the error about an invalid bundle.
func (s *Stager) blame(r *release.Release, asset string, err error) error {
	var bad errBundle
	if !errors.As(err, &bad) {
		return err
	}
	u := release.Untrusted(ReasonMalformedNetboot, "%s: %v", asset, bad.error)
	u.Tag, u.Source = r.Tag(), r.Source()
	return u
}

// ReasonMalformedNetboot means: a netboot bundle has unexpected members or an invalid
// script.
const ReasonMalformedNetboot release.Reason = "malformed-netboot"

// switchTo points current to the stage name; before is its old target. After that,
// nothing is an error any more: if something can't be removed, the next run reports
// it.
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

// link points the link called link to the stage name, in one step, and syncs it to
// disk.
func (s *Stager) link(link, name string) error {
	return hostfile.ReplaceLink(filepath.Join(stagesName, name), filepath.Join(s.Dir, link))
}

// Current returns the name of the served stage; "" for none.
func (s *Stager) Current() (string, error) { return s.follow(currentName) }

// Previous returns the name of the stage served before; "" for none.
func (s *Stager) Previous() (string, error) { return s.follow(previousName) }

func (s *Stager) follow(link string) (string, error) {
	path := filepath.Join(s.Dir, link)
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err == nil && info.Mode().Type() != os.ModeSymlink {
		return "", fmt.Errorf("%s is no link; remove it, or name another directory", path)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	dir, name := filepath.Split(target)
	if dir != stagesName+"/" || !isStageName(name) {
		return "", fmt.Errorf("%s leads to %q, which is no stage; remove it", filepath.Join(s.Dir, link), clip(target))
	}
	return name, nil
}

// isStageName reports whether name is valid for a stage: a tag, a dash, and digits.
func isStageName(name string) bool {
	at := len(name) - stageDigits - 1
	if at < 0 || name[at] != '-' || strings.Trim(name[at+1:], "0123456789abcdef") != "" {
		return false
	}
	_, err := release.ParseTag(name[:at])
	return err == nil
}

// clean removes incomplete stages, and those to which neither link leads. Other names
// are kept: the directory may not have been created by a Stager.
func (s *Stager) clean() error {
	keep := make(map[string]bool)
	for _, link := range []string{currentName, previousName} {
		name, err := s.follow(link)
		if err != nil {
			return err
		}
		keep[name] = true
	}
	// Not through a link: root may remove stages in a directory of the servers' user.
	stages, err := os.OpenFile(filepath.Join(s.Dir, stagesName), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer stages.Close()
	entries, err := stages.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		gone := e.Name()
		if keep[gone] || !isStageName(gone) && !strings.HasPrefix(gone, tempPrefix) {
			continue
		}
		if isStageName(gone) {
			// In one step: nobody sees half of it.
			grave := tempPrefix + gone
			if err := hostfile.RemoveTreeIn(stages, grave); err != nil {
				return err
			}
			if err := unix.Renameat(int(stages.Fd()), gone, int(stages.Fd()), grave); err != nil {
				return &os.PathError{Op: "rename", Path: filepath.Join(stages.Name(), gone), Err: err}
			}
			gone = grave
		}
		if err := hostfile.RemoveTreeIn(stages, gone); err != nil {
			return err
		}
	}
	for _, link := range []string{currentName, previousName} {
		if err := os.Remove(filepath.Join(s.Dir, tempPrefix+link)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkOwner requires that dir belongs to this user. If root wrote to a directory of
// the servers' user, they could not read the files, and their next run could not
// remove them.
func checkOwner(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &os.PathError{Op: "look at", Path: dir, Err: err}
	}
	if own := os.Geteuid(); int(st.Uid) != own {
		return fmt.Errorf("%s belongs to user %d, but this is user %d, whose files the servers could not read: start the unit, or run this as that user", dir, st.Uid, own)
	}
	return nil
}

// lock excludes other processes from the directory; the lock ends with the process.
func (s *Stager) lock() (unlock func(), err error) {
	name := filepath.Join(s.Dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	// After a rollback by root, a lock file owned by root would keep out the
	// directory's own user.
	// That user may have put a link to a file of root's there, which is not to become theirs.
	var dir, own unix.Stat_t
	if unix.Stat(s.Dir, &dir) == nil && int(dir.Uid) != os.Geteuid() && unix.Fstat(int(f.Fd()), &own) == nil && own.Nlink == 1 {
		_ = f.Chown(int(dir.Uid), int(dir.Gid))
	}
	taken, err := hostfile.TryLock(f, unix.LOCK_EX)
	if err == nil && !taken {
		err = fmt.Errorf("another run is using %s; wait for it to end", s.Dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
