package image

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"io"
)

// metaBlock is a decompressed metadata block.
type metaBlock struct {
	data []byte
	next int64 // where the block after it begins
}

// holds reports whether off is within the file system.
func (s *squashfs) holds(off int64) bool { return off >= superSize && off < s.bytesUsed }

func (s *squashfs) readIDs(table int64, count int) error {
	for i := 0; i < count; i += metaSize / 4 {
		data, err := s.tableBlock(table, i/(metaSize/4))
		if err != nil {
			return err
		}
		for j := 0; j < min(count-i, metaSize/4); j++ {
			if len(data) < 4*j+4 {
				return malformed("the table of users in a squashfs is cut short")
			}
			s.ids = append(s.ids, le.Uint32(data[4*j:]))
		}
	}
	return nil
}

// tableBlock returns the n-th block of the table whose list of pointers is at off.
func (s *squashfs) tableBlock(off int64, n int) ([]byte, error) {
	var p [8]byte
	if !s.holds(off) {
		return nil, malformed("a table of a squashfs is outside it")
	}
	if err := readAt(s.r, p[:], off+8*int64(n)); err != nil {
		return nil, err
	}
	b, err := s.block(int64(le.Uint64(p[:])))
	return b.data, err
}

// block returns the metadata block at off.
func (s *squashfs) block(off int64) (metaBlock, error) {
	if b, ok := s.meta[off]; ok {
		return b, nil
	}
	if !s.holds(off) {
		return metaBlock{}, malformed("a metadata block of a squashfs is outside it")
	}
	var head [2]byte
	if err := readAt(s.r, head[:], off); err != nil {
		return metaBlock{}, err
	}
	size := int(le.Uint16(head[:]) & 0x7fff)
	if size == 0 || size > metaSize {
		return metaBlock{}, malformed("a metadata block of %d bytes in a squashfs", size)
	}
	raw := make([]byte, size)
	if err := readAt(s.r, raw, off+2); err != nil {
		return metaBlock{}, err
	}
	b := metaBlock{data: raw, next: off + 2 + int64(size)}
	if le.Uint16(head[:])&0x8000 == 0 {
		var err error
		if b.data, err = s.expand(raw, metaSize); err != nil {
			return metaBlock{}, err
		}
	}
	if len(s.meta) >= maxCached {
		clear(s.meta)
	}
	s.meta[off] = b
	return b, nil
}

// expand decompresses one block of at most limit bytes.
func (s *squashfs) expand(raw []byte, limit int) ([]byte, error) {
	var out []byte
	var err error
	switch s.compressor {
	case 1:
		var z io.ReadCloser
		if z, err = zlib.NewReader(bytes.NewReader(raw)); err == nil {
			out, err = readLimited(z, limit)
		}
	case 4:
		var z io.Reader
		if z, err = newXz(bufio.NewReaderSize(bytes.NewReader(raw), xzHeader), false, maxBlock); err == nil {
			out, err = readLimited(z, limit)
		}
	case 6:
		out, err = s.zstd.DecodeAll(raw, make([]byte, 0, limit))
	}
	if err != nil {
		return nil, asMalformed(err)
	}
	if len(out) > limit {
		return nil, malformed("a block of a squashfs expands to more than %d bytes", limit)
	}
	return out, nil
}

func readLimited(r io.Reader, limit int) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, int64(limit)+1))
}

// metaReader reads metadata blocks as one stream.
type metaReader struct {
	s    *squashfs
	rest []byte
	at   int64 // the block that rest is of
	next int64
}

// block returns the block of the next byte.
func (r *metaReader) block() int64 {
	if len(r.rest) == 0 {
		return r.next
	}
	return r.at
}

func (s *squashfs) metaAt(block int64, offset int) (*metaReader, error) {
	b, err := s.block(block)
	if err != nil {
		return nil, err
	}
	if offset > len(b.data) {
		return nil, malformed("an offset of %d in a metadata block of %d bytes", offset, len(b.data))
	}
	return &metaReader{s, b.data[offset:], block, b.next}, nil
}

func (r *metaReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		b, err := r.s.block(r.next)
		if err != nil {
			return 0, err
		}
		if len(b.data) == 0 {
			return 0, malformed("an empty metadata block")
		}
		r.rest, r.at, r.next = b.data, r.next, b.next
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *metaReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, asMalformed(err)
}
