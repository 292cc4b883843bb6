package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
	"github.com/prometheus/common/expfmt"
)

// mode lets node_exporter read the file, which runs as somebody else.
const mode = 0o644

// Write writes s to the file name, in whose place it is put in one step. Where
// that fails the file is removed, so that it does not say of the machine what
// the run before found: what is absent can be alarmed about.
func Write(name string, s Snapshot) error {
	var b bytes.Buffer
	err := encode(&b, s)
	if err == nil {
		err = renameio.WriteFile(name, b.Bytes(), mode, renameio.IgnoreUmask())
	}
	if err == nil {
		return nil
	}
	// A read-only file system refuses to remove also what is not there.
	if removed := os.Remove(name); removed != nil {
		if _, there := os.Lstat(name); !errors.Is(there, fs.ErrNotExist) {
			return fmt.Errorf("write metrics: %w; those of an earlier run stay in %s: %w", err, name, removed)
		}
	}
	return fmt.Errorf("write metrics: %w; there are none now", err)
}

// encode writes s in the text format, in ascending order of the names.
func encode(w io.Writer, s Snapshot) error {
	g, err := gather(s)
	if err != nil {
		return err
	}
	families, err := g.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	return nil
}
