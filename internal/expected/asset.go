package expected

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/closure"
)

const (
	// Schema is the one schemaVersion that this package reads and writes.
	Schema = 1
	// Kind is the kind in every asset.
	Kind = "ec-machine"
	// MaxSize is the largest size of an asset after decompression, in bytes. A server's
	// has about 100 KB.
	MaxSize = 32 << 20

	window = 1 << 20
)

// Write writes m to w: JSON, compressed with zstd. The same m gives the same bytes.
func (m *Machine) Write(w io.Writer) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	if err := m.check(); err != nil {
		return err
	}
	// One goroutine: the output of several depends on their timing.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

func (m *Machine) encode() ([]byte, error) {
	text, err := json.Marshal(m, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("the machine of %s: %w", m.Toplevel, err)
	}
	if len(text) >= MaxSize {
		return nil, fmt.Errorf("the machine of %s takes more than %d bytes", m.Toplevel, MaxSize)
	}
	return append(text, '\n'), nil
}

// Decode reads the asset of a configuration. It accepts only the form that [Machine.Write]
// writes.
func Decode(r io.Reader, configuration string) (*Machine, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(MaxSize))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	// One byte more than is allowed, to notice a larger asset.
	text, err := io.ReadAll(io.LimitReader(z, MaxSize+1))
	if err != nil {
		return nil, err
	}
	m, err := decode(text)
	if err != nil {
		return nil, err
	}
	if m.Configuration != configuration {
		return nil, fmt.Errorf("it belongs to configuration %q", m.Configuration)
	}
	return m, nil
}

func decode(text []byte) (*Machine, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes", MaxSize)
	}
	m := new(Machine)
	if err := json.Unmarshal(text, m, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if again, err := m.encode(); err != nil || !bytes.Equal(again, text) {
		return nil, errors.Join(errors.New("not in the form of the writer"), err)
	}
	return m, nil
}

var modePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-7]{4}$`) })

// check returns an error if a part of m is not valid.
func (m *Machine) check() error {
	if m.SchemaVersion != Schema || m.Kind != Kind {
		return fmt.Errorf("kind %.40q version %d: want %q version %d", m.Kind, m.SchemaVersion, Kind, Schema)
	}
	if err := closure.CheckConfiguration(m.Configuration); err != nil {
		return err
	}
	last := ""
	for i := range m.Etc {
		e := &m.Etc[i]
		if err := ascending("etc", &last, e.Path); err != nil {
			return err
		}
		if !e.isOneKind() {
			return fmt.Errorf("etc: %q is not exactly one kind of file", e.Path)
		}
	}
	last = ""
	for _, u := range m.Units {
		if err := ascending("units", &last, u.Path); err != nil {
			return err
		}
		if !path.IsAbs(u.Target) || path.Clean(u.Target) != u.Target {
			return fmt.Errorf("units: %q leads to %q", u.Path, u.Target)
		}
	}
	if u := m.Users; u != nil {
		if !slices.IsSortedFunc(u.Users, func(a, b User) int { return cmp.Compare(a.Name, b.Name) }) ||
			!slices.IsSortedFunc(u.Groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) }) {
			return errors.New("users: not in order of their names")
		}
	}
	if m.Firewall != nil {
		return m.Firewall.check()
	}
	return nil
}

func (e *Entry) isOneKind() bool {
	switch {
	case e.Directory:
		return e.Target == "" && e.Copy == nil
	case e.Target != "":
		return e.Copy == nil
	}
	return e.Copy != nil && modePattern().MatchString(e.Copy.Mode)
}

// ascending reports whether name is a path below a directory, and above last, which
// becomes it.
func ascending(list string, last *string, name string) error {
	if !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%s: %q is not a path below it", list, name)
	}
	if name <= *last {
		return fmt.Errorf("%s: %q does not come after %q", list, name, *last)
	}
	*last = name
	return nil
}
