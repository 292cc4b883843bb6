package closure

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/pkg/nar"
)

const (
	// ManifestSchema is the only schemaVersion of manifests that this package reads and
	// writes.
	ManifestSchema = 1
	// ManifestKind is the kind in every manifest.
	ManifestKind = "ec-closure-manifest"
	// MaxManifestSize limits a manifest, in bytes. A desktop's closure of 5,000 paths
	// takes about 6 MB.
	MaxManifestSize = 64 << 20

	// minNarSize is the size of the smallest NAR, of an empty directory; an empty file
	// takes 112 bytes.
	minNarSize = 96
	// maxNarSize, 16 TiB, is more than a file system's largest file, and small enough
	// that the sizes of a manifest can be added up.
	maxNarSize = 1 << 44
)

// Manifest is a release's statement about one configuration: the source that it was
// evaluated from, the derivation and path of the system, and every path of its closure
// with its NAR hash.
//
// A Manifest depends on the source alone: two builders of one source write the same bytes
// (see [Manifest.Encode]). It is a claim; only the signature of its release makes it
// trustworthy.
type Manifest struct {
	SchemaVersion int    `json:"schemaVersion"`
	Kind          string `json:"kind"`
	// Configuration is the name in the flake's nixosConfigurations.
	Configuration string `json:"configuration"`
	// System is the platform in Nix's form, e.g. "aarch64-linux".
	System   string   `json:"system"`
	StoreDir StoreDir `json:"storeDir"`
	Source   Source   `json:"source"`
	Toplevel Toplevel `json:"toplevel"`
	// Paths is the closure of Toplevel.OutPath in ascending order.
	Paths []PathInfo `json:"paths"`
	// Unreproducible lists, in ascending order, the derivations whose outputs differed
	// between two builds of the same source by the publisher.
	Unreproducible []Unreproducible `json:"unreproducible"`
}

// Source identifies the flake that a configuration is evaluated from.
type Source struct {
	// NarHash is the NAR hash of the flake's whole tree.
	NarHash nar.Hash `json:"narHash"`
	// LockNarHash is the NAR hash of its flake.lock; the zero value, written as null,
	// means that the flake has no inputs and no lock file.
	LockNarHash nar.Hash `json:"lockNarHash"`
	// Dir is the directory of the tree with flake.nix and flake.lock; "" means the tree
	// itself, and is not written. See [CheckSourceDir].
	Dir string `json:"dir,omitzero"`
}

// LockFile returns the path of the lock file within the source.
func (s Source) LockFile() string { return path.Join(s.Dir, "flake.lock") }

// CheckSourceDir returns an error unless dir can be the directory of a flake within its
// source: names of letters, digits, "_", ".", "+" and "-", separated by "/", at most 200
// bytes, none of them "." or "..".
func CheckSourceDir(dir string) error {
	if len(dir) > 200 || !dirPattern().MatchString(dir) || path.Clean("/"+dir) != "/"+dir {
		return fmt.Errorf("directory %q of a flake: want names of letters, digits, '_', '.', '+' and '-', and '/' between them", clip(dir))
	}
	return nil
}

// Toplevel is the root of a system's closure, and its derivation.
type Toplevel struct {
	DrvPath StorePath `json:"drvPath"`
	OutPath StorePath `json:"outPath"`
}

// Unreproducible says that some outputs of a derivation differ from build to build.
type Unreproducible struct {
	DrvPath StorePath `json:"drvPath"`
	Outputs []string  `json:"outputs"`
	Reason  string    `json:"reason"`
}

// Closure returns the paths of m by name.
func (m *Manifest) Closure() Closure {
	c := make(Closure, len(m.Paths))
	for _, info := range m.Paths {
		c[info.Path] = info
	}
	return c
}

// Encode returns m in its only form: members in the order of this package's types,
// indented by two spaces, paths and references ascending, a final newline. It sorts m and
// checks it first, so that it never writes what cannot be decoded.
func (m *Manifest) Encode() ([]byte, error) {
	sorted := *m
	sorted.Paths = slices.Clone(m.Paths)
	for i := range sorted.Paths {
		info := &sorted.Paths[i]
		info.References = slices.Clone(info.References)
		slices.Sort(info.References)
	}
	slices.SortFunc(sorted.Paths, func(a, b PathInfo) int { return cmp.Compare(a.Path, b.Path) })
	sorted.Unreproducible = slices.Clone(m.Unreproducible)
	for i := range sorted.Unreproducible {
		u := &sorted.Unreproducible[i]
		u.Outputs = slices.Clone(u.Outputs)
		slices.Sort(u.Outputs)
	}
	slices.SortFunc(sorted.Unreproducible, func(a, b Unreproducible) int { return cmp.Compare(a.DrvPath, b.DrvPath) })
	if err := sorted.check(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return sorted.encode()
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	err := m.write(&b)
	return b.Bytes(), err
}

func (m *Manifest) write(w io.Writer) error {
	err := json.MarshalWrite(w, m, jsontext.WithIndent("  "), json.WithMarshalers(emptyAsNull))
	if err == nil {
		_, err = w.Write([]byte{'\n'})
	}
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	return nil
}

// sameBytes compares what is written with rest, so that a manifest of some MB need not
// be in memory a second time.
type sameBytes struct {
	rest    []byte // from the first byte on that is not written, or differs
	differs bool
}

func (s *sameBytes) Write(p []byte) (int, error) {
	switch {
	case s.differs:
	case bytes.HasPrefix(s.rest, p):
		s.rest = s.rest[len(p):]
	default:
		s.rest, s.differs = s.rest[commonPrefix(s.rest, p):], true
	}
	return len(p), nil
}

// ErrSchema is wrapped by [DecodeManifest] for a manifest of an unknown schema version,
// which means a newer publisher, not a damaged file.
var ErrSchema = errors.New("unknown schema version")

// DecodeManifest reads a manifest and applies every rule: known version and kind, no
// unknown, missing or duplicate member, valid store paths, no duplicate path, no
// reference that leaves the closure, no path that the system does not need, and the form
// that [Manifest.Encode] writes.
func DecodeManifest(data []byte) (*Manifest, error) {
	if len(data) > MaxManifestSize {
		return nil, fmt.Errorf("decode manifest: %d bytes, at most %d are allowed", len(data), MaxManifestSize)
	}
	if m := ScanManifest(bytes.NewReader(data)); m != nil {
		return m, nil
	}
	return decodeManifest(data, nil)
}

// ScanManifest reads a manifest from in by the rules of [DecodeManifest], without having all
// of it in memory. It returns nil for every manifest that DecodeManifest refuses, and for a
// few that are valid. in must limit its size. Most checks follow the end of in: if in ends
// in an error, because the manifest is not trusted, they are not made.
func ScanManifest(in io.Reader) *Manifest {
	paths, frame := scanPaths(in)
	if paths == nil {
		return nil
	}
	m, err := decodeManifest(frame, paths)
	if err != nil {
		return nil
	}
	return m
}

// decodeManifest decodes a manifest. If paths are given, they are the manifest's, and data
// has none.
func decodeManifest(data []byte, paths []PathInfo) (*Manifest, error) {
	m := new(Manifest)
	err := json.Unmarshal(data, m, json.RejectUnknownMembers(true))
	if err != nil || m.Kind != ManifestKind || m.SchemaVersion != ManifestSchema {
		return nil, otherManifest(data, err)
	}
	// Two forms of one manifest would make builders incomparable with cmp; this also
	// finds missing members.
	same := &sameBytes{rest: data}
	if err := m.write(same); err != nil {
		return nil, err
	}
	if paths != nil {
		m.Paths = paths
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	if same.differs || len(same.rest) > 0 {
		return nil, fmt.Errorf("decode manifest: not in canonical form from byte %d on", len(data)-len(same.rest))
	}
	return m, nil
}

// otherManifest explains why data, which failed to decode with err, is not a manifest of
// this version: that the version is another says more than that a member is unknown.
func otherManifest(data []byte, err error) error {
	var head struct {
		SchemaVersion int    `json:"schemaVersion"`
		Kind          string `json:"kind"`
	}
	headErr := json.Unmarshal(data, &head)
	switch {
	case headErr != nil:
		return fmt.Errorf("decode manifest: %s", jsonError(headErr))
	case head.Kind != ManifestKind:
		return fmt.Errorf("decode manifest: kind is %q, want %q", clip(head.Kind), ManifestKind)
	case head.SchemaVersion != ManifestSchema:
		return fmt.Errorf("decode manifest: %w %d; this program reads version %d", ErrSchema, head.SchemaVersion, ManifestSchema)
	}
	return fmt.Errorf("decode manifest: %s", jsonError(err))
}

var (
	dirPattern           = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*$`) })
	configurationPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`) })
	systemPattern        = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9_]{1,32}-[a-z0-9_]{1,32}$`) })
	outputPattern        = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9+._?=-]{1,64}$`) })
	printablePattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\x20-\x7e]+$`) })
)

// isPrintable reports whether text has 1 to 300 printable ASCII characters.
func isPrintable(text string) bool { return len(text) <= 300 && printablePattern().MatchString(text) }

// CheckConfiguration returns an error unless name can be the name of a configuration. It
// becomes part of file names: letters, digits, "_", "." and "-", at most 100 of them, the
// first neither a dot nor a dash.
func CheckConfiguration(name string) error {
	if len(name) > 100 || !configurationPattern().MatchString(name) {
		return fmt.Errorf("configuration name %q: want letters, digits, '_', '.' and '-' only", clip(name))
	}
	return nil
}

// check applies the rules that span several parts of m; each part is valid by its type.
func (m *Manifest) check() error {
	if m.SchemaVersion != ManifestSchema || m.Kind != ManifestKind {
		return fmt.Errorf("kind %q version %d: want %q version %d", clip(m.Kind), m.SchemaVersion, ManifestKind, ManifestSchema)
	}
	if err := CheckConfiguration(m.Configuration); err != nil {
		return err
	}
	if !systemPattern().MatchString(m.System) {
		return fmt.Errorf("system %q: want a platform such as x86_64-linux", clip(m.System))
	}
	dir, err := ParseStoreDir(string(m.StoreDir))
	if err != nil {
		return err
	}
	if m.Source.NarHash.IsZero() {
		return errors.New("source has no narHash")
	}
	if m.Source.Dir != "" {
		if err := CheckSourceDir(m.Source.Dir); err != nil {
			return fmt.Errorf("source: %w", err)
		}
	}
	if _, err := dir.Parse(string(m.Toplevel.DrvPath)); err != nil || !m.Toplevel.DrvPath.IsDerivation() {
		return fmt.Errorf("toplevel drvPath %q: want a .drv in %s", clip(string(m.Toplevel.DrvPath)), dir)
	}
	if err := m.checkClosure(dir); err != nil {
		return err
	}
	return checkUnreproducible(dir, m.Unreproducible)
}

// checkClosure requires that the paths are the toplevel and all that it refers to. It lets
// equal store paths share one string.
func (m *Manifest) checkClosure(dir StoreDir) error {
	at := make(index, len(m.Paths))
	for i := range m.Paths {
		at[m.Paths[i].Path] = int32(i) //nolint:gosec // a manifest has some 100,000 paths at most
	}
	if err := checkPaths(dir, m.Paths, at); err != nil {
		return err
	}
	if _, ok := at[m.Toplevel.OutPath]; !ok {
		return fmt.Errorf("toplevel outPath %q is not among the paths", clip(string(m.Toplevel.OutPath)))
	}
	for _, info := range m.Paths {
		for i, ref := range info.References {
			known, ok := at[ref]
			if !ok {
				return fmt.Errorf("%s refers to %s, which is not among the paths", info.Path, ref)
			}
			// One string for each path, however many paths refer to it.
			info.References[i] = m.Paths[known].Path
		}
	}
	for i, reached := range at.reach(m.Paths, m.Toplevel.OutPath) {
		if !reached {
			return fmt.Errorf("%s is not in the closure of %s", m.Paths[i].Path, m.Toplevel.OutPath)
		}
	}
	return nil
}

// index says where in a list each path is; a [Closure] takes ten times the memory.
type index map[StorePath]int32

// reach reports for each of paths whether it is root, or references lead from root to it.
// All references are among paths.
func (at index) reach(paths []PathInfo, root StorePath) []bool {
	reached := make([]bool, len(paths))
	reached[at[root]] = true
	for todo := []int32{at[root]}; len(todo) > 0; {
		info := &paths[todo[len(todo)-1]]
		todo = todo[:len(todo)-1]
		for _, ref := range info.References {
			if i := at[ref]; !reached[i] {
				reached[i] = true
				todo = append(todo, i)
			}
		}
	}
	return reached
}

// checkPaths checks each of paths by itself, and their order; at has the same paths.
func checkPaths(dir StoreDir, paths []PathInfo, at index) error {
	for i := range paths {
		info := &paths[i]
		if _, err := dir.Parse(string(info.Path)); err != nil {
			return err
		}
		if i > 0 && paths[i-1].Path == info.Path {
			return fmt.Errorf("%s is listed twice", info.Path)
		}
		if i > 0 && paths[i-1].Path > info.Path {
			return fmt.Errorf("paths are not in ascending order at %s", info.Path)
		}
		if err := info.check(dir, at); err != nil {
			return err
		}
	}
	return nil
}

// check checks what is said of the path i.Path; the paths in at are checked elsewhere.
func (i *PathInfo) check(dir StoreDir, at index) error {
	if i.NarHash.IsZero() {
		return fmt.Errorf("%s has no narHash", i.Path)
	}
	// Every part of a NAR is padded to a multiple of 8.
	if i.NarSize < minNarSize || i.NarSize > maxNarSize || i.NarSize%8 != 0 {
		return fmt.Errorf("%s has narSize %d, which no NAR has", i.Path, i.NarSize)
	}
	if i.Deriver != "" {
		if _, err := dir.Parse(string(i.Deriver)); err != nil || !i.Deriver.IsDerivation() {
			return fmt.Errorf("deriver of %s: %q is not a .drv in %s", i.Path, clip(string(i.Deriver)), dir)
		}
	}
	if i.CA != "" && !isPrintable(i.CA) {
		return fmt.Errorf("ca of %s: %q is not a content address", i.Path, clip(i.CA))
	}
	return i.checkReferences(dir, at)
}

func (i *PathInfo) checkReferences(dir StoreDir, at index) error {
	for j, ref := range i.References {
		if _, ok := at[ref]; !ok {
			if _, err := dir.Parse(string(ref)); err != nil {
				return fmt.Errorf("references of %s: %w", i.Path, err)
			}
		}
		if j > 0 && i.References[j-1] >= ref {
			return fmt.Errorf("references of %s: doubled or not in ascending order at %s", i.Path, ref)
		}
	}
	return nil
}

func checkUnreproducible(dir StoreDir, list []Unreproducible) error {
	for i, u := range list {
		if _, err := dir.Parse(string(u.DrvPath)); err != nil || !u.DrvPath.IsDerivation() {
			return fmt.Errorf("unreproducible drvPath %q: want a .drv in %s", clip(string(u.DrvPath)), dir)
		}
		if i > 0 && list[i-1].DrvPath >= u.DrvPath {
			return fmt.Errorf("unreproducible: doubled or not in ascending order at %s", u.DrvPath)
		}
		if len(u.Outputs) == 0 {
			return fmt.Errorf("unreproducible %s names no output", u.DrvPath)
		}
		for j, out := range u.Outputs {
			if !outputPattern().MatchString(out) || j > 0 && u.Outputs[j-1] >= out {
				return fmt.Errorf("unreproducible %s: output %q is malformed, doubled or out of order", u.DrvPath, clip(out))
			}
		}
		if !isPrintable(u.Reason) {
			return fmt.Errorf("unreproducible %s: the reason must be 1 to 300 printable ASCII characters", u.DrvPath)
		}
	}
	return nil
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
