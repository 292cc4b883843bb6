package closure

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/nar"
)

const (
	// ListingSchema is the one schemaVersion of listings that this package
	// reads and writes.
	ListingSchema = 1
	// ListingKind is the kind that every listing states.
	ListingKind = "ec-closure-files"
	// MaxListingSize bounds a listing after decompression, in bytes: some four
	// million files.
	MaxListingSize = 1 << 30

	// listingWindow is what the compressor may look back, and so what reading
	// costs in memory.
	listingWindow = 1 << 20
	// maxListedPath bounds what one store path's files may take, since they are
	// held together; the largest real ones (kernel sources, TeX) take 40 MB.
	maxListedPath = 256 << 20
)

// PathFiles is one store path with its files, in the order of its NAR. The
// first file is the root of the path, with the empty Path.
type PathFiles struct {
	Path    StorePath
	NarHash nar.Hash
	Files   []nar.Entry
}

// A listing is JSON, compressed with zstd: a header line, then a line for each
// store path in ascending order:
//
//	{"schemaVersion":1,"kind":"ec-closure-files","configuration":"…"}
//	{"path":"/nix/store/…","narHash":"sha256-…","files":[…]}
//
// Every file has "name" (relative to the store path, "" for its root) or,
// where the name is no valid UTF-8, "nameBase64"; "type"; and by type "size",
// "sha256" and "executable" (only where true), or "target" or "targetBase64".
type (
	listingHead struct {
		SchemaVersion int    `json:"schemaVersion"`
		Kind          string `json:"kind"`
		Configuration string `json:"configuration"`
	}
	listingPath struct {
		Path    StorePath     `json:"path"`
		NarHash nar.Hash      `json:"narHash"`
		Files   []listingFile `json:"files"`
	}
	listingFile struct {
		Name         *string   `json:"name,omitzero"`
		NameBase64   *string   `json:"nameBase64,omitzero"`
		Type         string    `json:"type"`
		Size         *int64    `json:"size,omitzero"`
		SHA256       *nar.Hash `json:"sha256,omitzero"`
		Executable   bool      `json:"executable,omitzero"`
		Target       *string   `json:"target,omitzero"`
		TargetBase64 *string   `json:"targetBase64,omitzero"`
	}
)

// ListingWriter writes a listing. Close must be called and its error looked
// at: before that nothing is complete.
type ListingWriter struct {
	z    *zstd.Encoder
	last StorePath
}

// NewListingWriter begins the listing of configuration on w. The same calls
// give the same bytes.
func NewListingWriter(w io.Writer, configuration string) (*ListingWriter, error) {
	// One goroutine: the output of several depends on their timing.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(listingWindow))
	if err != nil {
		return nil, fmt.Errorf("write listing: %w", err)
	}
	lw := &ListingWriter{z: z}
	if err := CheckConfiguration(configuration); err != nil {
		return nil, fmt.Errorf("write listing: %w", err)
	}
	return lw, lw.line(&listingHead{ListingSchema, ListingKind, configuration})
}

// Add appends the files of one store path. Paths must come in ascending order.
func (lw *ListingWriter) Add(p PathFiles) error {
	if p.Path <= lw.last {
		return fmt.Errorf("write listing: %s does not come after %s", p.Path, lw.last)
	}
	lw.last = p.Path
	line := listingPath{Path: p.Path, NarHash: p.NarHash, Files: make([]listingFile, 0, len(p.Files))}
	for _, f := range p.Files {
		line.Files = append(line.Files, encodeFile(f))
	}
	return lw.line(&line)
}

// Close completes the listing; it does not close the underlying writer.
func (lw *ListingWriter) Close() error { return lw.z.Close() }

func (lw *ListingWriter) line(v any) error {
	if err := json.MarshalWrite(lw.z, v); err != nil {
		return fmt.Errorf("write listing: %w", err)
	}
	_, err := lw.z.Write([]byte{'\n'})
	return err
}

func encodeFile(e nar.Entry) listingFile {
	f := listingFile{Type: e.Type.String()}
	f.Name, f.NameBase64 = encodeBytes(e.Path)
	switch e.Type {
	case nar.Regular:
		f.Size, f.SHA256, f.Executable = &e.Size, &e.SHA256, e.Executable
	case nar.Symlink:
		f.Target, f.TargetBase64 = encodeBytes(e.Target)
	}
	return f
}

func encodeBytes(s string) (text, base *string) {
	if utf8.ValidString(s) {
		return &s, nil
	}
	b := base64.StdEncoding.EncodeToString([]byte(s))
	return nil, &b
}

// ReadListing yields, from the listing of configuration in r, the store paths
// that want accepts, in ascending order. It holds one path's files at a time
// and reads no more than [MaxListingSize] bytes. A listing that is malformed,
// too large or of another configuration ends it with one error.
func ReadListing(r io.Reader, configuration string, want func(StorePath) bool) iter.Seq2[PathFiles, error] {
	return func(yield func(PathFiles, error) bool) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(listingWindow), zstd.WithDecoderMaxMemory(MaxListingSize))
		if err != nil {
			yield(PathFiles{}, fmt.Errorf("read listing: %w", err))
			return
		}
		defer z.Close()
		lines := &listingLines{r: bufio.NewReaderSize(z, 64<<10), left: MaxListingSize}
		if err := lines.head(configuration); err != nil {
			yield(PathFiles{}, fmt.Errorf("read listing: %w", err))
			return
		}
		for {
			p, ok, err := lines.next(want)
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(PathFiles{}, fmt.Errorf("read listing: %w", err))
				return
			case ok && !yield(p, nil):
				return
			}
		}
	}
}

// listingLines reads a listing line by line.
type listingLines struct {
	r    *bufio.Reader
	left int64 // bytes of the whole listing that may still come
	last StorePath
}

func (l *listingLines) head(configuration string) error {
	line, err := l.line(4096)
	if err != nil {
		return noEOF(err)
	}
	var head listingHead
	if err := json.Unmarshal(line, &head, json.RejectUnknownMembers(true)); err != nil {
		return errors.New(jsonError(err))
	}
	switch {
	case head.Kind != ListingKind:
		return fmt.Errorf("kind is %q, want %q", clip(head.Kind), ListingKind)
	case head.SchemaVersion != ListingSchema:
		return fmt.Errorf("%w %d; this program reads version %d", ErrSchema, head.SchemaVersion, ListingSchema)
	case head.Configuration != configuration:
		return fmt.Errorf("it lists configuration %q, not %q", clip(head.Configuration), configuration)
	}
	return nil
}

// pathPrefix is how every line after the first begins; the path can be told
// from it without decoding the files.
const pathPrefix = `{"path":"`

func (l *listingLines) next(want func(StorePath) bool) (PathFiles, bool, error) {
	start, err := l.r.Peek(1)
	if len(start) == 0 {
		return PathFiles{}, false, err
	}
	begin, err := l.until('"', len(pathPrefix), maxDirLen+256)
	if err != nil {
		return PathFiles{}, false, noEOF(err)
	}
	if !strings.HasPrefix(string(begin), pathPrefix) {
		return PathFiles{}, false, errors.New("a line does not begin with a path")
	}
	path, err := ParseStorePath(string(begin[len(pathPrefix) : len(begin)-1]))
	if err != nil {
		return PathFiles{}, false, err
	}
	if path <= l.last {
		return PathFiles{}, false, fmt.Errorf("%s is listed twice or out of order", path)
	}
	l.last = path
	if !want(path) {
		return PathFiles{}, false, l.skip()
	}
	rest, err := l.line(maxListedPath)
	if err != nil {
		return PathFiles{}, false, noEOF(err)
	}
	p, err := decodePath(append(begin, rest...))
	return p, err == nil, err
}

// until returns the bytes up to and with the first c after the first skip
// bytes, at most limit of them.
func (l *listingLines) until(c byte, skip, limit int) ([]byte, error) {
	var out []byte
	for len(out) < limit {
		b, err := l.r.ReadByte()
		if err != nil {
			return nil, err
		}
		l.left--
		out = append(out, b)
		if len(out) > skip && b == c {
			return out, l.bound()
		}
	}
	return nil, errors.New("a path is too long")
}

// line returns the rest of the current line, at most limit bytes.
func (l *listingLines) line(limit int) ([]byte, error) {
	var out []byte
	for {
		part, err := l.r.ReadSlice('\n')
		l.left -= int64(len(part))
		if bound := l.bound(); bound != nil {
			return nil, bound
		}
		if len(out)+len(part) > limit {
			return nil, fmt.Errorf("a line is longer than %d bytes", limit)
		}
		out = append(out, part...)
		if err == nil {
			return out, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

func (l *listingLines) skip() error {
	for {
		part, err := l.r.ReadSlice('\n')
		l.left -= int64(len(part))
		if bound := l.bound(); bound != nil {
			return bound
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return noEOF(err)
		}
	}
}

func (l *listingLines) bound() error {
	if l.left < 0 {
		return fmt.Errorf("larger than %d bytes", MaxListingSize)
	}
	return nil
}

func decodePath(line []byte) (PathFiles, error) {
	var p listingPath
	if err := json.Unmarshal(line, &p, json.RejectUnknownMembers(true)); err != nil {
		return PathFiles{}, errors.New(jsonError(err))
	}
	out := PathFiles{Path: p.Path, NarHash: p.NarHash, Files: make([]nar.Entry, 0, len(p.Files))}
	if len(p.Files) == 0 {
		return PathFiles{}, fmt.Errorf("%s has no files", p.Path)
	}
	for i, f := range p.Files {
		e, err := decodeFile(f)
		if err == nil && (i == 0) != (e.Path == "") {
			err = errors.New("the first file, and it alone, is the root")
		}
		if err != nil {
			return PathFiles{}, fmt.Errorf("file %d of %s: %w", i, p.Path, err)
		}
		out.Files = append(out.Files, e)
	}
	return out, nil
}

func decodeFile(f listingFile) (nar.Entry, error) {
	name, err := decodeBytes(f.Name, f.NameBase64)
	if err != nil {
		return nar.Entry{}, fmt.Errorf("name: %w", err)
	}
	if name != "" {
		for part := range strings.SplitSeq(name, "/") {
			if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
				return nar.Entry{}, fmt.Errorf("name %q is not a relative path", clip(name))
			}
		}
	}
	e := nar.Entry{Path: name}
	isFile, isLink := f.Size != nil && f.SHA256 != nil, f.Target != nil || f.TargetBase64 != nil
	switch f.Type {
	case nar.Regular.String():
		if !isFile || isLink || *f.Size < 0 {
			return nar.Entry{}, errors.New("a regular file has size and sha256, and no target")
		}
		e.Type, e.Size, e.SHA256, e.Executable = nar.Regular, *f.Size, *f.SHA256, f.Executable
	case nar.Directory.String():
		if f.Size != nil || f.SHA256 != nil || isLink || f.Executable {
			return nar.Entry{}, errors.New("a directory has neither size, sha256 nor target")
		}
		e.Type = nar.Directory
	case nar.Symlink.String():
		if f.Size != nil || f.SHA256 != nil || f.Executable {
			return nar.Entry{}, errors.New("a symlink has a target and nothing else")
		}
		e.Type = nar.Symlink
		if e.Target, err = decodeBytes(f.Target, f.TargetBase64); err != nil {
			return nar.Entry{}, fmt.Errorf("target: %w", err)
		}
	default:
		return nar.Entry{}, fmt.Errorf("unknown type %q", clip(f.Type))
	}
	return e, nil
}

func decodeBytes(text, base *string) (string, error) {
	switch {
	case text != nil && base == nil:
		return *text, nil
	case text == nil && base != nil:
		b, err := base64.StdEncoding.Strict().DecodeString(*base)
		if err != nil || utf8.Valid(b) {
			return "", errors.New("base64 is malformed, or of what is valid UTF-8")
		}
		return string(b), nil
	}
	return "", errors.New("want it once, as text or as base64")
}

// noEOF is for the places where a listing may not end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
