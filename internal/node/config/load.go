package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/hostfile"
)

// DefaultFile is the configuration's default file, which need not exist.
const DefaultFile = "/etc/ec-verify/config.json"

const (
	maxSize    = 1 << 20 // of one file, in bytes
	maxDropIns = 100
)

// Loaded is a configuration and the files that it was read from.
type Loaded struct {
	Config
	// Files are the files that were read, each merged over the previous ones.
	Files []string
	root  *node
}

// At returns the position of a key such as "release.accept", or of the value around it;
// false for a default.
func (l *Loaded) At(key string) (Position, bool) {
	if n := l.root.find(key); n != nil {
		return n.at, true
	}
	return Position{}, false
}

// DropInDir returns the directory of the drop-ins of the file name, "" for none: config.d
// beside config.json.
func DropInDir(name string) string {
	if base, ok := strings.CutSuffix(name, ".json"); ok {
		return base + ".d"
	}
	return ""
}

// Load reads the file name and its drop-ins over the defaults. If the name is empty, it
// reads [DefaultFile], if that exists, and its drop-ins.
func Load(name string) (Config, error) {
	l, err := Read(name)
	if err != nil {
		return Config{}, err
	}
	return l.Config, nil
}

// Read is [Load], and also returns which files were read. The error is *[Mistakes] if the
// files could be read but are wrong; the correct part is then returned as well.
func Read(name string) (*Loaded, error) {
	optional := name == ""
	if optional {
		name = DefaultFile
	}
	l := &Loaded{root: &node{kind: '{'}}
	mistakes := new(Mistakes)
	data, err := hostfile.ReadSmall(name, maxSize)
	switch {
	case err == nil:
		l.lay(name, data, mistakes)
	case !optional || !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("configuration: %w", err)
	}
	names, err := DropIns(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	for _, name := range names {
		data, err := hostfile.ReadSmall(name, maxSize)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		l.lay(name, data, mistakes)
	}
	if err := l.decode(mistakes); err != nil {
		return l, fmt.Errorf("configuration %w", err)
	}
	return l, nil
}

// DropIns returns the drop-ins of the file name, in the order of their names.
func DropIns(name string) ([]string, error) {
	dir := DropInDir(name)
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if len(names) > maxDropIns {
		return nil, fmt.Errorf("%s has %d drop-ins, at most %d are read", dir, len(names), maxDropIns)
	}
	slices.Sort(names)
	return names, nil
}

func (l *Loaded) lay(name string, data []byte, mistakes *Mistakes) {
	l.Files = append(l.Files, name)
	if over := parse(name, data, mistakes); over != nil {
		l.root.lay(over)
	}
}

// decode decodes the merged files. A wrong value is recorded and left out, so that the
// next one is found as well.
func (l *Loaded) decode(mistakes *Mistakes) error {
	l.root.dropNulls()
	for !mistakes.full() {
		l.Config = Default()
		var text bytes.Buffer
		l.root.text(&text)
		err := json.Unmarshal(text.Bytes(), &l.Config, json.RejectUnknownMembers(true))
		if err == nil {
			break
		}
		var wrong *json.SemanticError
		if !errors.As(err, &wrong) || !l.leaveOut(wrong, mistakes) {
			mistakes.add(Mistake{Text: err.Error()})
			break
		}
	}
	mistakes.More = mistakes.More || mistakes.full()
	found := new(Mistakes)
	l.check(func(key, format string, args ...any) {
		if mistakes.Covers(key) {
			return // it may follow from what was left out
		}
		at, _ := l.At(key)
		found.add(Mistake{At: at, Key: key, Text: key + ": " + fmt.Sprintf(format, args...)})
	})
	for _, m := range found.All {
		mistakes.add(m)
	}
	mistakes.More = mistakes.More || found.More
	return mistakes.err()
}

// leaveOut removes the value that can't be decoded, and reports whether there was one.
func (l *Loaded) leaveOut(wrong *json.SemanticError, mistakes *Mistakes) bool {
	n, parent := l.root.follow(wrong.JSONPointer)
	if parent == nil {
		return false
	}
	m := Mistake{At: n.at, Key: n.key}
	if errors.Is(wrong.Err, json.ErrUnknownName) {
		m = unknownKey(n.key, keysOf(wrong.GoType))
		m.At = parent.members[slices.IndexFunc(parent.members, func(m member) bool { return m.value == n })].at
	} else {
		m.Text = describe(n, wrong)
	}
	mistakes.add(m)
	parent.remove(n)
	return true
}

// Value is a key with its effective value.
type Value struct {
	Key  string
	JSON string // in one line
	// Means says what a zero or empty value means, where that is not plain.
	Means string
	// From is the place that sets it; the zero value for a default.
	From Position
}

// zeroMeans says what the zero values of keys mean.
var zeroMeans = map[string]string{
	"configuration":         "the release's only one",
	"storeRoot":             "this machine",
	"workers":               "two for each processor, at most 32",
	"nix.binDir":            "the usual places",
	"rebuild.budget":        "no limit",
	"contents.budget":       "no limit",
	"neighbour.rate":        "no limit",
	"neighbour.maxPressure": "never pause",
	"report.dir":            "reports in stateDir",
	"metrics.file":          "none",
}

// Values returns all keys that are set or have a default, in the order of
// docs/configuration.md.
func (l *Loaded) Values() ([]Value, error) {
	data, err := json.Marshal(&l.Config)
	if err != nil {
		return nil, err
	}
	root := parse("", data, new(Mistakes))
	if root == nil {
		return nil, errors.New("the configuration can't be printed")
	}
	var out []Value
	var walk func(n *node)
	walk = func(n *node) {
		for _, m := range n.members {
			if m.value.kind == '{' && len(m.value.members) > 0 {
				walk(m.value)
				continue
			}
			var text bytes.Buffer
			m.value.text(&text)
			v := Value{Key: m.value.key, JSON: spaced(text.Bytes())}
			if slices.Contains([]string{`0`, `"0s"`, `""`}, v.JSON) {
				v.Means = zeroMeans[v.Key]
			}
			// A list is set as a whole, an object key by key.
			if from := l.root.find(v.Key); from != nil && from.key == v.Key {
				v.From = from.at
			}
			out = append(out, v)
		}
	}
	walk(root)
	return out, nil
}

func spaced(text jsontext.Value) string {
	if err := text.Format(jsontext.SpaceAfterComma(true), jsontext.SpaceAfterColon(true)); err != nil {
		return string(text)
	}
	return string(text)
}
