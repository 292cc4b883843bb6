package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

// Served is the result of checking what a directory serves.
type Served struct {
	// Current is the stage that machines boot. Its name is "" for none.
	Current Checked
	// Previous is the previous stage, whose files are served to machines in the middle of
	// a boot. Its name is "" for none.
	Previous Checked
	// Strays are other served files and directories, with what is wrong with them. An
	// intact stage is not a stray.
	Strays []Checked
}

// Checked is the result of checking one stage.
type Checked struct {
	Name   string
	Record Record // the zero value where Err is set
	// Err is an *[AlteredError], or an *[release.UntrustedError] for a release that is no
	// longer trusted, or says why the stage could not be checked.
	Err error
}

// All returns everything that was checked, the current stage first.
func (v *Served) All() []Checked {
	var all []Checked
	for _, c := range append([]Checked{v.Current, v.Previous}, v.Strays...) {
		if c.Name != "" {
			all = append(all, c)
		}
	}
	return all
}

// CheckServed checks everything in the directory that is served, and that machines are
// sent to s.URL unless that is "". Other runs may change it meanwhile. The error is that
// of an unreadable directory, or of ctx.
func (s *Stager) CheckServed(ctx context.Context) (*Served, error) {
	v := new(Served)
	var err error
	if v.Current, err = s.checkLink(ctx, s.Current); err != nil && v.Current.Err == nil {
		return nil, err
	}
	if c := &v.Current; c.Name != "" && c.Err == nil && s.URL != "" && c.Record.URL != s.URL {
		c.Err = &AlteredError{filepath.Join(s.Dir, stagesName, c.Name, ScriptName), fmt.Sprintf("it leads machines to %s, and this host is %s", c.Record.URL, s.URL)}
	}
	if v.Previous, err = s.checkLink(ctx, s.Previous); err != nil && v.Previous.Err == nil {
		return nil, err
	}
	stages := filepath.Join(s.Dir, stagesName)
	entries, err := os.ReadDir(stages)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if name == v.Current.Name || name == v.Previous.Name || strings.HasPrefix(name, tempPrefix) {
			continue
		}
		err := error(&AlteredError{filepath.Join(stages, name), "it does not belong there"})
		if isStageName(name) {
			// A stage that is about to be served, or was until now.
			_, err = s.Check(ctx, name)
		}
		if _, gone := os.Lstat(filepath.Join(stages, name)); err != nil && gone == nil {
			v.Strays = append(v.Strays, Checked{Name: name, Err: err})
		}
	}
	return v, ctx.Err()
}

// checkLink checks the stage to which link leads at that moment: during the check,
// another run may serve another one and remove it. A fault of the stage is also its Err.
func (s *Stager) checkLink(ctx context.Context, link func() (string, error)) (c Checked, err error) {
	for range 10 {
		if c.Name, err = link(); err != nil || c.Name == "" {
			return Checked{}, err
		}
		c.Record, c.Err = s.Check(ctx, c.Name)
		if c.Err == nil {
			break
		}
		if now, err := link(); err != nil || now == c.Name {
			break
		}
	}
	return c, c.Err
}

// Check compares the stage name byte for byte with the release that it keeps, because the
// servers only go by file names: it verifies the signature again, and compares the bundle
// with SHA256SUMS.txt, and kernel, initrd and script with the bundle's contents. A
// difference is an *[AlteredError], a release that is no longer trusted an
// *[release.UntrustedError]. The record's tag and checksum must be the release's. Its URL
// is this host's own and in no release: the caller must compare it.
func (s *Stager) Check(ctx context.Context, name string) (Record, error) {
	dir := filepath.Join(s.Dir, stagesName, name)
	record, err := checkRecord(dir, name)
	if err != nil {
		return Record{}, err
	}
	kept := filepath.Join(dir, releaseName)
	if err := checkEntries(dir, KernelName, InitrdName, ScriptName, recordName, releaseName); err != nil {
		return Record{}, err
	}
	if err := checkEntries(kept, release.SumsName, release.BundleName, release.InfoName, record.Tarball); err != nil {
		return Record{}, err
	}
	r, err := s.openKept(ctx, kept, record)
	if err != nil {
		return Record{}, err
	}
	want := make(map[string]File)
	script, err := s.unpackKept(ctx, r, filepath.Join(kept, record.Tarball), func(name string, in io.Reader) error {
		f, err := hashOf(in)
		want[name] = f
		return err
	})
	if err != nil {
		return Record{}, err
	}
	if want[ScriptName], err = hashOf(bytes.NewReader(script.Encode(record.URL, record.Tag, name))); err != nil {
		return Record{}, err
	}
	for _, file := range slices.Sorted(maps.Keys(want)) {
		path := filepath.Join(dir, file)
		got, err := hashFile(ctx, path)
		if err != nil {
			return Record{}, asAltered(path, err)
		}
		if want := want[file]; got != want {
			return Record{}, &AlteredError{path, fmt.Sprintf("it has %d bytes and SHA-256 %s, the release %d bytes and %s", got.Size, got.SHA256, want.Size, want.SHA256)}
		}
	}
	return record, nil
}

// checkRecord returns the record of the stage name in dir, which must be its own.
func checkRecord(dir, name string) (Record, error) {
	file := filepath.Join(dir, recordName)
	switch info, err := os.Lstat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return Record{}, &AlteredError{dir, "it is not there"}
	case err != nil:
		return Record{}, err
	case !info.IsDir():
		return Record{}, &AlteredError{dir, "it is no directory"}
	}
	data, err := hostfile.ReadSmall(file, maxRecord)
	if err != nil {
		return Record{}, asAltered(file, err)
	}
	record, err := parseRecord(data)
	if err != nil {
		return Record{}, &AlteredError{file, err.Error()}
	}
	if own := stageName(record.Tag, record.Sums, record.Tarball, record.URL); own != name {
		return Record{}, &AlteredError{file, "it is that of " + own}
	}
	return record, nil
}

// checkEntries requires that the directory dir has exactly the entries names.
func checkEntries(dir string, names ...string) error {
	if info, err := os.Lstat(dir); err != nil {
		return asAltered(dir, err)
	} else if !info.IsDir() {
		return &AlteredError{dir, "it is no directory"}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return asAltered(dir, err)
	}
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) {
			return &AlteredError{filepath.Join(dir, e.Name()), "it does not belong there"}
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == name }) {
			return &AlteredError{filepath.Join(dir, name), "it is not there"}
		}
	}
	return nil
}

// openKept opens the release in dir, which must be the one that record names.
func (s *Stager) openKept(ctx context.Context, dir string, record Record) (*release.Release, error) {
	// A SHA256SUMS.txt other than the one that was verified is damage, whatever its
	// signature.
	sums := filepath.Join(dir, release.SumsName)
	if got, err := hashFile(ctx, sums); err != nil {
		return nil, asAltered(sums, err)
	} else if got.SHA256 != record.Sums {
		return nil, &AlteredError{sums, fmt.Sprintf("it has SHA-256 %s, want %s", got.SHA256, record.Sums)}
	}
	r, err := s.Open(ctx, dir, record.Tag)
	var untrusted *release.UntrustedError
	switch {
	case errors.As(err, &untrusted) && (untrusted.Reason == release.ReasonChecksum || untrusted.Reason == release.ReasonNotRegular):
		return nil, &AlteredError{filepath.Join(dir, release.InfoName), untrusted.Detail}
	case err != nil:
		return nil, err
	case r.Unsigned():
		return nil, ErrUnsigned
	case r.Digest().String() != record.Sums:
		return nil, &AlteredError{sums, "it changed while it was checked"}
	}
	return r, nil
}

// AlteredError means that part of a stage is not what was staged.
type AlteredError struct {
	Name   string // of the file
	Detail string
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("%s differs from what was staged: %s; stage the release again", e.Name, e.Detail)
}

// Fault is why a stage must not be served.
type Fault uint8

// The faults.
const (
	NoFault Fault = iota // that is known
	Altered              // a file is not what was staged
	Refused              // its release is not trusted
)

// FaultOf returns the fault of a stage whose check returned err. NoFault is also that of a
// stage that could not be checked.
func FaultOf(err error) Fault {
	switch {
	case errors.As(err, new(*AlteredError)):
		return Altered
	case errors.As(err, new(*release.UntrustedError)), errors.Is(err, ErrUnsigned):
		return Refused
	}
	return NoFault
}

// asAltered turns err into an *[AlteredError] if it says that name does not exist, or is
// not a file.
func asAltered(name string, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, hostfile.ErrNotRegular) {
		return &AlteredError{name, err.Error()}
	}
	return err
}
