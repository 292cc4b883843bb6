package image

import (
	"io"
)

// fileReader reads the contents of one file block by block.
type fileReader struct {
	s    *squashfs
	n    *node
	left int64 // bytes that are still to come
	pos  int64 // where the next block is read
	used int64 // blocks that were read
	rest []byte
	hole int64 // zeros before anything else
}

var zeroes [4096]byte

func (f *fileReader) Read(p []byte) (int, error) {
	for {
		switch {
		case f.hole > 0:
			n := copy(p[:min(int64(len(p)), f.hole)], zeroes[:])
			f.hole, f.left = f.hole-int64(n), f.left-int64(n)
			return n, nil
		case len(f.rest) > 0:
			n := copy(p, f.rest)
			f.rest, f.left = f.rest[n:], f.left-int64(n)
			return n, nil
		case f.left == 0:
			return 0, io.EOF
		}
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
}

func (f *fileReader) fill() error {
	s, size := f.s, int64(f.s.blockSize)
	want := min(f.left, size)
	if f.n.fragment != noFragment && f.left < size {
		piece, err := s.piece(f.n.fragment)
		if err != nil {
			return err
		}
		off := int64(f.n.fragOff)
		if off+want > int64(len(piece)) {
			return malformed("a file is outside its fragment")
		}
		f.rest = piece[off : off+want]
		return nil
	}
	if f.used == 0 {
		f.pos = f.n.start
	}
	f.used++
	b, err := f.n.blocks.take(4)
	if err != nil {
		return err
	}
	word := le.Uint32(b)
	stored := int64(word & 0xffffff)
	if stored == 0 {
		f.hole = want
		return nil
	}
	data, err := s.data(f.pos, stored, word&(1<<24) != 0)
	if err != nil {
		return err
	}
	f.pos += stored
	if int64(len(data)) != want {
		return malformed("a block of a file has %d bytes, not %d", len(data), want)
	}
	f.rest = data
	return nil
}

// data returns one block of contents.
func (s *squashfs) data(off, stored int64, isPlain bool) ([]byte, error) {
	if off < superSize || stored > maxBlock || off > s.bytesUsed-stored {
		return nil, malformed("%d bytes at %d are outside a squashfs of %d", stored, off, s.bytesUsed)
	}
	raw := make([]byte, stored)
	if err := readAt(s.r, raw, off); err != nil {
		return nil, err
	}
	if isPlain {
		return raw, nil
	}
	return s.expand(raw, int(s.blockSize))
}

// piece returns fragment block n, which contains the ends of several files.
func (s *squashfs) piece(n uint32) ([]byte, error) {
	if p, ok := s.pieces[n]; ok {
		return p, nil
	}
	if n >= s.fragments {
		return nil, malformed("fragment %d of %d", n, s.fragments)
	}
	const perBlock = metaSize / 16
	table, err := s.tableBlock(s.fragTable, int(n/perBlock))
	if err != nil {
		return nil, err
	}
	at := int(n%perBlock) * 16
	if len(table) < at+16 {
		return nil, malformed("the table of fragments is cut short")
	}
	word := le.Uint32(table[at+8:])
	p, err := s.data(int64(le.Uint64(table[at:])), int64(word&0xffffff), word&(1<<24) != 0)
	if err != nil {
		return nil, err
	}
	if len(s.pieces) >= maxFragments {
		clear(s.pieces)
	}
	s.pieces[n] = p
	return p, nil
}
