package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// compression is how a stream is compressed.
type compression uint8

const (
	plain compression = iota
	gzipped
	zstandard
	xzed
)

var (
	magicGzip = []byte{0x1f, 0x8b}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicXz   = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// compressionOf detects the compression from the first bytes.
func compressionOf(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, magicGzip):
		return gzipped
	case bytes.HasPrefix(head, magicZstd):
		return zstandard
	case bytes.HasPrefix(head, magicXz):
		return xzed
	}
	return plain
}

// Decompress decompresses r, which is gzip, zstd or xz; anything else is
// [ErrUnsupported]. The caller must limit how much it reads.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReader(r)
	head, err := buffered.Peek(len(magicXz))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c := compressionOf(head)
	if c == plain {
		return nil, ErrUnsupported
	}
	return decompress(buffered, c, false, maxWindow)
}

// isSkippable reports whether head begins a zstd frame without data.
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// decompress decompresses the first compressed part of r, whose compression is c. If one
// is set, it ends there and leaves r at what follows; otherwise all parts are one stream.
// Until it is closed, a nested one may use half as much memory.
func (w *walker) decompress(r *bufio.Reader, c compression, one bool) (io.ReadCloser, error) {
	z, err := decompress(r, c, one, maxWindow>>w.expanding)
	if err != nil {
		return nil, err
	}
	w.expanding++
	return &checked{r: z, close: func() error { w.expanding--; return z.Close() }}, nil
}

func decompress(r *bufio.Reader, c compression, one bool, window int64) (io.ReadCloser, error) {
	switch c {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, asMalformed(err)
		}
		z.Multistream(!one)
		return z, nil
	case zstandard:
		var in io.Reader = r
		if one {
			in = newZstdFrame(r)
		}
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
		if err != nil {
			return nil, asMalformed(err)
		}
		return z.IOReadCloser(), nil
	case xzed:
		z, err := newXz(r, one, window)
		if err != nil {
			return nil, asMalformed(err)
		}
		return io.NopCloser(z), nil
	}
	return io.NopCloser(r), nil
}

// checked turns errors of decompressors into those of this package.
type checked struct {
	r     io.Reader
	close func() error
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = asMalformed(err)
	}
	return n, err
}

func (c *checked) Close() error { return c.close() }

// asMalformed wraps an error of a decompressor or archive reader, unless the bytes could
// not be read or the error is one of this package.
func asMalformed(err error) error {
	switch {
	case err == nil, errors.As(err, new(*outsideError)), errors.Is(err, ErrMalformed), errors.Is(err, ErrTooLarge), errors.Is(err, ErrUnsupported):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("it is cut short")
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// outsideError is an error of the medium, the caller or this machine, as opposed to one
// in the image's bytes.
type outsideError struct{ err error }

func (e *outsideError) Error() string { return e.err.Error() }
func (e *outsideError) Unwrap() error { return e.err }

func outside(err error) error {
	if err == nil {
		return nil
	}
	return &outsideError{err}
}

// zstdFrame reads exactly one zstd frame, and skippable frames before it. The decoder by
// itself would read ahead as far as it can. See RFC 8878, section 3.1.
type zstdFrame struct {
	framed
	sum bool // 4 bytes behind the last block
}

func newZstdFrame(r *bufio.Reader) *zstdFrame {
	f := &zstdFrame{framed: framed{r: r}}
	f.next = f.head
	return f
}

func (f *zstdFrame) head() error {
	head, err := f.r.Peek(zstd.HeaderMaxSize)
	if len(head) < 4 {
		return noEOF(err)
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return asMalformed(err)
	}
	if h.Skippable {
		f.left = int64(h.HeaderSize) + int64(h.SkippableSize)
		return nil
	}
	f.left, f.sum, f.next = int64(h.HeaderSize), h.HasCheckSum, f.block
	return nil
}

func (f *zstdFrame) block() error {
	head, err := f.r.Peek(3)
	if len(head) < 3 {
		return noEOF(err)
	}
	block := binary.LittleEndian.Uint32(append(bytes.Clone(head), 0))
	size := int64(block >> 3)
	switch block >> 1 & 3 {
	case 1: // one byte, repeated
		size = 1
	case 3:
		return malformed("a reserved kind of block")
	}
	f.left, f.ended = 3+size, block&1 == 1
	if f.ended && f.sum {
		f.left += 4
	}
	return nil
}

func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it is cut short")
	}
	return err
}
