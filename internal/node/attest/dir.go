package attest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// Dir is a directory of signed reports. The newest one is the end of the chain, and
// nothing else remembers it: whoever removes files breaks the chain visibly. Only one
// process at a time may add to it.
type Dir struct {
	Path string
	// Keep is how many reports are kept, at least 1.
	Keep int
}

// tempPrefix is the name prefix of a report that is being written.
const tempPrefix = ".report"

// maxBundle limits a file of the directory, in bytes.
const maxBundle = 16 << 20

var fileName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\Areport-([0-9]{10,18})\.sigstore\.json\z`) })

func nameOf(sequence int64) string { return fmt.Sprintf("report-%010d.sigstore.json", sequence) }

// list returns the sequence numbers of the reports in ascending order; none if there is
// no directory.
func (d Dir) list() ([]int64, error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []int64
	for _, e := range entries {
		if m := fileName().FindStringSubmatch(e.Name()); m != nil {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err == nil && n > 0 && e.Name() == nameOf(n) {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// Empty reports whether there are no reports, as far as is known.
func (d Dir) Empty() bool {
	all, _ := d.list()
	for _, n := range slices.Backward(all[max(0, len(all)-maxLook):]) {
		if _, _, ok := d.peek(n); ok {
			return false
		}
	}
	return true
}

// End is the end of the chain: where the next report is added.
type End struct {
	// Sequence is the number of the next report.
	Sequence int64
	// Previous is the digest of the previous statement; "" if there is none, or no
	// readable one, which breaks the chain visibly.
	Previous string
	// Foreign are files beyond the end, with names of reports, that are damaged or that
	// this machine did not write: they were set aside, if possible, under names that end
	// in ".foreign", or in that with a number.
	Foreign []string
}

// maxLook limits how many files Empty reads, and how many names setAside tries.
const maxLook = 256

// Next finds the end of the chain. A file beyond it, with a greater number, is damaged or
// somebody else's: it is set aside, so that it neither changes the numbers nor occupies a
// name.
//
// The chain consists of the newest report that this machine's key signed, according to
// mine, which receives a bundle, and the reports that follow it link by link, signed by
// another key of the machine. If its key signed none, as after a change of keys, the
// chain ends with the newest report of the machine that names its predecessor.
func (d Dir) Next(machine string, mine func(bundle []byte) bool) (End, error) {
	all, err := d.list()
	if err != nil {
		return End{}, err
	}
	known := make(map[int64]link)
	tail := int64(0)
	for _, n := range slices.Backward(all) {
		l, bundle, ok := d.peek(n)
		if !ok {
			continue
		}
		known[n] = l
		if mine(bundle) {
			tail = n
			break
		}
	}
	if tail == 0 {
		tail = newest(known, machine)
	}
	for known[tail+1].follows(known[tail], machine) {
		tail++
	}
	end := End{Sequence: tail + 1, Previous: known[tail].digest}
	for _, n := range all {
		if n <= tail {
			continue
		}
		if n == end.Sequence {
			// It may be this machine's report, damaged: then its number is used, and the
			// chain has a gap here.
			end.Sequence, end.Previous = n+1, ""
		}
		end.Foreign = append(end.Foreign, d.setAside(nameOf(n)))
	}
	return end, nil
}

// newest returns the number of the machine's newest report that follows another one or,
// if none does, of the newest one; 0 for none.
func newest(known map[int64]link, machine string) int64 {
	var following, alone int64
	for n, l := range known {
		switch {
		case l.follows(known[n-1], machine):
			following = max(following, n)
		case l.machine == machine:
			alone = max(alone, n)
		}
	}
	if following > 0 {
		return following
	}
	return alone
}

// link is the part of a statement that the directory needs. The zero value is none. The
// rules of a statement do not apply to it: a newer version of this program may have
// others.
type link struct{ digest, machine, previous string }

// follows reports whether l is of the machine and names before.
func (l link) follows(before link, machine string) bool {
	return before.digest != "" && l.previous == before.digest && l.machine == machine
}

// peek reads the report n, and reports whether it is a report with that number.
func (d Dir) peek(n int64) (l link, data []byte, ok bool) {
	data, err := hostfile.ReadSmallNoFollow(filepath.Join(d.Path, nameOf(n)), maxBundle)
	if err != nil {
		return l, nil, false
	}
	var statement struct {
		Predicate struct {
			Machine  string `json:"machine"`
			Sequence int64  `json:"sequence"`
			Previous string `json:"previous"`
		} `json:"predicate"`
	}
	payload, ok := Unverified(data)
	if !ok || json.Unmarshal(payload, &statement) != nil {
		return l, nil, false
	}
	l = link{sum(payload), statement.Predicate.Machine, statement.Predicate.Previous}
	return l, data, statement.Predicate.Sequence == n
}

// Unverified returns the statement in a signed report without checking the signature, and
// false if there is none.
func Unverified(bundle []byte) (statement []byte, ok bool) {
	var in struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	if json.Unmarshal(bundle, &in) != nil || len(in.Envelope.Payload) == 0 {
		return nil, false
	}
	return in.Envelope.Payload, true
}

// setAside renames a file to a name that no report has, and returns that name. The file
// is evidence, of damage or of an intruder.
func (d Dir) setAside(name string) string {
	aside := name + ".foreign"
	for n := 2; n < maxLook; n++ {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(d.Path, name), unix.AT_FDCWD, filepath.Join(d.Path, aside), unix.RENAME_NOREPLACE)
		if err == nil {
			return aside
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
		aside = fmt.Sprintf("%s.foreign-%d", name, n)
	}
	return name
}

// Add writes the bundle of the report with that sequence number, atomically and never
// over another one, removes the oldest ones beyond Keep, and returns its file name.
func (d Dir) Add(sequence int64, bundle []byte) (string, error) {
	if err := os.MkdirAll(d.Path, 0o755); err != nil {
		return "", err
	}
	name := filepath.Join(d.Path, nameOf(sequence))
	f, err := renameio.TempFile(d.Path, filepath.Join(d.Path, tempPrefix))
	if err != nil {
		return "", err
	}
	defer f.Cleanup() //nolint:errcheck // it is gone once it was renamed
	if err := f.Chmod(0o644); err != nil {
		return "", err
	}
	if _, err := f.Write(bundle); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, name, unix.RENAME_NOREPLACE); err != nil {
		return "", &os.PathError{Op: "write", Path: name, Err: err}
	}
	if err := hostfile.SyncDir(d.Path); err != nil {
		return "", err
	}
	// The report is written: the next call tries again to remove what stays beyond Keep.
	d.prune()
	return name, nil
}

// prune removes the oldest reports beyond Keep, and temporary files of killed runs.
func (d Dir) prune() {
	all, err := d.list()
	if err != nil {
		return
	}
	for _, n := range all[:max(0, len(all)-max(1, d.Keep))] {
		_ = os.Remove(filepath.Join(d.Path, nameOf(n)))
	}
	stray, _ := filepath.Glob(filepath.Join(d.Path, "."+tempPrefix+"[0-9]*")) // as renameio names them
	for _, name := range stray {
		_ = os.Remove(name)
	}
}
