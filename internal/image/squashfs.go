package image

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"every.channel/ec-verify/pkg/nar"
)

var le = binary.LittleEndian

const (
	squashfsMagic = "hsqs"
	superSize     = 96
	metaSize      = 8192 // bytes of a metadata block, expanded
	maxBlock      = 1 << 20
	noFragment    = 0xffffffff
	noXattr       = 0xffffffff
	noTable       = 0xffffffffffffffff
	maxCached     = 1024 // metadata blocks that are kept: 8 MiB
	maxFragments  = 16   // fragment blocks that are kept: at most 16 MiB
	maxDirSize    = 64 << 20
)

func isSquashfs(head []byte) bool {
	return len(head) >= superSize && string(head[:4]) == squashfsMagic
}

// squashfs is one such file system. Names of fields are those of the kernel's
// documentation.
type squashfs struct {
	w      *walker
	r      io.ReaderAt
	size   int64
	inside []string

	blockSize             uint32
	compressor            uint16
	inodeTable, dirTable  int64
	fragTable, bytesUsed  int64
	fragments, inodeCount uint32
	ids                   []uint32

	zstd   *zstd.Decoder
	meta   map[int64]metaBlock
	pieces map[uint32][]byte // fragment blocks by index
	seen   map[uint64]bool   // directories by their inode's place
	places map[uint32]uint64 // of inodes, by their numbers
}

type metaBlock struct {
	data []byte
	next int64 // where the block after it begins
}

func (w *walker) walkSquashfs(r io.ReaderAt, size int64, inside []string) error {
	s := &squashfs{
		w: w, r: r, size: size, inside: inside,
		meta: make(map[int64]metaBlock), pieces: make(map[uint32][]byte), seen: make(map[uint64]bool),
		places: make(map[uint32]uint64),
	}
	root, err := s.open()
	if s.zstd != nil {
		defer s.zstd.Close()
	}
	if err != nil {
		return err
	}
	node, err := s.inode(root)
	if err != nil {
		return err
	}
	if node.m.Type != nar.Directory {
		return malformed("the root of a squashfs is no directory")
	}
	return s.walk(node, "", root, 0)
}

func (s *squashfs) open() (root uint64, err error) {
	var b [superSize]byte
	if err := readAt(s.r, b[:], 0); err != nil {
		return 0, err
	}
	s.inodeCount = le.Uint32(b[4:])
	s.blockSize = le.Uint32(b[12:])
	s.fragments = le.Uint32(b[16:])
	s.compressor = le.Uint16(b[20:])
	idCount := le.Uint16(b[26:])
	if major, minor := le.Uint16(b[28:]), le.Uint16(b[30:]); major != 4 || minor != 0 {
		return 0, unsupported("squashfs %d.%d", major, minor)
	}
	if s.blockSize < 4096 || s.blockSize > maxBlock || s.blockSize&(s.blockSize-1) != 0 {
		return 0, malformed("a squashfs with blocks of %d bytes", s.blockSize)
	}
	s.bytesUsed = int64(le.Uint64(b[40:]))
	if s.bytesUsed < superSize || s.bytesUsed > s.size {
		return 0, malformed("a squashfs of %d bytes in %d", s.bytesUsed, s.size)
	}
	s.inodeTable, s.dirTable, s.fragTable = int64(le.Uint64(b[64:])), int64(le.Uint64(b[72:])), int64(le.Uint64(b[80:]))
	if !s.holds(s.inodeTable) || !s.holds(s.dirTable) || s.fragments > 0 && !s.holds(s.fragTable) {
		return 0, malformed("a table of a squashfs lies outside it")
	}
	switch s.compressor {
	case 1, 4:
	case 6:
		if s.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
			return 0, err
		}
	default:
		return 0, unsupported("squashfs compressed by method %d (gzip, xz and zstd are read)", s.compressor)
	}
	return le.Uint64(b[32:]), s.readIDs(int64(le.Uint64(b[48:])), int(idCount))
}

// holds reports whether off lies in the file system.
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

// tableBlock returns the n-th block of a table that is found by a list of
// pointers at off.
func (s *squashfs) tableBlock(off int64, n int) ([]byte, error) {
	var p [8]byte
	if !s.holds(off) {
		return nil, malformed("a table of a squashfs lies outside it")
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
		return metaBlock{}, malformed("a metadata block of a squashfs lies outside it")
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
		var z *xz.Reader
		if z, err = xz.NewReader(bytes.NewReader(raw)); err == nil {
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

// metaReader reads the stream that metadata blocks are.
type metaReader struct {
	s    *squashfs
	rest []byte
	at   int64 // the block that rest is of
	next int64
}

// block returns which one the next byte is in.
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

// node is one inode.
type node struct {
	m Member
	// of a directory
	dirBlock  uint32
	dirOffset uint16
	dirSize   uint32
	indices   uint16
	index     *metaReader // its index follows
	// of a file
	start    int64
	fragment uint32
	fragOff  uint32
	blocks   *metaReader // its list of block sizes follows
}

// inode reads the one at ref: the offset of its block, and that in the block.
func (s *squashfs) inode(ref uint64) (*node, error) {
	block := s.inodeTable + int64(ref>>16&0xffffffff)
	r, err := s.metaAt(block, int(ref&0xffff))
	if err != nil {
		return nil, err
	}
	h, err := r.take(16)
	if err != nil {
		return nil, err
	}
	n := &node{m: Member{Inside: s.inside, In: Squashfs, Mode: uint32(le.Uint16(h[2:])) & 0o7777, MTime: int64(le.Uint32(h[8:]))}}
	uid, gid := int(le.Uint16(h[4:])), int(le.Uint16(h[6:]))
	if uid >= len(s.ids) || gid >= len(s.ids) {
		return nil, malformed("a file of a squashfs has an owner that is not in its table")
	}
	n.m.UID, n.m.GID = s.ids[uid], s.ids[gid]
	switch kind := le.Uint16(h); kind {
	case 1, 8:
		return n, n.readDir(r, kind == 8)
	case 2, 9:
		return n, n.readFile(r, kind == 9)
	case 3, 10:
		return n, n.readLink(r, kind == 10)
	case 4, 5, 6, 7, 11, 12, 13, 14: // devices, FIFOs, sockets
		return n, nil
	default:
		return nil, malformed("an inode of type %d in a squashfs", kind)
	}
}

func (n *node) readDir(r *metaReader, extended bool) error {
	n.m.Type = nar.Directory
	if !extended {
		b, err := r.take(16)
		if err != nil {
			return err
		}
		n.dirBlock, n.dirSize, n.dirOffset = le.Uint32(b), uint32(le.Uint16(b[8:])), le.Uint16(b[10:])
		return nil
	}
	b, err := r.take(24)
	if err != nil {
		return err
	}
	n.dirSize, n.dirBlock, n.dirOffset = le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint16(b[18:])
	n.indices, n.index = le.Uint16(b[16:]), r
	n.m.Xattrs = le.Uint32(b[20:]) != noXattr
	return nil
}

func (n *node) readFile(r *metaReader, extended bool) error {
	n.m.Type = nar.Regular
	if !extended {
		b, err := r.take(16)
		if err != nil {
			return err
		}
		n.start, n.fragment, n.fragOff, n.m.Size = int64(le.Uint32(b)), le.Uint32(b[4:]), le.Uint32(b[8:]), int64(le.Uint32(b[12:]))
		n.blocks = r
		return nil
	}
	b, err := r.take(40)
	if err != nil {
		return err
	}
	n.start, n.m.Size = int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	n.fragment, n.fragOff = le.Uint32(b[28:]), le.Uint32(b[32:])
	n.m.Xattrs = le.Uint32(b[36:]) != noXattr
	n.blocks = r
	if n.start < 0 || n.m.Size < 0 {
		return malformed("a file of a squashfs has %d bytes at %d", n.m.Size, n.start)
	}
	return nil
}

func (n *node) readLink(r *metaReader, extended bool) error {
	n.m.Type = nar.Symlink
	b, err := r.take(8)
	if err != nil {
		return err
	}
	size := le.Uint32(b[4:])
	if size > maxTarget {
		return malformed("the target of a link has %d bytes", size)
	}
	target, err := r.take(int(size))
	if err != nil {
		return err
	}
	n.m.Target = string(target)
	if extended {
		if b, err = r.take(4); err != nil {
			return err
		}
		n.m.Xattrs = le.Uint32(b) != noXattr
	}
	return nil
}

type dirEntry struct {
	name   string
	ref    uint64
	number uint32 // of the inode
}

// dirHeader is where in a directory names begin that share a header.
type dirHeader struct {
	block int64 // the metadata block that it is in, from the table on
	first string
}

// list returns the entries of a directory by the bytes of their names.
func (s *squashfs) list(n *node) ([]dirEntry, error) {
	// An empty directory has a size of 3, for "." and "..", which are not there.
	left := int64(n.dirSize) - 3
	if left <= 0 {
		return nil, nil
	}
	if left > maxDirSize {
		return nil, tooLarge("a directory of %d bytes", left)
	}
	r, err := s.metaAt(s.dirTable+int64(n.dirBlock), int(n.dirOffset))
	if err != nil {
		return nil, err
	}
	var out []dirEntry
	headers := make(map[int64]dirHeader)
	whole := left
	for left > 0 {
		at, block := whole-left, r.block()-s.dirTable
		h, err := r.take(12)
		if err != nil {
			return nil, err
		}
		count, start, number := le.Uint32(h)+1, le.Uint32(h[4:]), le.Uint32(h[8:])
		if count > 256 || count == 0 {
			return nil, malformed("a directory lists %d files at once", count)
		}
		left -= 12
		for range count {
			h, err := r.take(8)
			if err != nil {
				return nil, err
			}
			size := int(le.Uint16(h[6:])) + 1
			if size > 256 {
				return nil, malformed("a name of %d bytes", size)
			}
			name, err := r.take(size)
			if err != nil {
				return nil, err
			}
			if left -= 8 + int64(size); left < 0 {
				return nil, malformed("a directory is longer than it says")
			}
			if err := checkName(string(name)); err != nil {
				return nil, err
			}
			if _, ok := headers[at]; !ok {
				headers[at] = dirHeader{block, string(name)}
			}
			out = append(out, dirEntry{string(name), uint64(start)<<16 | uint64(le.Uint16(h)), number + uint32(int16(le.Uint16(h[2:])))})
			if int64(len(out)) > s.w.left.Members {
				return nil, tooLarge("it has more than %d members", s.w.limits.Members)
			}
		}
	}
	for i := 1; i < len(out); i++ {
		if out[i].name == out[i-1].name {
			return nil, malformed("%s is twice in one directory", quote(out[i].name))
		}
		if out[i].name < out[i-1].name { // Linux would list it, and not find it
			return nil, malformed("%s is out of order in its directory", quote(out[i].name))
		}
	}
	return out, n.checkIndex(headers)
}

// checkIndex holds the index of a directory to its listing: Linux looks names
// up from where the index says, and could be led to another list of names.
func (n *node) checkIndex(headers map[int64]dirHeader) error {
	for range n.indices {
		b, err := n.index.take(12)
		if err != nil {
			return err
		}
		size := int64(le.Uint32(b[8:])) + 1
		if size > 256 {
			return malformed("a name of %d bytes in the index of a directory", size)
		}
		name, err := n.index.take(int(size))
		if err != nil {
			return err
		}
		h, ok := headers[int64(le.Uint32(b))]
		if !ok || h.block != int64(le.Uint32(b[4:])) || h.first != string(name) {
			return malformed("the index of a directory does not agree with its list")
		}
	}
	return nil
}

// once holds an inode's number to one place: Linux keeps inodes by their
// numbers, and would take the one that it met first for the other.
func (s *squashfs) once(e dirEntry) error {
	if at, ok := s.places[e.number]; ok && at != e.ref {
		return malformed("two files of a squashfs have the inode number %d", e.number)
	}
	s.places[e.number] = e.ref
	return nil
}

// walk hands out n, which is found at ref, and what is in it.
func (s *squashfs) walk(n *node, path string, ref uint64, depth int) error {
	n.m.Path = path
	if n.m.Type == nar.Regular {
		return s.w.member(n.m, &fileReader{s: s, n: n, left: n.m.Size}, n.m.Size)
	}
	if err := s.w.member(n.m, strings.NewReader(""), 0); err != nil {
		return err
	}
	if n.m.Type != nar.Directory {
		return nil
	}
	if s.seen[ref] {
		return malformed("a directory is in itself or in two places")
	}
	s.seen[ref] = true
	if depth > maxDepth {
		return tooLarge("a path of more than %d directories", maxDepth)
	}
	entries, err := s.list(n)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.once(e); err != nil {
			return err
		}
		child, err := s.inode(e.ref)
		if err != nil {
			return err
		}
		sub := e.name
		if path != "" {
			sub = path + "/" + e.name
		}
		if len(sub) > maxPath {
			return tooLarge("a path of %d bytes", len(sub))
		}
		if err := s.walk(child, sub, e.ref, depth+1); err != nil {
			return err
		}
	}
	return nil
}

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
			return malformed("a file lies outside its fragment")
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
		return nil, malformed("%d bytes at %d lie outside a squashfs of %d", stored, off, s.bytesUsed)
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

// piece returns the fragment block of that number, which holds the ends of
// several files.
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
