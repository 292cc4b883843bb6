package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

// bufferSize is how much is read ahead, in bytes; an ISO image is recognized by as much.
const bufferSize = 64 << 10

// A File is an image that can be read by offset, such as an *os.File.
type File interface {
	io.ReaderAt
}

// Options configures a walk.
type Options struct {
	// Limits limits the walk; the zero value means DefaultLimits.
	Limits Limits
	// TempDir is the directory for nested images; "" means os.TempDir.
	TempDir string
}

// Walk walks the image of size bytes in f, which is called name, and the images nested in
// it. It returns the format; an Opaque image has no members.
func Walk(ctx context.Context, f File, size int64, name string, opts Options, visit Visit) (format Format, err error) {
	limits := DefaultLimits()
	if opts.Limits != (Limits{}) {
		limits = opts.Limits
		if limits.Held == 0 {
			limits.Held = DefaultLimits().Held
		}
	}
	w := &walker{ctx: ctx, visit: visit, left: limits, limits: limits, tempDir: opts.TempDir}
	defer w.close()
	// The readers check every number before they use it. If one was forgotten, the image
	// is unreadable, and the program goes on.
	defer func() {
		if p := recover(); p != nil {
			err = malformed("reading it failed: %v", p)
		}
	}()
	in := &source{at: f, size: size}
	return w.walk(in, path.Base(name), nil, 0)
}

// source is an image's bytes: from a file or, if r is set, from a stream.
type source struct {
	at   io.ReaderAt
	size int64
	r    *bufio.Reader
	read *countReader // what r reads from
}

// pos returns how many bytes of the stream were consumed.
func (s *source) pos() int64 { return s.read.n - int64(s.r.Buffered()) }

func (s *source) stream(ctx context.Context) *bufio.Reader {
	if s.r == nil {
		s.read = &countReader{r: &contextReader{ctx, io.NewSectionReader(s.at, 0, s.size)}}
		s.r = bufio.NewReaderSize(s.read, bufferSize)
	}
	return s.r
}

type walker struct {
	ctx          context.Context
	visit        Visit
	left, limits Limits
	tempDir      string
	temp         []*os.File
	expanding    int // decompressors that are open
}

// hold counts n bytes of memory towards the limit; drop gives them back.
func (w *walker) hold(n int64) error {
	if w.left.Held -= n; w.left.Held < 0 {
		return tooLarge("its names and directories take more than %d bytes of memory", w.limits.Held)
	}
	return nil
}

func (w *walker) drop(n int64) { w.left.Held += n }

func (w *walker) close() {
	for _, f := range w.temp {
		f.Close()
	}
}

// walk detects the format of s and walks it. A compressed initrd is recognized by its
// name; its parts are decompressed one by one.
func (w *walker) walk(s *source, name string, inside []string, depth int) (Format, error) {
	if depth > maxNested {
		return Opaque, tooLarge("more than %d images within each other", maxNested)
	}
	r := s.stream(w.ctx)
	head, err := r.Peek(isoHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return Opaque, err
	}
	c := compressionOf(head)
	switch {
	case isSquashfs(head):
		f, size, err := w.seekable(s)
		if err != nil {
			return Squashfs, err
		}
		return Squashfs, w.walkSquashfs(f, size, inside)
	case isISO(head):
		f, size, err := w.seekable(s)
		if err != nil {
			return ISO, err
		}
		return ISO, w.walkISO(f, size, inside)
	case isTar(head):
		return Tar, w.walkTar(r, inside)
	case isCpio(head) || c != plain && isInitrdName(name):
		return Initrd, w.walkInitrd(r, s.pos, inside)
	case c != plain:
		z, err := w.decompress(r, c, false)
		if err != nil {
			return Opaque, err
		}
		defer z.Close()
		inner := &source{size: -1, read: &countReader{r: w.metered(z)}}
		inner.r = bufio.NewReaderSize(inner.read, bufferSize)
		return w.walk(inner, strings.TrimSuffix(name, path.Ext(name)), inside, depth+1)
	}
	return Opaque, nil
}

func isInitrdName(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "initrd") || strings.Contains(name, "initramfs") || strings.Contains(name, "cpio")
}

// isImage reports whether a member is an image to walk.
func isImage(m Member, head []byte) bool {
	switch {
	case m.In == Squashfs: // a store path is compared as it is
		return false
	case isSquashfs(head), isCpio(head), isISO(head):
		return true
	}
	return compressionOf(head) != plain && isInitrdName(path.Base(m.Path))
}

// members visits the names of one file, whose contents are the next size bytes of r. An
// image is walked under the last name.
func (w *walker) members(names []Member, r io.Reader, size int64) error {
	last := len(names) - 1
	var others []io.WriteCloser
	for _, m := range names[:last] {
		out, err := w.begin(m)
		if err != nil {
			return err
		}
		if out != nil {
			others = append(others, out)
			r = io.TeeReader(r, &sink{out})
		}
	}
	if err := w.member(names[last], r, size); err != nil {
		return err
	}
	for _, out := range others {
		if err := out.Close(); err != nil {
			return outside(err)
		}
	}
	return nil
}

// member visits one node; its contents are the next size bytes of r.
func (w *walker) member(m Member, r io.Reader, size int64) error {
	out, err := w.begin(m)
	if err != nil {
		return err
	}
	if m.Type != nar.Regular {
		_, err := io.CopyN(io.Discard, r, size)
		return asMalformed(err)
	}
	if out == nil && m.In == Squashfs {
		return nil // its contents are skipped, and the next member is found without them
	}
	if w.left.Bytes -= size; w.left.Bytes < 0 {
		return tooLarge("it has more than %d bytes", w.limits.Bytes)
	}
	return w.contents(m, r, size, out)
}

// begin calls Visit for m and returns the writer for its contents.
func (w *walker) begin(m Member) (io.WriteCloser, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, outside(err)
	}
	if w.left.Members--; w.left.Members < 0 {
		return nil, tooLarge("it has more than %d members", w.limits.Members)
	}
	out, err := w.visit(m)
	return out, outside(err)
}

// contents writes the contents of m to out, and walks m if it is an image.
func (w *walker) contents(m Member, r io.Reader, size int64, out io.WriteCloser) error {
	counted := &countReader{r: &ending{w.ctx, r}}
	var in io.Reader = counted
	if out != nil {
		in = io.TeeReader(counted, &sink{out})
	}
	if m.In != Squashfs && size > 0 && len(m.Inside) < maxNested {
		buffered := bufio.NewReaderSize(in, bufferSize)
		head, err := buffered.Peek(int(min(isoHead, size)))
		if err != nil && !errors.Is(err, io.EOF) {
			return asMalformed(err)
		}
		if isImage(m, head) {
			inside := append(slices.Clone(m.Inside), m.Path)
			if _, err := w.walk(&source{r: buffered, size: size, read: counted}, path.Base(m.Path), inside, len(inside)); err != nil {
				return fmt.Errorf("%s: %w", quote(m.Path), err)
			}
		}
		in = buffered
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return asMalformed(err)
	}
	if counted.n != size {
		return malformed("%s is cut short", quote(m.Path))
	}
	if out == nil {
		return nil
	}
	return outside(out.Close())
}

// sink marks the errors of the caller's writer as such.
type sink struct{ w io.Writer }

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	return n, outside(err)
}

// seekable returns s as a reader by offset.
func (w *walker) seekable(s *source) (io.ReaderAt, int64, error) {
	if s.at != nil {
		return s.at, s.size, nil
	}
	f, err := os.CreateTemp(w.tempDir, ".ec-verify-image-*")
	if err != nil {
		return nil, 0, outside(err)
	}
	w.temp = append(w.temp, f)
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, outside(err)
	}
	n, err := io.Copy(&sink{f}, io.LimitReader(s.r, w.left.Spool+1))
	if err != nil {
		return nil, 0, asMalformed(err)
	}
	if w.left.Spool -= n; w.left.Spool < 0 {
		return nil, 0, tooLarge("the images within it take more than %d bytes", w.limits.Spool)
	}
	return f, n, nil
}

// metered counts the decompressed bytes that are read from r towards the limit.
func (w *walker) metered(r io.Reader) io.Reader { return &meter{w, r} }

type meter struct {
	w *walker
	r io.Reader
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.w.ctx.Err(); err != nil {
		return 0, outside(err)
	}
	n, err := m.r.Read(p)
	if m.w.left.Bytes -= int64(n); m.w.left.Bytes < 0 {
		return 0, tooLarge("it expands to more than %d bytes", m.w.limits.Bytes)
	}
	return n, err
}

type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// contextReader ends with the context, and marks the errors of its reader as those of the
// medium.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, &outsideError{err}
	}
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &outsideError{err}
	}
	return n, err
}

// ending ends with the context: a single file can have many GiB.
type ending struct {
	ctx context.Context
	r   io.Reader
}

func (e *ending) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, outside(err)
	}
	return e.r.Read(p)
}

// readAt fills p from r, or reports that the image ends too early.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return malformed("it ends before byte %d", off+int64(len(p)))
	}
	return &outsideError{err}
}
