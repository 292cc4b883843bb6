package attest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Dir is a directory of signed reports. The newest is the end of the chain, and
// there is no other memory of it: who removes the files breaks the chain where
// everybody sees it. One process at a time may add to it.
type Dir struct {
	Path string
	// Keep is how many reports stay, at least 1.
	Keep int
}

// tempPrefix begins the name of a report that is being written.
const tempPrefix = ".report"

// maxBundle bounds a file of the directory in bytes.
const maxBundle = 16 << 20

var fileName = regexp.MustCompile(`\Areport-([0-9]{10,18})\.sigstore\.json\z`)

func nameOf(sequence int64) string { return fmt.Sprintf("report-%010d.sigstore.json", sequence) }

// list returns the sequence numbers of the reports in ascending order; none
// where there is no directory.
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
		if m := fileName.FindStringSubmatch(e.Name()); m != nil {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err == nil && n > 0 && e.Name() == nameOf(n) {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// Empty reports whether there are no reports, as far as can be told.
func (d Dir) Empty() bool {
	all, _ := d.list()
	return len(all) == 0
}

// Next returns the sequence number of the next report and the digest of the
// statement before it. A newest one that cannot be read has none: that the chain
// is broken there is for all to see.
func (d Dir) Next() (sequence int64, previous string, err error) {
	all, err := d.list()
	if err != nil {
		return 0, "", err
	}
	if len(all) == 0 {
		return 1, "", nil
	}
	last := all[len(all)-1]
	data, err := readBounded(filepath.Join(d.Path, nameOf(last)))
	if err == nil {
		var bundle struct {
			Envelope struct {
				Payload []byte `json:"payload"`
			} `json:"dsseEnvelope"`
		}
		if json.Unmarshal(data, &bundle) == nil && len(bundle.Envelope.Payload) > 0 {
			previous = sum(bundle.Envelope.Payload)
		}
	}
	return last + 1, previous, nil
}

// Add writes the bundle of the report with that sequence number, in one step
// and never over another, removes the oldest ones beyond Keep, and returns
// where it lies.
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
	if err := syncDir(d.Path); err != nil {
		return "", err
	}
	// The report is there: what stays beyond Keep is tried again by the next one.
	d.prune()
	return name, nil
}

// prune removes the oldest reports beyond Keep, and what runs left behind that
// were killed while they wrote one.
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

// syncDir makes what was renamed in dir last through a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func readBounded(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// A named pipe that somebody holds open would be waited for.
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")})
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err == nil && len(data) > maxBundle {
		err = &os.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d bytes", maxBundle)}
	}
	return data, err
}
