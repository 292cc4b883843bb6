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

// mode lets node_exporter, which runs as another user, read the file.
const mode = 0o644

// Write replaces the file name by s atomically. If that fails the file is removed, so
// that it does not keep the result of an earlier run: absent metrics raise an alert.
func Write(name string, s Snapshot) error {
	var b bytes.Buffer
	err := encode(&b, s)
	if err == nil {
		err = renameio.WriteFile(name, b.Bytes(), mode, renameio.IgnoreUmask())
	}
	if err == nil {
		return nil
	}
	// A read-only file system refuses to remove even a file that does not exist.
	if removed := os.Remove(name); removed != nil {
		if _, there := os.Lstat(name); !errors.Is(there, fs.ErrNotExist) {
			return fmt.Errorf("write metrics: %w; those of an earlier run stay in %s: %w", err, name, removed)
		}
	}
	return fmt.Errorf("write metrics: %w; there are none now", err)
}

// encode writes s in the text format, in ascending order of names.
func encode(w io.Writer, s Snapshot) error {
	for _, family := range gather(s) {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	return nil
}
