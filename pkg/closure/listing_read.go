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
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/nar"
)

// ReadListing yields, from the listing of configuration in r, the store paths that want
// accepts, in ascending order. It keeps one path's files at a time and reads no more than
// [MaxListingSize] bytes. If the listing is malformed, too large or of another
// configuration, it yields an error and ends.
func ReadListing(r io.Reader, configuration string, want func(StorePath) bool) iter.Seq2[PathFiles, error] {
	return func(yield func(PathFiles, error) bool) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(listingWindow), zstd.WithDecoderMaxMemory(MaxListingSize))
		if err != nil {
			yield(PathFiles{}, fmt.Errorf("read listing: %w", err))
			return
		}
		defer z.Close()
		for p, err := range readListing(z, configuration, want) {
			if !yield(p, err) {
				return
			}
		}
	}
}

// readListing is ReadListing for decompressed bytes.
func readListing(r io.Reader, configuration string, want func(StorePath) bool) iter.Seq2[PathFiles, error] {
	return func(yield func(PathFiles, error) bool) {
		lines := &listingLines{r: bufio.NewReaderSize(r, 64<<10), left: MaxListingSize}
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

// pathPrefix is the beginning of every line after the first; the path is known without
// decoding the files.
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
	p, err := l.files(path, begin)
	return p, err == nil, err
}

// until returns the bytes up to and including the first c after skip bytes, at most limit
// of them.
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

// files reads the rest of the current line, of which begin was read, file by file: only
// the result is kept.
func (l *listingLines) files(path StorePath, begin []byte) (PathFiles, error) {
	line := &lineReader{l: l, rest: begin, left: maxListedFile}
	p, err := decodePath(path, line)
	switch {
	case line.err != nil && !errors.Is(line.err, io.EOF):
		return PathFiles{}, noEOF(line.err) // what the decoder made of it says less
	case err != nil:
		return PathFiles{}, fmt.Errorf("files of %s: %w", path, err)
	}
	return p, nil
}

func decodePath(path StorePath, line *lineReader) (PathFiles, error) {
	p := PathFiles{Path: path}
	d := jsontext.NewDecoder(line)
	if err := expect(d, '{', "path", string(path), "narHash"); err != nil {
		return p, err
	}
	if err := json.UnmarshalDecode(d, &p.NarHash); err != nil {
		return p, errors.New(jsonError(err))
	}
	if p.NarHash.IsZero() {
		return p, errors.New("no narHash")
	}
	if err := expect(d, "files", '['); err != nil {
		return p, err
	}
	var held heldFiles
	for i := 0; d.PeekKind() != ']'; i++ {
		line.left = maxListedFile
		var f listingFile
		if err := json.UnmarshalDecode(d, &f, json.RejectUnknownMembers(true)); err != nil {
			return p, errors.New(jsonError(err))
		}
		e, err := decodeFile(f)
		if err == nil {
			err = checkNext(p.Files, e)
		}
		if err == nil {
			err = held.add(e)
		}
		if err != nil {
			return p, fmt.Errorf("file %d: %w", i, err)
		}
		p.Files = append(p.Files, e)
	}
	if len(p.Files) == 0 {
		return p, errors.New("there are no files, not even the root")
	}
	if err := expect(d, ']', '}'); err != nil {
		return p, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return p, errors.New("there is more in the line")
	}
	return p, nil
}

// expect reads tokens: a rune stands for a bracket.
func expect(d *jsontext.Decoder, want ...any) error {
	for _, w := range want {
		token, err := d.ReadToken()
		if err != nil {
			return errors.New(jsonError(err))
		}
		switch w := w.(type) {
		case rune:
			if token.Kind() != jsontext.Kind(w) {
				return fmt.Errorf("want %q", w)
			}
		case string:
			if token.Kind() != '"' || token.String() != w {
				return fmt.Errorf("want %q", w)
			}
		}
	}
	return nil
}

// checkNext reports an error if e may not follow files in the listing of one path.
func checkNext(files []nar.Entry, e nar.Entry) error {
	if (len(files) == 0) != (e.Path == "") {
		return errors.New("the first file, and it alone, is the root")
	}
	if e.Path == "" {
		return nil
	}
	for part := range strings.SplitSeq(e.Path, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return fmt.Errorf("name %q is not a relative path", clip(e.Path))
		}
	}
	if !inOrder(files[len(files)-1].Path, e.Path) {
		return fmt.Errorf("name %q is doubled or out of order", clip(e.Path))
	}
	return nil
}

// inOrder reports whether name follows last in a NAR, which sorts by the bytes of each
// component.
func inOrder(last, name string) bool {
	for {
		a, restA, moreA := strings.Cut(last, "/")
		b, restB, moreB := strings.Cut(name, "/")
		switch {
		case a != b:
			return a < b
		case !moreA || !moreB:
			return moreB && !moreA
		}
		last, name = restA, restB
	}
}

// lineReader reads one line of a listing and requires its end.
type lineReader struct {
	l    *listingLines
	rest []byte // read from l and not yet given out
	left int    // how much may still be given out; whoever reads adds to it
	err  error
	done bool // rest is the last of the line
}

func (r *lineReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(r.rest) == 0 {
		if r.err = r.fill(); r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p[:min(len(p), r.left)], r.rest)
	r.rest, r.left = r.rest[n:], r.left-n
	if n == 0 && len(p) > 0 {
		r.err = fmt.Errorf("a file takes more than %d bytes", maxListedFile)
	}
	return n, r.err
}

func (r *lineReader) fill() error {
	if r.done {
		return io.EOF
	}
	part, err := r.l.r.ReadSlice('\n')
	r.l.left -= int64(len(part))
	if bound := r.l.bound(); bound != nil {
		return bound
	}
	r.done = err == nil
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return noEOF(err)
	}
	r.rest = part
	return nil
}

func decodeFile(f listingFile) (nar.Entry, error) {
	name, err := decodeBytes(f.Name, f.NameBase64)
	if err != nil {
		return nar.Entry{}, fmt.Errorf("name: %w", err)
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
			return "", errors.New("base64 is malformed, or encodes valid UTF-8")
		}
		return string(b), nil
	}
	return "", errors.New("want it once, as text or as base64")
}

// noEOF turns io.EOF into an error, for places where a listing may not end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
